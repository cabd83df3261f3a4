# A registry with all that a team needs, and one grant: its roles may use what is in its namespace.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.80, < 7.0"
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
  iam_route    = true

  max_ttl              = 7200
  reserved_concurrency = 50
  event_bus            = true

  alarms = {
    actions           = [aws_sns_topic.alarms.arn]
    refused_exchanges = 200
  }

  grants = [{
    principal   = var.deployer_arn
    namespace   = "acme"
    permissions = ["download", "upload"]
  }]

  # Whoever tries this wants to be rid of it again; leave these three out in earnest.
  deletion_protection = !var.disposable
  force_destroy       = var.disposable
  key_deletion_days   = var.disposable ? 7 : 30
}

resource "aws_sns_topic" "alarms" {
  name              = "${var.name}-alarms"
  kms_master_key_id = "alias/aws/sns"
}
