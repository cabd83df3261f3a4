# Three separate keys: one that only the broker may use, for the keyring, one with which AWS encrypts the store, and one that
# signs where the chains of audit events end.

locals {
  # Administration, without use and without grants: no Encrypt, Decrypt, GenerateDataKey, ReEncrypt, CreateGrant.
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

  # The names that AWS KMS gives to the services that use a key.
  via_s3       = distinct([for suffix in ["amazonaws.com", data.aws_partition.current.dns_suffix] : "s3.${local.region}.${suffix}"])
  via_dynamodb = distinct([for suffix in ["amazonaws.com", data.aws_partition.current.dns_suffix] : "dynamodb.${local.region}.${suffix}"])

  # The actions that DynamoDB, S3 and CloudWatch call on a key with which they encrypt.
  encryption = [
    "kms:Decrypt",
    "kms:DescribeKey",
    "kms:Encrypt",
    "kms:GenerateDataKey",
    "kms:GenerateDataKeyWithoutPlaintext",
    "kms:ReEncryptFrom",
    "kms:ReEncryptTo",
  ]

  # The keyring decrypts only for this purpose and this registry: a principal that may encrypt without it cannot forge a key.
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

  # Nobody may use the key before the policy below exists: a grant from that moment would survive the policy.
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
  #checkov:skip=CKV_AWS_111:in the policy of a key, the resource * is that key only
  #checkov:skip=CKV_AWS_356:in the policy of a key, the resource * is that key only
  # Not kms:*, which would give cryptography to everyone who can write an IAM policy in the account.
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
  #checkov:skip=CKV_AWS_111:in the policy of a key, the resource * is that key only
  #checkov:skip=CKV_AWS_356:in the policy of a key, the resource * is that key only
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

  # Principals that IAM allows, and only through DynamoDB and S3.
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

  # Only DynamoDB needs a KMS grant, which it creates for itself; principals that IAM allows cannot create one for others.
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
      values   = concat([local.log_group_arn], local.access_log == 1 ? ["${local.log_groups_arn}:${local.access_log_group}"] : [])
    }
  }
}

# Asymmetric, so that an operator verifies without the right to sign. AWS KMS rotates no asymmetric key.
resource "aws_kms_key" "audit" {
  count = var.audit_signing ? 1 : 0

  description              = "Stile ${var.name}: signs where the chains of audit events end"
  key_usage                = "SIGN_VERIFY"
  customer_master_key_spec = "ECC_NIST_P256"
  deletion_window_in_days  = var.key_deletion_days
  tags                     = var.tags

  # As for the token key: nobody may use the key before its policy exists.
  policy = data.aws_iam_policy_document.administration.json

  lifecycle {
    ignore_changes = [policy]
  }
}

resource "aws_kms_alias" "audit" {
  count = var.audit_signing ? 1 : 0

  name          = "alias/${var.name}-audit"
  target_key_id = aws_kms_key.audit[0].key_id
}

resource "aws_kms_key_policy" "audit" {
  count = var.audit_signing ? 1 : 0

  key_id = aws_kms_key.audit[0].key_id
  policy = data.aws_iam_policy_document.audit_key.json
}

data "aws_iam_policy_document" "audit_key" {
  #checkov:skip=CKV_AWS_111:in the policy of a key, the resource * is that key only
  #checkov:skip=CKV_AWS_356:in the policy of a key, the resource * is that key only
  source_policy_documents = [data.aws_iam_policy_document.administration.json]

  statement {
    sid       = "SignHeads"
    actions   = ["kms:GetPublicKey", "kms:Sign"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = [aws_iam_role.function.arn]
    }
  }

  # Principals that IAM allows, such as operators with the output `operator_policy`. The public half signs nothing.
  statement {
    sid       = "VerifyHeads"
    actions   = ["kms:GetPublicKey"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${local.partition}:iam::${local.account}:root"]
    }
  }
}
