# Alarms: failures that AWS counts, and lines of the log with more detail.

locals {
  watched       = var.alarms == null ? 0 : 1
  alarm_actions = try(var.alarms.actions, [])
  metrics       = "Stile/${var.name}"

  # Log lines are JSON. There is one for each request, with `code` if it failed, and one for each decision, with `event`.
  # A line with `alarm` means that an operator should look.
  # With `metrics`, a line of metrics has `decision` and `code` too, but no `event`.
  logged = var.alarms == null ? {} : {
    failures = {
      pattern   = "{ $.level = \"ERROR\" }"
      threshold = 1
      says      = "Requests failed (5xx): the line of the log says why"
    }
    sts_inconsistent = {
      pattern   = "{ ($.code = \"sts_inconsistent\") && ($.event = \"*\") }"
      threshold = 1
      says      = "STS, or a gateway, contradicted itself about a caller: somebody may stand in between"
    }
    refused_exchanges = {
      pattern   = "{ ($.event = \"exchange\") && ($.decision = \"refused\") }"
      threshold = var.alarms.refused_exchanges
      says      = "Many exchanges were refused: a grant is missing somewhere, or somebody tries"
    }
    kms_denials = {
      pattern   = "{ ($.error = \"*KMS*\") && ($.error = \"*AccessDenied*\") }"
      threshold = 1
      says      = "KMS refused the function: the policy of a key, or of the role, was changed"
    }
    alarm = {
      pattern   = "{ $.alarm = \"*\" }"
      threshold = 1
      says      = "The registry found what should not be: the line of the log says what"
    }
  }

  counted = var.alarms == null ? {} : {
    errors = {
      metric = "Errors"
      says   = "The function failed or took too long"
    }
    throttles = {
      metric = "Throttles"
      says   = "Requests were turned away because every instance the function may have was busy"
    }
  }
}

resource "aws_cloudwatch_metric_alarm" "counted" {
  for_each = local.counted

  alarm_name          = "${var.name}-${each.key}"
  alarm_description   = each.value.says
  namespace           = "AWS/Lambda"
  metric_name         = each.value.metric
  dimensions          = { FunctionName = aws_lambda_function.registry.function_name }
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = 1
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
  tags                = var.tags
}

resource "aws_cloudwatch_log_metric_filter" "logged" {
  for_each = local.logged

  name           = "${var.name}-${each.key}"
  log_group_name = aws_cloudwatch_log_group.function.name
  pattern        = each.value.pattern

  metric_transformation {
    namespace = local.metrics
    name      = each.key
    value     = "1"
    unit      = "Count"
  }
}

resource "aws_cloudwatch_metric_alarm" "logged" {
  for_each = local.logged

  alarm_name          = "${var.name}-${replace(each.key, "_", "-")}"
  alarm_description   = each.value.says
  namespace           = local.metrics
  metric_name         = aws_cloudwatch_log_metric_filter.logged[each.key].metric_transformation[0].name
  statistic           = "Sum"
  period              = 300
  evaluation_periods  = 1
  threshold           = each.value.threshold
  comparison_operator = "GreaterThanOrEqualToThreshold"
  treat_missing_data  = "notBreaching"
  alarm_actions       = local.alarm_actions
  ok_actions          = local.alarm_actions
  tags                = var.tags
}
