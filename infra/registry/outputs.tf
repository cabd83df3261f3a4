output "host" {
  description = "The registry's host, as users write it in Terraform."
  value       = local.host
}

output "services" {
  description = "Where each of Terraform's protocols is, as the host's discovery document says."
  value = {
    "modules.v1"   = "https://${local.host}/v1/modules/"
    "providers.v1" = "https://${local.host}/v1/providers/"
  }
}

output "dns" {
  description = "Target of an alias record for the domain, if this module does not write one; null without a domain."
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
  description = "The key that encrypts the keyring."
  value       = aws_kms_key.token.arn
}

output "data_key_arn" {
  description = "The key that encrypts table, archives and log."
  value       = aws_kms_key.data.arn
}

output "audit_key_arn" {
  description = "The key that signs the heads of the audit chains; null without `audit_signing`."
  value       = one(aws_kms_key.audit[*].arn)
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
  description = "ARN of the bus with events of versions; null without one."
  value       = one(aws_cloudwatch_event_bus.registry[*].arn)
}

output "environment" {
  description = "Environment variables with which `stile-admin` works on this registry from anywhere; the function has the same."
  value = merge(
    {
      STILE_HOST    = local.host
      STILE_TABLE   = aws_dynamodb_table.registry.name
      STILE_BUCKET  = aws_s3_bucket.modules.id
      STILE_KMS_KEY = aws_kms_key.token.arn
      AWS_REGION    = local.region
    },
    { for arn in aws_kms_key.audit[*].arn : "STILE_AUDIT_KEY" => arn },
  )
}

output "grants_file" {
  description = "`grants` as a file for `stile-admin grant apply`, as JSON."
  value       = local.grants_file
}

output "operator_policy" {
  description = "Policy for operators, who run `stile-admin` on the table, as JSON."
  value       = data.aws_iam_policy_document.operator.json
}

output "cli_config" {
  description = "Lines for a user's CLI configuration; `terraform-credentials-stile install` writes them as well."
  value       = <<-EOT
    # terraform-credentials-stile install --registry-host ${local.host}
    credentials_helper "stile" {}
  EOT
}

output "helper_config" {
  description = "Lines for the helper's `stile/config.toml`; `install` writes them as well."
  value       = <<-EOT
    [registry."${local.host}"]
  EOT
}
