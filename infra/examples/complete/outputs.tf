output "registry" {
  description = "All outputs of the registry's module."
  value       = module.registry
}

output "state_backend" {
  description = "All outputs of the state backend's module, some of them by project."
  value       = module.state_backend
}

# `terraform output -json backend_tf | jq -r .platform > ../platform/backend.tf` is all that a project needs.
output "backend_tf" {
  description = "The `backend.tf` of each project, for Terraform 1.10 or later."
  value       = { for name, clients in module.state_backend.backend : name => clients.terraform_from_1_10 }
}
