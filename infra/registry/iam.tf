# The function's role: each statement is named for the code that needs it, and has no action that this code does not call.

locals {
  log_group_arn = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group:/aws/lambda/${var.name}"
  function_arn  = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}"
  network_arn   = "arn:${local.partition}:ec2:${local.region}:${local.account}"
}

resource "aws_iam_role" "function" {
  name                 = "${var.name}-function"
  description          = "Stile ${var.name}: the function"
  assume_role_policy   = data.aws_iam_policy_document.function_trust.json
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

data "aws_iam_policy_document" "function_trust" {
  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["lambda.amazonaws.com"]
    }
  }
}

resource "aws_iam_role_policy" "store" {
  name   = "store"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.store.json
}

data "aws_iam_policy_document" "store" {
  # store/src/records/dynamodb/table.rs: a row, several rows at once, and a partition.
  statement {
    sid       = "TableRead"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"]
    resources = [aws_dynamodb_table.registry.arn]
  }

  # store/src/records/dynamodb/table.rs `transact`: transactions are allowed by what is in them. The rows of grants, of revocations and of
  # the host are not among these: whoever takes the function over cannot write a grant that outlives it. A mint's
  # transaction is allowed as well if it is judged as a whole, since one statement covers its claim and its pin.
  statement {
    sid       = "TableTransact"
    actions   = ["dynamodb:PutItem", "dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.registry.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["keyring", "module *", "modules", "pin *", "proof *", "reach", "upload *"]
    }
  }

  # store/src/blobs/s3/uploads.rs: addresses are signed as this role, what arrived is fetched, and object and row are cleared away.
  statement {
    sid       = "UploadsSignAndFetch"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.modules.arn}/uploads/*"]
  }

  statement {
    sid       = "UploadsEnd"
    actions   = ["s3:DeleteObjectVersion"]
    resources = ["${aws_s3_bucket.modules.arn}/uploads/*"]
  }

  statement {
    sid       = "UploadsEndRow"
    actions   = ["dynamodb:DeleteItem"]
    resources = [aws_dynamodb_table.registry.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["upload *"]
    }
  }

  # store/src/keys/kms: the keyring is opened once a revision and sealed once a rotation.
  statement {
    sid       = "KmsKeyring"
    actions   = ["kms:Decrypt", "kms:Encrypt"]
    resources = [aws_kms_key.token.arn]

    dynamic "condition" {
      for_each = local.keyring_context

      content {
        test     = "StringEquals"
        variable = condition.key
        values   = [condition.value]
      }
    }
  }

  # store/src/blobs/s3/archives.rs `health_check`: HeadBucket, which S3 allows by this name.
  statement {
    sid       = "ArchivesReach"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.modules.arn]
  }

  # store/src/blobs/s3/archives.rs: an archive is put, and read back where one of that name is there. None is ever deleted.
  statement {
    sid       = "ArchivesKeep"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.modules.arn}/modules/*"]
  }

  # store/src/blobs/s3/links.rs: links are signed as this role, each for one version of one archive.
  statement {
    sid       = "LocationSign"
    actions   = ["s3:GetObjectVersion"]
    resources = ["${aws_s3_bucket.modules.arn}/modules/*"]
  }

  # The table is encrypted under the data key, and whoever reads or writes it must be let use that through it.
  statement {
    sid       = "TableEncryption"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.data.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via_dynamodb
    }
  }

  # So are archives: Decrypt to read one, GenerateDataKey to write one.
  statement {
    sid       = "ArchivesEncryption"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.data.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via_s3
    }
  }
}

resource "aws_iam_role_policy" "log" {
  name   = "log"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.log.json
}

data "aws_iam_policy_document" "log" {
  # Lambda writes what main.rs logs. The group is there, so it may not make one.
  statement {
    sid       = "MainLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.log_group_arn}:log-stream:*"]
  }
}

resource "aws_iam_role_policy" "network" {
  count = var.vpc == null ? 0 : 1

  name   = "network"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.network[0].json
}

data "aws_iam_policy_document" "network" {
  count = var.vpc == null ? 0 : 1

  # Lambda makes the function's interfaces, as this role. AWS knows no narrower resource for what describes.
  statement {
    sid       = "LambdaLooksAtNetwork"
    actions   = ["ec2:DescribeNetworkInterfaces", "ec2:DescribeSubnets"]
    resources = ["*"]
  }

  statement {
    sid = "LambdaMakesInterfaces"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:UnassignPrivateIpAddresses",
    ]
    resources = concat(
      ["${local.network_arn}:network-interface/*", "${local.network_arn}:security-group/${aws_security_group.function[0].id}"],
      [for id in var.vpc.subnet_ids : "${local.network_arn}:subnet/${id}"],
    )
  }

  # Lambda looks whether this is allowed on every resource there is, and otherwise leaves its interfaces behind.
  statement {
    sid       = "LambdaEndsInterfaces"
    actions   = ["ec2:DeleteNetworkInterface"]
    resources = ["${local.network_arn}:*/*"]
  }

  # And its code may not: it is the same role, told apart by who calls.
  statement {
    sid    = "CodeHasNoNetworkRights"
    effect = "Deny"
    actions = [
      "ec2:AssignPrivateIpAddresses",
      "ec2:CreateNetworkInterface",
      "ec2:DeleteNetworkInterface",
      "ec2:DescribeNetworkInterfaces",
      "ec2:DescribeSubnets",
      "ec2:UnassignPrivateIpAddresses",
    ]
    resources = ["*"]

    condition {
      test     = "ArnEquals"
      variable = "lambda:SourceFunctionArn"
      values   = [local.function_arn]
    }
  }
}
