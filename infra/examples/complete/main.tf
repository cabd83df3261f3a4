# A platform for a team: a registry with everything that it needs and one grant, and a state backend with a role for each
# project.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

provider "aws" {
  default_tags {
    tags = { project = "stile" }
  }
}

module "registry" {
  source = "../../registry"

  name         = var.name
  package_path = var.package_path
  domain       = var.domain
  iam_route    = var.iam_route

  max_ttl        = 7200
  event_bus      = true
  api_access_log = {}

  alarms = {
    actions           = [aws_sns_topic.alarms.arn]
    refused_exchanges = 200
  }

  grants = [{
    principal   = var.deployer_arn
    namespace   = "acme"
    permissions = ["download", "upload"]
  }]
  owned_namespaces = ["acme"]

  source_buckets = var.source_buckets

  # Whether teams may change the grants of their namespaces themselves.
  delegated_grants = var.delegated_grants

  # For a trial, so that a destroy works; leave these three out in production.
  deletion_protection = !var.disposable
  force_destroy       = var.disposable
  key_deletion_days   = var.disposable ? 7 : 30
}

# Not under `alias/aws/sns`: CloudWatch may not use that key, and no alarm would arrive.
resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = aws_kms_key.alarms.arn
}

resource "aws_kms_key" "alarms" {
  description             = "Stile ${var.name}: the topic of the alarms"
  enable_key_rotation     = true
  deletion_window_in_days = var.disposable ? 7 : 30
  policy                  = data.aws_iam_policy_document.alarms_key.json
}

resource "aws_kms_alias" "alarms" {
  name          = "alias/${var.name}-alarms"
  target_key_id = aws_kms_key.alarms.key_id
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

data "aws_iam_policy_document" "alarms_key" {
  #checkov:skip=CKV_AWS_109:in the policy of a key, the resource * is that key only
  #checkov:skip=CKV_AWS_111:in the policy of a key, the resource * is that key only
  #checkov:skip=CKV_AWS_356:in the policy of a key, the resource * is that key only

  # The key encrypts only texts of alarms, so the account's IAM policies decide about it, as about the topic.
  statement {
    sid       = "Account"
    actions   = ["kms:*"]
    resources = ["*"]

    principals {
      type        = "AWS"
      identifiers = ["arn:${data.aws_partition.current.partition}:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }

  # CloudWatch publishes to the topic, and only for the alarms of this registry.
  statement {
    sid       = "Alarms"
    actions   = ["kms:Decrypt", "kms:GenerateDataKey*"]
    resources = ["*"]

    principals {
      type        = "Service"
      identifiers = ["cloudwatch.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [data.aws_caller_identity.current.account_id]
    }

    condition {
      test     = "ArnLike"
      variable = "aws:SourceArn"
      values   = ["arn:${data.aws_partition.current.partition}:cloudwatch:${data.aws_region.current.id}:${data.aws_caller_identity.current.account_id}:alarm:${var.name}-*"]
    }
  }
}

module "state_backend" {
  source = "../../state-backend"

  namespace = var.state_namespace

  # For projects with clients before 1.10; leave it out if there are none.
  lock_table = true

  # The platform's own state is there as well, after `terraform init -migrate-state` has moved it.
  projects = merge(
    { platform = { principal_arns = var.platform_arns, external_id = null } },
    var.state_projects,
  )

  force_destroy     = var.disposable
  key_deletion_days = var.disposable ? 7 : 30
}
