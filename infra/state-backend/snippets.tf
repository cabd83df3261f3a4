# The lines for a project's configuration, for each range of clients.

locals {
  # Clients that can lock only in a table get a snippet only if there is one.
  clients = merge(
    {
      opentofu_from_1_10  = { block = true, lockfile = true }
      terraform_from_1_10 = { block = true, lockfile = true }
    },
    var.lock_table ? {
      opentofu_before_1_10  = { block = true, lockfile = false }
      terraform_before_1_10 = { block = false, lockfile = false }
    } : {},
  )

  config = {
    for name, project in local.projects : name => {
      bucket               = aws_s3_bucket.state.id
      region               = local.region
      key                  = project.key
      workspace_key_prefix = project.workspace_key_prefix
      encrypt              = true
      kms_key_id           = aws_kms_key.state.arn
      use_lockfile         = true
      dynamodb_table       = one(aws_dynamodb_table.lock[*].name)
      role_arn             = aws_iam_role.project[name].arn
      external_id          = project.external_id
    }
  }

  # In the layout of `terraform fmt`. Up to Terraform 1.9 the role is a setting like the others; 1.10 and later reject that.
  # If there is a table, every client uses it: it holds a digest of each state, and a write without it breaks the others.
  lines = {
    for name, config in local.config : name => {
      for client, knows in local.clients : client => concat(
        [for key in compact([
          "bucket", "region", "key", "workspace_key_prefix", "encrypt", "kms_key_id",
          knows.lockfile ? "use_lockfile" : "",
          var.lock_table ? "dynamodb_table" : "",
          knows.block ? "" : "role_arn",
          knows.block || config.external_id == null ? "" : "external_id",
        ]) : format("%-20s = %s", key, jsonencode(config[key]))],
        knows.block ? concat(
          ["", "assume_role = {"],
          [for key in compact(["role_arn", config.external_id == null ? "" : "external_id"]) :
          config.external_id == null ? "  ${key} = ${jsonencode(config[key])}" : format("  %-11s = %s", key, jsonencode(config[key]))],
          ["}"],
        ) : [],
      )
    }
  }
}
