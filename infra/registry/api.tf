# API Gateway's HTTP API: every request goes to the function, and one route requires a signature if that is turned on.

locals {
  access_log = var.api_access_log == null ? 0 : 1
  # AWS keeps the right to write to groups below /aws/vendedlogs/ out of a resource policy of limited size.
  access_log_group = "/aws/vendedlogs/apigateway/${var.name}"
}

resource "aws_apigatewayv2_api" "registry" {
  count = var.front == "http_api" ? 1 : 0

  name          = var.name
  description   = "Stile, a private Terraform registry"
  protocol_type = "HTTP"
  # A token is valid for one host; a second name for the same registry would only help attackers.
  disable_execute_api_endpoint = var.domain != null
  tags                         = var.tags
}

resource "aws_apigatewayv2_integration" "registry" {
  count = var.front == "http_api" ? 1 : 0

  api_id                 = aws_apigatewayv2_api.registry[0].id
  integration_type       = "AWS_PROXY"
  integration_uri        = aws_lambda_function.registry.invoke_arn
  payload_format_version = "2.0"
}

# Open: Terraform cannot sign, and the broker requires its own token or proof.
resource "aws_apigatewayv2_route" "every" {
  #checkov:skip=CKV_AWS_309:Terraform cannot sign its requests, and the broker requires its own token or proof
  count = var.front == "http_api" ? 1 : 0

  api_id             = aws_apigatewayv2_api.registry[0].id
  route_key          = "$default"
  authorization_type = "NONE"
  target             = "integrations/${aws_apigatewayv2_integration.registry[0].id}"
}

resource "aws_apigatewayv2_route" "iam_token" {
  count = var.iam_route ? 1 : 0

  api_id             = aws_apigatewayv2_api.registry[0].id
  route_key          = "GET /v1/token"
  authorization_type = "AWS_IAM"
  target             = "integrations/${aws_apigatewayv2_integration.registry[0].id}"
}

# A line of this log contains no text that the caller chooses, such as the path or a header. So nobody can forge a field.
resource "aws_cloudwatch_log_group" "access" {
  count = local.access_log

  name              = local.access_log_group
  retention_in_days = coalesce(var.api_access_log.retention_days, var.log_retention_days)
  kms_key_id        = coalesce(var.api_access_log.kms_key_arn, aws_kms_key.data.arn)
  tags              = var.tags

  depends_on = [aws_kms_key_policy.data]
}

# The access log is off by default, because the function logs each request that reaches it: see `api_access_log`.
#trivy:ignore:AVD-AWS-0001
resource "aws_apigatewayv2_stage" "registry" {
  #checkov:skip=CKV_AWS_76:the function logs each request that reaches it, and api_access_log adds the access log of the stage
  count = var.front == "http_api" ? 1 : 0

  api_id      = aws_apigatewayv2_api.registry[0].id
  name        = "$default"
  auto_deploy = true
  tags        = var.tags

  default_route_settings {
    throttling_rate_limit  = var.throttle.rate
    throttling_burst_limit = var.throttle.burst
  }

  dynamic "access_log_settings" {
    for_each = aws_cloudwatch_log_group.access

    content {
      destination_arn = access_log_settings.value.arn
      format = jsonencode({
        requestId       = "$context.requestId"
        functionRequest = "$context.integration.requestId"
        time            = "$context.requestTimeEpoch"
        sourceIp        = "$context.identity.sourceIp"
        method          = "$context.httpMethod"
        route           = "$context.routeKey"
        status          = "$context.status"
        functionStatus  = "$context.integration.status"
        errorType       = "$context.error.responseType"
        responseLength  = "$context.responseLength"
        responseLatency = "$context.responseLatency"
        functionLatency = "$context.integration.latency"
      })
    }
  }
}

resource "aws_lambda_permission" "http_api" {
  count = var.front == "http_api" ? 1 : 0

  statement_id  = "HttpApi"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.registry.function_name
  principal     = "apigateway.amazonaws.com"
  source_arn    = "${aws_apigatewayv2_api.registry[0].execution_arn}/*/*"
}
