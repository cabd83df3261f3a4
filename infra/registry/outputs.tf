output "host" {
  description = "The registry's host, as users write it in Terraform."
  value       = local.host
}

output "services" {
  description = "Where each of Terraform's protocols is, as the host tells clients itself."
  value = {
    "modules.v1" = "https://${local.host}/v1/modules/"
  }
}

output "dns" {
  description = "What a record for the domain must be an alias of, where none is written here; null without a domain."
  value       = local.dns_target
}

output "table" {
  description = "Name of the table."
  value       = aws_dynamodb_table.registry.name
}

output "bucket" {
  description = "Name of the bucket of the archives."
  value       = aws_s3_bucket.modules.id
}

output "token_key_arn" {
  description = "The key that the keyring is encrypted under."
  value       = aws_kms_key.token.arn
}

output "data_key_arn" {
  description = "The key that table, archives and log are encrypted under."
  value       = aws_kms_key.data.arn
}

output "function" {
  description = "Name and ARN of the function."
  value = {
    name = aws_lambda_function.registry.function_name
    arn  = aws_lambda_function.registry.arn
  }
}

output "role" {
  description = "Name and ARN of the function's role."
  value = {
    name = aws_iam_role.function.name
    arn  = aws_iam_role.function.arn
  }
}

output "log_group" {
  description = "Name of the log group."
  value       = aws_cloudwatch_log_group.function.name
}

output "event_bus" {
  description = "ARN of the bus that tells of archives; null without one."
  value       = one(aws_cloudwatch_event_bus.registry[*].arn)
}

output "environment" {
  description = "Variables that `stile-admin` needs to work on this registry from anywhere; the function has the same."
  value = {
    STILE_HOST    = local.host
    STILE_TABLE   = aws_dynamodb_table.registry.name
    STILE_BUCKET  = aws_s3_bucket.modules.id
    STILE_KMS_KEY = aws_kms_key.token.arn
    AWS_REGION    = local.region
  }
}

output "grant_commands" {
  description = "One command for each of `grants`; run each once, as an operator."
  value       = local.grant_commands
}

output "operator_policy" {
  description = "Policy for whoever runs `stile-admin` on the table, as JSON."
  value       = data.aws_iam_policy_document.operator.json
}

output "cli_config" {
  description = "What a user's CLI configuration needs; `terraform-credentials-stile install` writes it as well."
  value       = <<-EOT
    # terraform-credentials-stile install --registry-host ${local.host}
    credentials_helper "stile" {}
  EOT
}

output "helper_config" {
  description = "What the helper's own `stile/config.toml` needs; `install` writes it as well."
  value       = <<-EOT
    [registry."${local.host}"]
  EOT
}
