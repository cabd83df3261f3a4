# One backend for each group of states that must not share a bucket or a key. A role of each project's own account may
# assume the project's role, with an external id.

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
    # Some clients here are old, so there is a lock table.
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
  description = "All outputs of the backends."
  value       = module.state
}
