output "config" {
  description = "What the `s3` backend needs to know, by project, as values: for tools that write configurations of their own."
  value       = local.config
}

output "backend" {
  description = "A ready `backend.tf`, by project and by client: `terraform_from_1_10`, `opentofu_from_1_10` and, where there is a lock table, `terraform_before_1_10` and `opentofu_before_1_10`."
  value = {
    for name, clients in local.lines : name => {
      for client, lines in clients : client => join("\n", concat(
        ["terraform {", "  backend \"s3\" {"],
        [for line in lines : line == "" ? "" : "    ${line}"],
        ["  }", "}", ""],
      ))
    }
  }

  # Whoever starts to write before all of this is in place would be refused, or would write without it.
  depends_on = [
    aws_iam_role_policy.project,
    aws_s3_bucket_policy.state,
    aws_s3_bucket_public_access_block.state,
    aws_s3_bucket_server_side_encryption_configuration.state,
    aws_s3_bucket_versioning.state,
  ]
}

output "backend_config" {
  description = "The same as a file for `terraform init -backend-config=FILE`, beside an empty `backend \"s3\" {}`."
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
  description = "The bucket, by its name."
  value       = aws_s3_bucket.state.id
}

output "bucket_arn" {
  description = "The bucket, by its ARN."
  value       = aws_s3_bucket.state.arn
}

output "kms_key_arn" {
  description = "The key that every state is encrypted with."
  value       = aws_kms_key.state.arn
}

output "lock_table" {
  description = "The lock table, by its name; null without one."
  value       = one(aws_dynamodb_table.lock[*].name)
}

output "resource_group" {
  description = "The resource group that everything is found in."
  value       = aws_resourcegroups_group.backend.name
}

output "role_arns" {
  description = "The role of each project."
  value       = { for name, role in aws_iam_role.project : name => role.arn }
}
