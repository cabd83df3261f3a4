# A backend for one project, for the roles that run it.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

variable "platform_arns" {
  description = "Roles that run the project `network` and may use its state."
  type        = set(string)
  nullable    = false
}

module "state" {
  source = "../.."

  namespace = "acme"

  projects = {
    network = {
      principal_arns = var.platform_arns
    }
  }
}

# `terraform output -raw backend_tf > ../network/backend.tf` is all that the project needs.
output "backend_tf" {
  description = "The project's `backend.tf`."
  value       = module.state.backend["network"]["terraform_from_1_10"]
}
