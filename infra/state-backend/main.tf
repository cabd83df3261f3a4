# The names of all resources. A namespace may be any words: characters that S3, IAM and DynamoDB reject become `-`, a long
# name is cut, and a digest at the end keeps the names of two namespaces, accounts or regions different.

data "aws_caller_identity" "current" {}

data "aws_partition" "current" {}

data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  words  = trim(replace(lower(var.namespace), "/[^a-z0-9]+/", "-"), "-")
  place  = "${local.account}/${local.region}/${var.namespace}"
  prefix = trimsuffix(substr(join("-", compact(["tfstate", local.words])), 0, 52), "-")
  name   = "${local.prefix}-${substr(sha256(local.place), 0, 10)}"
  bucket = coalesce(var.bucket_name, local.name)

  bucket_arn = "arn:${local.partition}:s3:::${local.bucket}"

  # Where a project's states are. A workspace's state is at `<workspace_key_prefix>/<workspace>/<key>`, so the default
  # workspace and all others are below the one prefix that the project's role may use.
  projects = {
    for name, project in var.projects : name => {
      role                 = "${trimsuffix(substr("${local.prefix}-${name}", 0, 53), "-")}-${substr(sha256("${local.place}/${name}"), 0, 10)}"
      objects              = "${local.bucket_arn}/${name}/*"
      key                  = "${name}/terraform.tfstate"
      workspace_key_prefix = "${name}/workspaces"
      principal_arns       = project.principal_arns
      external_id          = project.external_id
    }
  }

  # The names that AWS KMS gives to the services that use a key.
  via_s3       = distinct([for suffix in ["amazonaws.com", data.aws_partition.current.dns_suffix] : "s3.${local.region}.${suffix}"])
  via_dynamodb = distinct([for suffix in ["amazonaws.com", data.aws_partition.current.dns_suffix] : "dynamodb.${local.region}.${suffix}"])

  tags = merge(var.tags, { StateBackend = local.name })
}

resource "aws_resourcegroups_group" "backend" {
  name        = local.name
  description = "Everything of the Terraform state backend ${local.name}"
  tags        = local.tags

  resource_query {
    query = jsonencode({
      ResourceTypeFilters = ["AWS::AllSupported"]
      TagFilters          = [{ Key = "StateBackend", Values = [local.name] }]
    })
  }
}
