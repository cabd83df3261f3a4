# The schedule that invokes the function each minute: nothing runs in a function between its answers.

locals {
  scheduled = var.schedule ? 1 : 0
}

# Its input is no secret: it is in the documentation of the broker.
resource "aws_scheduler_schedule" "tick" {
  #checkov:skip=CKV_AWS_297:the input is the same text for every registry and is no secret
  count = local.scheduled

  name                = "${var.name}-tick"
  description         = "Stile ${var.name}: sends events, adds counted downloads, and cleans up"
  schedule_expression = "rate(1 minute)"

  flexible_time_window {
    mode = "OFF"
  }

  target {
    arn      = aws_lambda_function.registry.arn
    role_arn = aws_iam_role.schedule[0].arn

    # The whole event is this text. An event of a front always has other fields, so no client can send it.
    input = jsonencode({ stile = { internal = "tick", v = 1 } })

    # This counts only until Lambda has taken the event. The next minute does what this one could not.
    retry_policy {
      maximum_event_age_in_seconds = 60
      maximum_retry_attempts       = 0
    }
  }
}

# EventBridge Scheduler invokes the function asynchronously: Lambda takes the event, and answers before it runs. By
# default, Lambda would then repeat a failed tick twice, and keep a throttled one for six hours.
resource "aws_lambda_function_event_invoke_config" "tick" {
  count = local.scheduled

  function_name                = aws_lambda_function.registry.function_name
  maximum_event_age_in_seconds = 60
  maximum_retry_attempts       = 0
}

resource "aws_iam_role" "schedule" {
  count = local.scheduled

  name                 = "${var.name}-schedule"
  description          = "Stile ${var.name}: invokes the function each minute"
  assume_role_policy   = data.aws_iam_policy_document.schedule_trust[0].json
  permissions_boundary = var.permissions_boundary
  tags                 = var.tags
}

data "aws_iam_policy_document" "schedule_trust" {
  count = local.scheduled

  statement {
    actions = ["sts:AssumeRole"]

    principals {
      type        = "Service"
      identifiers = ["scheduler.amazonaws.com"]
    }

    condition {
      test     = "StringEquals"
      variable = "aws:SourceAccount"
      values   = [local.account]
    }

    # EventBridge Scheduler gives the group of the schedule, and not the schedule.
    condition {
      test     = "ArnEquals"
      variable = "aws:SourceArn"
      values   = ["arn:${local.partition}:scheduler:${local.region}:${local.account}:schedule-group/default"]
    }
  }
}

resource "aws_iam_role_policy" "schedule" {
  count = local.scheduled

  name   = "invoke"
  role   = aws_iam_role.schedule[0].id
  policy = data.aws_iam_policy_document.schedule[0].json
}

data "aws_iam_policy_document" "schedule" {
  count = local.scheduled

  statement {
    sid       = "ScheduleInvokes"
    actions   = ["lambda:InvokeFunction"]
    resources = [aws_lambda_function.registry.arn]
  }
}
