# The store: one table, and the bucket of the archives.

resource "aws_dynamodb_table" "registry" {
  name                        = coalesce(var.table_name, var.name)
  billing_mode                = "PAY_PER_REQUEST"
  hash_key                    = "pk"
  range_key                   = "sk"
  deletion_protection_enabled = var.deletion_protection
  tags                        = var.tags

  attribute {
    name = "pk"
    type = "S"
  }

  attribute {
    name = "sk"
    type = "S"
  }

  ttl {
    attribute_name = "ttl"
    enabled        = true
  }

  point_in_time_recovery {
    enabled                 = true
    recovery_period_in_days = var.recovery_days
  }

  server_side_encryption {
    enabled     = true
    kms_key_arn = aws_kms_key.data.arn
  }

  depends_on = [aws_kms_key_policy.data]
}

# The access log is off by default, because only the caller of the module has a bucket for it: see `access_log_bucket`.
#trivy:ignore:AVD-AWS-0089
resource "aws_s3_bucket" "modules" {
  #checkov:skip=CKV_AWS_18:only the caller of the module has a bucket for the log, and access_log_bucket names it
  #checkov:skip=CKV_AWS_144:a copy in another region is a second registry with its own key, which the caller decides on
  bucket        = coalesce(var.bucket_name, "${var.name}-${local.account}-${local.region}")
  force_destroy = var.force_destroy
  tags          = var.tags
}

resource "aws_s3_bucket_ownership_controls" "modules" {
  bucket = aws_s3_bucket.modules.id

  rule {
    object_ownership = "BucketOwnerEnforced"
  }
}

resource "aws_s3_bucket_public_access_block" "modules" {
  bucket = aws_s3_bucket.modules.id

  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

# A signed URL names one version of an object, so nobody can overwrite a checked archive.
resource "aws_s3_bucket_versioning" "modules" {
  bucket = aws_s3_bucket.modules.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_server_side_encryption_configuration" "modules" {
  bucket = aws_s3_bucket.modules.id

  rule {
    bucket_key_enabled = true

    apply_server_side_encryption_by_default {
      sse_algorithm     = "aws:kms"
      kms_master_key_id = aws_kms_key.data.arn
    }
  }
}

# Nothing under modules/, providers/ and metadata/ expires: rows name exactly those versions.
resource "aws_s3_bucket_lifecycle_configuration" "modules" {
  bucket = aws_s3_bucket.modules.id

  rule {
    id     = "unfinished-uploads"
    status = "Enabled"

    filter {}

    abort_incomplete_multipart_upload {
      days_after_initiation = 1
    }
  }

  rule {
    id     = "uploads-that-were-never-published"
    status = "Enabled"

    filter {
      prefix = "uploads/"
    }

    expiration {
      days = 1
    }

    noncurrent_version_expiration {
      noncurrent_days = 1
    }
  }

  # S3 does not allow this in a rule that expires by days.
  rule {
    id     = "markers-of-uploads-that-are-gone"
    status = "Enabled"

    filter {
      prefix = "uploads/"
    }

    expiration {
      expired_object_delete_marker = true
    }
  }

  depends_on = [aws_s3_bucket_versioning.modules]
}

resource "aws_s3_bucket_logging" "modules" {
  count = var.access_log_bucket == null ? 0 : 1

  bucket        = aws_s3_bucket.modules.id
  target_bucket = var.access_log_bucket
  target_prefix = "${var.name}/archives/"
}

resource "aws_s3_bucket_policy" "modules" {
  bucket = aws_s3_bucket.modules.id
  policy = data.aws_iam_policy_document.bucket.json

  depends_on = [aws_s3_bucket_public_access_block.modules]
}

data "aws_iam_policy_document" "bucket" {
  statement {
    sid       = "TlsOnly"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.modules.arn, "${aws_s3_bucket.modules.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Bool"
      variable = "aws:SecureTransport"
      values   = ["false"]
    }
  }

  statement {
    sid       = "Tls12OrNewer"
    effect    = "Deny"
    actions   = ["s3:*"]
    resources = [aws_s3_bucket.modules.arn, "${aws_s3_bucket.modules.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "NumericLessThan"
      variable = "s3:TlsVersion"
      values   = ["1.2"]
    }
  }

  # The broker names no encryption, or with STILE_BUCKET_KMS_KEY this key (store/src/blobs/s3/). Without a
  # name S3 uses the bucket's default, which is this key as well. The policy denies another encryption and another key.
  statement {
    sid       = "DenyOtherEncryption"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.modules.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "s3:x-amz-server-side-encryption"
      values   = ["false"]
    }

    condition {
      test     = "StringNotEquals"
      variable = "s3:x-amz-server-side-encryption"
      values   = ["aws:kms"]
    }
  }

  # `aws:kms` without a key means the account's own `aws/s3`. The second condition is also true if the key is missing.
  statement {
    sid       = "DenyKmsWithoutThisKey"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.modules.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "s3:x-amz-server-side-encryption"
      values   = ["false"]
    }

    condition {
      test     = "StringNotEquals"
      variable = "s3:x-amz-server-side-encryption-aws-kms-key-id"
      values   = [aws_kms_key.data.arn]
    }
  }

  statement {
    sid       = "DenyKeysOfCustomers"
    effect    = "Deny"
    actions   = ["s3:PutObject"]
    resources = ["${aws_s3_bucket.modules.arn}/*"]

    principals {
      type        = "*"
      identifiers = ["*"]
    }

    condition {
      test     = "Null"
      variable = "s3:x-amz-server-side-encryption-customer-algorithm"
      values   = ["false"]
    }
  }
}
