# API Gateway's HTTP API: every request goes to the function, and one route requires a signature if that is turned on.

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

resource "aws_apigatewayv2_stage" "registry" {
  count = var.front == "http_api" ? 1 : 0

  api_id      = aws_apigatewayv2_api.registry[0].id
  name        = "$default"
  auto_deploy = true
  tags        = var.tags

  default_route_settings {
    throttling_rate_limit  = var.throttle.rate
    throttling_burst_limit = var.throttle.burst
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
