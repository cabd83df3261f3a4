# A backend for one project, which a role of the same account writes to.

terraform {
  required_version = ">= 1.5"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

data "aws_caller_identity" "current" {}

module "state" {
  source = "../.."

  namespace = "acme"

  projects = {
    network = {
      principal_arns = ["arn:aws:iam::${data.aws_caller_identity.current.account_id}:root"]
    }
  }
}

# `terraform output -raw backend_tf > ../network/backend.tf` is all that the project needs.
output "backend_tf" {
  description = "The project's `backend.tf`."
  value       = module.state.backend["network"]["terraform_from_1_10"]
}
