# Grants: the commands that create them, and the policy of the operators who run the commands.

locals {
  # A grant is two rows and a compressed document with a revision. stile-admin writes them in one transaction, and changes
  # them often. An item in Terraform would be half a grant, and the next apply would undo what operators did since.
  store_flags = "--table ${aws_dynamodb_table.registry.name} --bucket ${aws_s3_bucket.modules.id} --kms-key ${aws_kms_key.token.arn}"

  # The units of a duration that stile-admin accepts, and the seconds of each (admin/src/expiry.rs, crate humantime).
  unit_seconds = merge([
    for seconds, names in {
      "0.000000001" = ["nanos", "nsec", "ns"]
      "0.000001"    = ["usec", "us", "µs"]
      "0.001"       = ["millis", "msec", "ms"]
      "1"           = ["seconds", "second", "secs", "sec", "s"]
      "60"          = ["minutes", "minute", "mins", "min", "m"]
      "3600"        = ["hours", "hour", "hrs", "hr", "h"]
      "86400"       = ["days", "day", "d"]
      "604800"      = ["weeks", "week", "wks", "wk", "w"]
      "2630016"     = ["months", "month", "M"]
      "31557600"    = ["years", "year", "yrs", "yr", "y"]
    } : { for name in names : name => tonumber(seconds) }
  ]...)
  duration_units = join("|", keys(local.unit_seconds))

  grant_commands = [
    for grant in var.grants : join(" ", concat(
      ["stile-admin grant create ${local.store_flags} --role-arn ${grant.principal} --namespace '${grant.namespace}'"],
      [for permission in sort(grant.permissions) : "--${replace(permission, "_", "-")}"],
      # A list that ran before goes past a grant that has ended since, and does not create it again.
      grant.expires == null ? [] : ["--expires '${grant.expires}' --skip-expired"],
      # stile-admin asks for confirmation of a wide grant, and the list in Terraform confirms it.
      grant.namespace == "*" || startswith(grant.principal, "account:") ? ["--yes"] : [],
    ))
  ]
}

data "aws_iam_policy_document" "operator" {
  # admin/src/commands: grants, revocations and the lists of them.
  statement {
    sid = "AdminTable"
    actions = [
      "dynamodb:BatchGetItem",
      "dynamodb:DeleteItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
    ]
    resources = [aws_dynamodb_table.registry.arn]
  }

  statement {
    sid       = "AdminTableEncryption"
    actions   = ["kms:Decrypt"]
    resources = [aws_kms_key.data.arn]

    condition {
      test     = "StringEquals"
      variable = "kms:ViaService"
      values   = local.via_dynamodb
    }
  }
}
