# The schedule that invokes the function each minute: nothing runs in a function between its answers.

locals {
  schedule = var.webhooks ? 1 : 0
}

resource "aws_cloudwatch_event_rule" "tick" {
  count = local.schedule

  name                = "${var.name}-tick"
  description         = "Stile ${var.name}: sends events, counts downloads and cleans up"
  schedule_expression = "rate(1 minute)"
  tags                = var.tags
}

# The whole event is this text. An event of a front always has other fields, so no client can send it.
resource "aws_cloudwatch_event_target" "tick" {
  count = local.schedule

  rule  = aws_cloudwatch_event_rule.tick[0].name
  arn   = aws_lambda_function.registry.arn
  input = jsonencode({ stile = { internal = "tick", v = 1 } })

  # The next minute does what this one could not.
  retry_policy {
    maximum_event_age_in_seconds = 60
    maximum_retry_attempts       = 0
  }
}

resource "aws_lambda_permission" "tick" {
  count = local.schedule

  statement_id  = "Tick"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.registry.function_name
  principal     = "events.amazonaws.com"
  source_arn    = aws_cloudwatch_event_rule.tick[0].arn
}
