# A backend each for what must not share a bucket or a key; each project lets in a role of its own account, which has to
# know an external id.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` may delete states."
  type        = bool
  default     = false
}

locals {
  backends = {
    # Old clients are still about here, so there is a lock table.
    "Payments & Cards" = { lock_table = true, projects = ["ledger", "gateway"] }
    "analytics"        = { lock_table = false, projects = ["ledger"] }
  }
}

module "state" {
  source   = "../.."
  for_each = local.backends

  namespace     = each.key
  lock_table    = each.value.lock_table
  force_destroy = var.force_destroy

  projects = {
    for project in each.value.projects : project => {
      principal_arns = ["arn:aws:iam::111122223333:role/deploy-${project}"]
      external_id    = "acme:${project}"
    }
  }

  tags = { Owner = "platform" }
}

output "state" {
  description = "Everything that the backends say of themselves."
  value       = module.state
}
