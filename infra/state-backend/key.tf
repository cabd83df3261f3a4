# The key that encrypts states, and who may use it for what.

resource "aws_kms_key" "state" {
  description             = "Terraform states of ${local.name}"
  enable_key_rotation     = true
  deletion_window_in_days = var.key_deletion_days
  policy                  = data.aws_iam_policy_document.key.json
  tags                    = local.tags
}

resource "aws_kms_alias" "state" {
  name          = "alias/${local.name}"
  target_key_id = aws_kms_key.state.key_id
}

data "aws_iam_policy_document" "key" {
  #checkov:skip=CKV_AWS_109:in the policy of a key, the resource * is that key only
  #checkov:skip=CKV_AWS_111:in the policy of a key, the resource * is that key only
  #checkov:skip=CKV_AWS_356:in the policy of a key, the resource * is that key only
  # The account's IAM policies may administer the key and not read with it: with `kms:*` here, everyone with
  # `kms:Decrypt` on `*` could read every state.
  statement {
    sid       = "AdministerAndNoMore"
    resources = ["*"]
    actions = [
      "kms:CancelKeyDeletion",
      "kms:CreateAlias",
      "kms:DeleteAlias",
      "kms:DescribeKey",
      "kms:DisableKey",
      "kms:DisableKeyRotation",
      "kms:EnableKey",
      "kms:EnableKeyRotation",
      "kms:GetKeyPolicy",
      "kms:GetKeyRotationStatus",
      "kms:ListGrants",
      "kms:ListKeyPolicies",
      "kms:ListKeyRotations",
      "kms:ListResourceTags",
      "kms:PutKeyPolicy",
      "kms:RevokeGrant",
      "kms:RotateKeyOnDemand",
      "kms:ScheduleKeyDeletion",
      "kms:TagResource",
      "kms:UntagResource",
      "kms:UpdateAlias",
      "kms:UpdateKeyDescription",
    ]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }

  # Each role only through S3, and only for objects of its own project.
  dynamic "statement" {
    for_each = local.projects

    content {
      sid       = "States${replace(title(replace(statement.key, "/[_-]/", " ")), " ", "")}${substr(sha256(statement.key), 0, 6)}"
      resources = ["*"]
      actions   = ["kms:Decrypt", "kms:GenerateDataKey"]

      principals {
        type        = "AWS"
        identifiers = [aws_iam_role.project[statement.key].arn]
      }

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.via_s3
      }

      condition {
        test     = "StringLike"
        variable = "kms:EncryptionContext:aws:s3:arn"
        values   = [statement.value.objects]
      }
    }
  }

  # DynamoDB calls KMS for every principal that creates or uses the table; the table never contains a state.
  dynamic "statement" {
    for_each = var.lock_table ? [local.name] : []

    content {
      sid       = "LocksThroughDynamoDB"
      resources = ["*"]
      actions = [
        "kms:Decrypt",
        "kms:Encrypt",
        "kms:GenerateDataKey",
        "kms:GenerateDataKeyWithoutPlaintext",
        "kms:ReEncryptFrom",
        "kms:ReEncryptTo",
      ]

      principals {
        type        = "AWS"
        identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
      }

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.via_dynamodb
      }

      condition {
        test     = "StringEquals"
        variable = "kms:EncryptionContext:aws:dynamodb:tableName"
        values   = [statement.value]
      }
    }
  }

  dynamic "statement" {
    for_each = var.lock_table ? [local.name] : []

    content {
      sid       = "LockTableKeepsItsGrant"
      resources = ["*"]
      actions   = ["kms:CreateGrant"]

      principals {
        type        = "AWS"
        identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
      }

      condition {
        test     = "StringEquals"
        variable = "kms:ViaService"
        values   = local.via_dynamodb
      }

      condition {
        test     = "Bool"
        variable = "kms:GrantIsForAWSResource"
        values   = ["true"]
      }
    }
  }
}
