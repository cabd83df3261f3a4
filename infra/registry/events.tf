# A bus with an event for every new archive in the bucket: S3 writes to the account's default bus, and a rule forwards it.

locals {
  events = var.event_bus ? 1 : 0
}

resource "aws_cloudwatch_event_bus" "registry" {
  count = local.events

  name = var.name
  tags = var.tags
}

resource "aws_s3_bucket_notification" "modules" {
  count = local.events

  bucket      = aws_s3_bucket.modules.id
  eventbridge = true
}

resource "aws_cloudwatch_event_rule" "published" {
  count = local.events

  name        = "${var.name}-published"
  description = "Stile ${var.name}: an archive came into the bucket"
  event_pattern = jsonencode({
    source        = ["aws.s3"]
    "detail-type" = ["Object Created"]
    detail = {
      bucket = { name = [aws_s3_bucket.modules.id] }
      object = { key = [{ prefix = "modules/" }, { prefix = "providers/" }] }
    }
  })
  tags = var.tags
}

resource "aws_cloudwatch_event_target" "published" {
  count = local.events

  rule     = aws_cloudwatch_event_rule.published[0].name
  arn      = aws_cloudwatch_event_bus.registry[0].arn
  role_arn = aws_iam_role.events[0].arn
}

resource "aws_iam_role" "events" {
  count = local.events

  name                 = "${var.name}-events"
  description          = "Stile ${var.name}: hands events of the bucket to its bus"
  assume_role_policy   = data.aws_iam_policy_document.events_trust[0].json
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

data "aws_iam_policy_document" "events_trust" {
  count = local.events

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["events.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = [aws_cloudwatch_event_rule.published[0].arn]
    }
  }
}

resource "aws_iam_role_policy" "events" {
  count = local.events

  name   = "bus"
  role   = aws_iam_role.events[0].id
  policy = data.aws_iam_policy_document.events[0].json
}

data "aws_iam_policy_document" "events" {
  count = local.events

  statement {
    sid       = "RuleHandsOn"
    actions   = ["events:PutEvents"]
    resources = [aws_cloudwatch_event_bus.registry[0].arn]
  }
}
