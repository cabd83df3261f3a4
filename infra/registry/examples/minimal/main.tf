# A registry behind an HTTP API, under the name that API Gateway gives it.

terraform {
  required_version = ">= 1.9"

  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.100, < 7.0"
    }
  }
}

variable "package_path" {
  description = "Path of the function's package, as `make package` builds it."
  type        = string
}

module "registry" {
  source = "../.."

  package_path = var.package_path
}

output "host" {
  description = "The registry's host."
  value       = module.registry.host
}

output "cli_config" {
  description = "Lines for a user's CLI configuration."
  value       = module.registry.cli_config
}
