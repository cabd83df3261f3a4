output "registry" {
  description = "Everything the registry's module says."
  value       = module.registry
}
