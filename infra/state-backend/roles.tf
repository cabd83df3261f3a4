# A role for each project: it reads and writes the project's states, locks them, and sees nothing of any other project.

resource "aws_iam_role" "project" {
  for_each = local.projects

  name                 = each.value.role
  description          = "Terraform states of ${each.key} in ${local.name}"
  assume_role_policy   = data.aws_iam_policy_document.trust[each.key].json
  permissions_boundary = var.permissions_boundary_arn
  tags                 = merge(local.tags, { StateProject = each.key })
}

data "aws_iam_policy_document" "trust" {
  for_each = local.projects

  statement {
    sid     = "Assume"
    actions = ["sts:AssumeRole"]

    principals {
      type        = "AWS"
      identifiers = each.value.principal_arns
    }

    dynamic "condition" {
      for_each = each.value.external_id == null ? [] : [each.value.external_id]

      content {
        test     = "StringEquals"
        variable = "sts:ExternalId"
        values   = [condition.value]
      }
    }
  }
}

resource "aws_iam_role_policy" "project" {
  for_each = local.projects

  name   = "state"
  role   = aws_iam_role.project[each.key].name
  policy = data.aws_iam_policy_document.project[each.key].json
}

data "aws_iam_policy_document" "project" {
  for_each = local.projects

  statement {
    sid       = "ListOwnWorkspaces"
    actions   = ["s3:ListBucket"]
    resources = [local.bucket_arn]

    condition {
      test     = "StringLike"
      variable = "s3:prefix"
      values   = ["${each.key}/*"]
    }
  }

  # A large state goes up in parts, and a client whose upload failed takes away those that are there already.
  statement {
    sid       = "ReadAndWriteOwnStates"
    actions   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    resources = [each.value.objects]
  }

  # The state of the default workspace is emptied and never deleted, so the right to delete it is not needed.
  statement {
    sid     = "DeleteOwnWorkspacesAndLocks"
    actions = ["s3:DeleteObject"]
    resources = [
      "${local.bucket_arn}/${each.value.workspace_key_prefix}/*",
      "${local.bucket_arn}/${each.key}/*.tflock",
    ]
  }

  statement {
    sid       = "EncryptOwnStates"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey"]
    resources = [aws_kms_key.state.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via_s3
    }

    condition {
      test     = "StringLike"
      variable = "kms:EncryptionContext:aws:s3:arn"
      values   = [each.value.objects]
    }
  }

  # A lock is the row `BUCKET/KEY`, the digest of a state the row `BUCKET/KEY-md5`: both begin alike.
  dynamic "statement" {
    for_each = aws_dynamodb_table.lock

    content {
      sid       = "LockOwnStates"
      actions   = ["dynamodb:DeleteItem", "dynamodb:GetItem", "dynamodb:PutItem"]
      resources = [statement.value.arn]

      condition {
        test     = "ForAllValues:StringLike"
        variable = "dynamodb:LeadingKeys"
        values   = ["${local.bucket}/${each.key}/*"]
      }

      # `ForAllValues` alone holds of a request without keys, such as a scan.
      condition {
        test     = "Null"
        variable = "dynamodb:LeadingKeys"
        values   = ["false"]
      }
    }
  }

  dynamic "statement" {
    for_each = aws_dynamodb_table.lock

    content {
      sid       = "DecryptLocks"
      actions   = ["kms:Decrypt"]
      resources = [aws_kms_key.state.arn]

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.via_dynamodb
      }

      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:aws:dynamodb:tableName"
        values   = [statement.value.name]
      }
    }
  }
}
