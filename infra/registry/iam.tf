# The function's role: each statement names the code that needs it, and has only actions that this code calls.

locals {
  # The partitions that requests write, apart from audit events and from grants.
  written_rows = ["deprecated *", "downloads *", "keyring", "module *", "modules", "outbox *", "pin *", "proof *", "provider *", "providers", "reach", "refused *", "search *", "sending *", "service token uses", "signing keys *", "upload *", "uploads *", "usage *", "waiting *"]

  log_groups_arn = "arn:${local.partition}:logs:${local.region}:${local.account}:log-group"
  log_group_arn  = "${local.log_groups_arn}:/aws/lambda/${var.name}"
  function_arn   = "arn:${local.partition}:lambda:${local.region}:${local.account}:function:${var.name}"
  source_keys    = distinct(compact(var.source_buckets[*].kms_key_arn))
  network_arn    = "arn:${local.partition}:ec2:${local.region}:${local.account}"
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

  lifecycle {
    precondition {
      condition     = !contains(var.source_buckets[*].bucket, aws_s3_bucket.modules.bucket)
      error_message = "source_buckets must not have the bucket of the registry itself, ${aws_s3_bucket.modules.bucket}: it has the archives of all namespaces."
    }
  }
}

data "aws_iam_policy_document" "store" {
  # store/src/records/dynamodb/table.rs: a row, several rows at once, and a partition.
  statement {
    sid       = "TableRead"
    actions   = ["dynamodb:BatchGetItem", "dynamodb:GetItem", "dynamodb:Query"]
    resources = [aws_dynamodb_table.registry.arn]
  }

  # store/src/records/dynamodb/table.rs `transact`: IAM checks each write of a transaction. The rows of grants, revocations, limits and
  # the host are not among these. So without `delegated_grants`, an attacker in the function cannot write a grant that survives. One
  # statement covers all puts of a transaction, and one all updates, so a transaction also works if IAM checks it as a whole.
  #
  # store/src/records/dynamodb/audit.rs: a change and its audit event are one transaction. The broker adds events, and never updates or
  # deletes one. It updates the head of a chain, which says where the chain ends. A put can replace a row, because IAM cannot demand the
  # condition of the broker: an attacker in the function can put over an event, and only the log or a head elsewhere shows it.
  statement {
    sid       = "TablePut"
    actions   = ["dynamodb:PutItem"]
    resources = [aws_dynamodb_table.registry.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = concat(local.written_rows, ["audit events *"])
    }
  }

  statement {
    sid       = "TableUpdate"
    actions   = ["dynamodb:UpdateItem"]
    resources = [aws_dynamodb_table.registry.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = concat(local.written_rows, ["audit heads"])
    }
  }

  # The chain of operators has the name `*`, which the patterns above cover, too. Only `stile-admin` adds events to it. The operator is
  # `StringEquals`, so the value is the name of one partition and no pattern.
  statement {
    sid       = "OperatorsEventsDeny"
    effect    = "Deny"
    actions   = ["dynamodb:PutItem"]
    resources = [aws_dynamodb_table.registry.arn]

    condition {
      test     = "ForAnyValue:StringEquals"
      variable = "dynamodb:LeadingKeys"
      values   = ["audit events *"]
    }
  }

  # store/src/records/dynamodb/grants.rs: with `delegated_grants`, the broker writes grants that holders of `create_grant` and
  # `delete_grant` change through the API, and store/src/records/dynamodb/service_tokens.rs: service tokens that they issue and revoke. It
  # writes no revocation, no limit and no host.
  dynamic "statement" {
    for_each = var.delegated_grants ? [1] : []

    content {
      sid       = "GrantsWrite"
      actions   = ["dynamodb:PutItem"]
      resources = [aws_dynamodb_table.registry.arn]

      condition {
        test     = "ForAllValues:StringLike"
        variable = "dynamodb:LeadingKeys"
        values   = ["audit events *", "grants", "namespace *", "principal *", "service tokens"]
      }
    }
  }

  dynamic "statement" {
    for_each = var.delegated_grants ? [1] : []

    content {
      sid       = "GrantsDelete"
      actions   = ["dynamodb:DeleteItem"]
      resources = [aws_dynamodb_table.registry.arn]

      condition {
        test     = "ForAllValues:StringLike"
        variable = "dynamodb:LeadingKeys"
        values   = ["folded *", "grants", "namespace *", "service tokens"]
      }
    }
  }

  # A change has the condition that the rights of its bearer stay, and if it takes `create_grant` away, that another grant of it stays. A
  # grant to a trust has the condition that the trust stays. The broker writes no trust.
  dynamic "statement" {
    for_each = var.delegated_grants ? [1] : []

    content {
      sid       = "GrantsKeep"
      actions   = ["dynamodb:ConditionCheckItem"]
      resources = [aws_dynamodb_table.registry.arn]

      condition {
        test     = "ForAllValues:StringLike"
        variable = "dynamodb:LeadingKeys"
        values   = ["principal *", "revocations", "trusts"]
      }
    }
  }

  # store/src/records/dynamodb/providers.rs: a version of a provider has the condition that the signing keys are as they were read, and a
  # file that waits for one, that nobody deletes its object.
  statement {
    sid       = "ProvidersKeep"
    actions   = ["dynamodb:ConditionCheckItem"]
    resources = [aws_dynamodb_table.registry.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["provider *", "signing keys *"]
    }
  }

  # store/src/blobs/s3/uploads.rs: this role signs the URLs of uploads, fetches uploaded objects, and deletes object and row.
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
      values   = ["upload *", "uploads *"]
    }
  }

  # store/src/records/dynamodb/outbox.rs: the broker deletes an event that its receiver has got. It writes no row of a webhook, so an
  # attacker in the function cannot add a receiver.
  statement {
    sid       = "OutboxSent"
    actions   = ["dynamodb:DeleteItem"]
    resources = [aws_dynamodb_table.registry.arn]

    condition {
      test     = "ForAllValues:StringLike"
      variable = "dynamodb:LeadingKeys"
      values   = ["outbox *"]
    }
  }

  # store/src/event_bus.rs: the broker looks whether this bus is there, and sends events to it, and to no other.
  dynamic "statement" {
    for_each = aws_cloudwatch_event_bus.registry[*].arn

    content {
      sid       = "EventsSend"
      actions   = ["events:DescribeEventBus", "events:PutEvents"]
      resources = [statement.value]
    }
  }

  # store/src/keys/kms: the broker decrypts the keyring once for each revision, and encrypts it once for each rotation.
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

  # store/src/keys/audit_key/kms.rs: the broker signs the heads of the audit chains, with this key only.
  dynamic "statement" {
    for_each = aws_kms_key.audit[*].arn

    content {
      sid       = "AuditHeadsSign"
      actions   = ["kms:GetPublicKey", "kms:Sign"]
      resources = [statement.value]
    }
  }

  # store/src/records/dynamodb/signed_heads.rs: the broker keeps what it signed. It may not delete an audit event. An attacker in
  # the function can still put one again and sign it: heads from before, in the log or kept elsewhere, show that.
  dynamic "statement" {
    for_each = var.audit_signing ? [1] : []

    content {
      sid       = "AuditHeadsKeep"
      actions   = ["dynamodb:PutItem"]
      resources = [aws_dynamodb_table.registry.arn]

      condition {
        test     = "ForAllValues:StringLike"
        variable = "dynamodb:LeadingKeys"
        values   = ["audit signed heads"]
      }
    }
  }

  # store/src/blobs/s3/archives.rs: HeadBucket, for which S3 checks this action.
  statement {
    sid       = "ArchivesReach"
    actions   = ["s3:ListBucket"]
    resources = [aws_s3_bucket.modules.arn]
  }

  # store/src/blobs/s3/archives.rs: the broker puts an archive, and reads it back if one of that name exists. It never deletes one.
  statement {
    sid       = "ArchivesKeep"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.modules.arn}/modules/*", "${aws_s3_bucket.modules.arn}/providers/*"]
  }

  # store/src/blobs/s3/metadata.rs: the broker puts the metadata of an archive before the archive, and reads it for its API.
  statement {
    sid       = "MetadataKeep"
    actions   = ["s3:GetObject", "s3:PutObject"]
    resources = ["${aws_s3_bucket.modules.arn}/metadata/*"]
  }

  # store/src/blobs/s3/links.rs: this role signs the URLs of archives, each for one version of one archive, and
  # those of the signed lists of providers.
  statement {
    sid       = "LocationSign"
    actions   = ["s3:GetObjectVersion"]
    resources = ["${aws_s3_bucket.modules.arn}/modules/*", "${aws_s3_bucket.modules.arn}/providers/*"]
  }

  # store/src/blobs/source_buckets: the broker reads an object when a version with it is published, compares one without versions at
  # each download, and signs the URLs of downloads. It may not list, so S3 also denies what does not exist.
  dynamic "statement" {
    for_each = length(var.source_buckets) == 0 ? [] : [1]

    content {
      sid     = "SourceObjects"
      actions = ["s3:GetObject", "s3:GetObjectVersion"]
      resources = distinct(flatten([for source in var.source_buckets : [
        for path in source.prefix == "" ? ["*"] : [source.prefix, "${source.prefix}/*"] :
        "arn:${local.partition}:s3:::${source.bucket}/${path}"
      ]]))
    }
  }

  dynamic "statement" {
    for_each = length(local.source_keys) == 0 ? [] : [1]

    content {
      sid       = "SourceObjectsEncryption"
      actions   = ["kms:Decrypt"]
      resources = local.source_keys

      # S3 in the region of each key.
      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values = distinct(flatten([for suffix in ["amazonaws.com", data.aws_partition.current.dns_suffix] : [
          for arn in local.source_keys : "s3.${split(":", arn)[3]}.${suffix}"
        ]]))
      }
    }
  }

  # The data key encrypts the table, so every reader and writer needs the right to use the key through DynamoDB.
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

  # It encrypts archives too: Decrypt to read one, GenerateDataKey to write one.
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
  # Lambda writes what main.rs logs. The log group exists, so the role may not create one.
  statement {
    sid       = "MainLog"
    actions   = ["logs:CreateLogStream", "logs:PutLogEvents"]
    resources = ["${local.log_group_arn}:log-stream:*"]
  }
}

resource "aws_iam_role_policy" "tracing" {
  count = var.tracing_mode == "Active" ? 1 : 0

  name   = "tracing"
  role   = aws_iam_role.function.id
  policy = data.aws_iam_policy_document.tracing[0].json
}

data "aws_iam_policy_document" "tracing" {
  count = var.tracing_mode == "Active" ? 1 : 0

  # Lambda sends its own segments with this role; the broker sends none. X-Ray has no narrower resource for these actions.
  statement {
    sid       = "LambdaTraces"
    actions   = ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    resources = ["*"]
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

  # Lambda creates the function's interfaces with this role. AWS has no narrower resource for the Describe actions.
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

  # Lambda checks that this is allowed on every resource, and otherwise leaves its interfaces behind.
  statement {
    sid       = "LambdaEndsInterfaces"
    actions   = ["ec2:DeleteNetworkInterface"]
    resources = ["${local.network_arn}:*/*"]
  }

  # The function's code may not: it has the same role, and the condition distinguishes the caller.
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
