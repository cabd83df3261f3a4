# Grants: the file that stile-admin applies, and the policy of the operators who apply it.

locals {
  # A grant is two rows and a compressed document with a revision. stile-admin writes them in one transaction, and changes
  # them often. An item in Terraform would be half a grant.
  # One grant on a line, so that an error of stile-admin names the grant.
  grants_file = join("\n", [
    "{\"version\": 1, \"owns\": ${jsonencode(sort(var.owned_namespaces))}, \"grant\": [",
    join(",\n", [
      for grant in var.grants : jsonencode({
        principal   = grant.principal
        namespace   = grant.namespace
        permissions = sort(grant.permissions)
        expires     = grant.expires
      })
    ]),
    "]}",
  ])
}

data "aws_iam_policy_document" "operator" {
  # admin/src/commands: grants, the lease on files of grants, revocations, and the lists of them. Each change also updates the head of
  # the chain of its audit event. Only an operator deletes old events. A grant to a trust has the condition that the trust stays, and the
  # deletion of a trust that no grant names it.
  statement {
    sid = "AdminTable"
    actions = [
      "dynamodb:BatchGetItem",
      "dynamodb:ConditionCheckItem",
      "dynamodb:DeleteItem",
      "dynamodb:GetItem",
      "dynamodb:PutItem",
      "dynamodb:Query",
      "dynamodb:UpdateItem",
    ]
    resources = [aws_dynamodb_table.registry.arn]
  }

  # admin/src/commands/audit_verify.rs: the public half of the key that signed the heads.
  dynamic "statement" {
    for_each = aws_kms_key.audit[*].arn

    content {
      sid       = "AdminAuditVerify"
      actions   = ["kms:GetPublicKey"]
      resources = [statement.value]
    }
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
