output "config" {
  description = "Settings of the `s3` backend, by project, as values: for tools that write their own configurations."
  value       = local.config
}

output "backend" {
  description = "A ready `backend.tf`, by project and by client: `terraform_from_1_10`, `opentofu_from_1_10` and, with a lock table, `terraform_before_1_10` and `opentofu_before_1_10`."
  value = {
    for name, clients in local.lines : name => {
      for client, lines in clients : client => join("\n", concat(
        ["terraform {", "  backend \"s3\" {"],
        [for line in lines : line == "" ? "" : "    ${line}"],
        ["  }", "}", ""],
      ))
    }
  }

  # A client that starts to write before all of this exists would be refused, or would write without it.
  depends_on = [
    aws_iam_role_policy.project,
    aws_s3_bucket_policy.state,
    aws_s3_bucket_public_access_block.state,
    aws_s3_bucket_server_side_encryption_configuration.state,
    aws_s3_bucket_versioning.state,
  ]
}

output "backend_config" {
  description = "The same as a file for `terraform init -backend-config=FILE`, next to an empty `backend \"s3\" {}`."
  value       = { for name, clients in local.lines : name => { for client, lines in clients : client => "${join("\n", lines)}\n" } }

  depends_on = [
    aws_iam_role_policy.project,
    aws_s3_bucket_policy.state,
    aws_s3_bucket_public_access_block.state,
    aws_s3_bucket_server_side_encryption_configuration.state,
    aws_s3_bucket_versioning.state,
  ]
}

output "bucket" {
  description = "Name of the bucket."
  value       = aws_s3_bucket.state.id
}

output "bucket_arn" {
  description = "ARN of the bucket."
  value       = aws_s3_bucket.state.arn
}

output "kms_key_arn" {
  description = "ARN of the key that encrypts every state."
  value       = aws_kms_key.state.arn
}

output "lock_table" {
  description = "Name of the lock table; null without one."
  value       = one(aws_dynamodb_table.lock[*].name)
}

output "resource_group" {
  description = "Name of the resource group that contains all resources."
  value       = aws_resourcegroups_group.backend.name
}

output "role_arns" {
  description = "ARN of each project's role."
  value       = { for name, role in aws_iam_role.project : name => role.arn }
}
