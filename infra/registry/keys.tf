# Two keys, kept apart: one that only the broker may use, for the keyring, and one that AWS encrypts what is kept with.

locals {
  # To look after a key is neither to use it nor to let others: no Encrypt, Decrypt, GenerateDataKey, ReEncrypt, CreateGrant.
  administration = [
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

  # How AWS KMS names the services in whose name a key is used.
  via_s3       = distinct([for suffix in ["amazonaws.com", data.aws_partition.current.dns_suffix] : "s3.${local.region}.${suffix}"])
  via_dynamodb = distinct([for suffix in ["amazonaws.com", data.aws_partition.current.dns_suffix] : "dynamodb.${local.region}.${suffix}"])

  # What DynamoDB, S3 and CloudWatch ask of a key they encrypt with.
  encryption = [
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
  ]

  # The keyring opens for this purpose and this registry alone: whoever may encrypt without it cannot forge a key.
  keyring_context = {
    "kms:EncryptionContext:purpose"  = "stile-keyring"
    "kms:EncryptionContext:audience" = local.host
  }
}

resource "aws_kms_key" "token" {
  description             = "Stile ${var.name}: the keyring that tokens are sealed with"
  enable_key_rotation     = true
  deletion_window_in_days = var.key_deletion_days
  tags                    = var.tags

  # Until the policy below is there, nobody may use the key: a grant made in that moment would outlive it.
  policy = data.aws_iam_policy_document.administration.json

  lifecycle {
    ignore_changes = [policy]
  }
}

resource "aws_kms_alias" "token" {
  name          = "alias/${var.name}-token"
  target_key_id = aws_kms_key.token.key_id
}

resource "aws_kms_key_policy" "token" {
  key_id = aws_kms_key.token.key_id
  policy = data.aws_iam_policy_document.token_key.json
}

data "aws_iam_policy_document" "administration" {
  # Not kms:*, which would hand cryptography to whoever can write an IAM policy in the account.
  statement {
    sid       = "Administration"
    actions   = local.administration
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }
}

data "aws_iam_policy_document" "token_key" {
  source_policy_documents = [data.aws_iam_policy_document.administration.json]

  statement {
    sid       = "Keyring"
    actions   = ["kms:Decrypt", "kms:Encrypt"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [aws_iam_role.function.arn]
    }

    dynamic "condition" {
      for_each = local.keyring_context

      content {
        test     = "StringEquals"
        variable = condition.key
        values   = [condition.value]
      }
    }
  }
}

resource "aws_kms_key" "data" {
  description             = "Stile ${var.name}: the table, the archives and the log"
  enable_key_rotation     = true
  deletion_window_in_days = var.key_deletion_days
  tags                    = var.tags
}

resource "aws_kms_alias" "data" {
  name          = "alias/${var.name}-data"
  target_key_id = aws_kms_key.data.key_id
}

resource "aws_kms_key_policy" "data" {
  key_id = aws_kms_key.data.key_id
  policy = data.aws_iam_policy_document.data_key.json
}

data "aws_iam_policy_document" "data_key" {
  source_policy_documents = [data.aws_iam_policy_document.administration.json]

  # Whom IAM lets, and only through DynamoDB and S3.
  statement {
    sid       = "TableAndBucket"
    actions   = local.encryption
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = concat(local.via_dynamodb, local.via_s3)
    }
  }

  # DynamoDB alone works by a grant, which it takes for itself; whom IAM lets can make one for nobody else.
  statement {
    sid       = "TableKeepsItsGrant"
    actions   = ["kms:CreateGrant"]
    resources = ["*"]

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

  statement {
    sid       = "Log"
    actions   = local.encryption
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["logs.${local.region}.${data.aws_partition.current.dns_suffix}"]
    }

    condition {
      test     = "ArnEquals"
      variable = "kms:EncryptionContext:aws:logs:arn"
      values   = [local.log_group_arn]
    }
  }
}
