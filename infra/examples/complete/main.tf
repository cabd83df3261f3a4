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

  max_ttl   = 7200
  event_bus = true

  alarms = {
    actions           = [aws_sns_topic.alarms.arn]
    refused_exchanges = 200
  }

  grants = [{
    principal   = var.deployer_arn
    namespace   = "acme"
    permissions = ["download", "upload"]
  }]

  # For a trial, so that a destroy works; leave these three out in production.
  deletion_protection = !var.disposable
  force_destroy       = var.disposable
  key_deletion_days   = var.disposable ? 7 : 30
}

# Not under `alias/aws/sns`: CloudWatch may not use that key, and no alarm would arrive.
resource "aws_sns_topic" "alarms" {
  name = "${var.name}-alarms"
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
