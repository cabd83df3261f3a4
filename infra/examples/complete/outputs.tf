output "registry" {
  description = "Everything the registry's module says."
  value       = module.registry
}

output "state_backend" {
  description = "Everything the state backend's module says, by project where it is a project's."
  value       = module.state_backend
}

# `terraform output -json backend_tf | jq -r .platform > ../platform/backend.tf` is all that a project needs.
output "backend_tf" {
  description = "The `backend.tf` of each project, for Terraform from 1.10 on."
  value       = { for name, clients in module.state_backend.backend : name => clients.terraform_from_1_10 }
}
