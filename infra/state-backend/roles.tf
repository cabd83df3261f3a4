# A role for each project: it reads, writes and locks the project's states, and cannot see any other project.

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

  # Clients upload a large state in parts, and after a failed upload they delete the parts.
  statement {
    sid       = "ReadAndWriteOwnStates"
    actions   = ["s3:AbortMultipartUpload", "s3:GetObject", "s3:PutObject"]
    resources = [each.value.objects]
  }

  # Clients empty the state of the default workspace and never delete it, so they do not need the right to delete it.
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

  # A lock is the row `BUCKET/KEY`, and the digest of a state is the row `BUCKET/KEY-md5`, with the same beginning.
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

      # `ForAllValues` by itself is also true for a request without keys, such as a scan.
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
