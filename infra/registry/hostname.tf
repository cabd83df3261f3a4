# The registry's host: the name in Terraform, the audience of proofs and tokens, and the DNS records.

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account   = data.aws_caller_identity.current.account_id
  partition = data.aws_partition.current.partition
  region    = data.aws_region.current.id

  # Known before the function exists, so its environment can have it. A function URL's host is not: it is a row of the table.
  named_host = (
    var.host != null ? var.host :
    var.domain != null ? var.domain.name :
    var.front == "http_api" ? trimprefix(one(aws_apigatewayv2_api.registry[*].api_endpoint), "https://") :
    null
  )
  host = var.front == "function_url" && var.host == null ? split("/", one(aws_lambda_function_url.registry[*].function_url))[2] : local.named_host

  certificate_arn   = var.domain == null ? null : coalesce(var.domain.certificate_arn, one(aws_acm_certificate_validation.registry[*].certificate_arn))
  makes_certificate = var.domain != null && try(var.domain.certificate_arn, null) == null
  writes_dns        = var.domain != null && try(var.domain.zone_id, null) != null

  # A certificate that this module creates is in the region.
  certificate_is_here = try(split(":", var.domain.certificate_arn)[3], local.region) == local.region
}

resource "aws_dynamodb_table_item" "host" {
  count = var.front == "function_url" && var.host == null ? 1 : 0

  table_name = aws_dynamodb_table.registry.name
  hash_key   = aws_dynamodb_table.registry.hash_key
  range_key  = aws_dynamodb_table.registry.range_key
  item = jsonencode({
    pk   = { S = "host" }
    sk   = { S = "host" }
    host = { S = local.host }
  })
}

resource "aws_acm_certificate" "registry" {
  count = local.makes_certificate ? 1 : 0

  domain_name       = var.domain.name
  validation_method = "DNS"
  tags              = var.tags

  lifecycle {
    create_before_destroy = true
  }
}

resource "aws_route53_record" "certificate" {
  count = local.makes_certificate ? 1 : 0

  zone_id         = var.domain.zone_id
  name            = one(aws_acm_certificate.registry[0].domain_validation_options).resource_record_name
  type            = one(aws_acm_certificate.registry[0].domain_validation_options).resource_record_type
  records         = [one(aws_acm_certificate.registry[0].domain_validation_options).resource_record_value]
  ttl             = 300
  allow_overwrite = true
}

resource "aws_acm_certificate_validation" "registry" {
  count = local.makes_certificate ? 1 : 0

  certificate_arn         = aws_acm_certificate.registry[0].arn
  validation_record_fqdns = [aws_route53_record.certificate[0].fqdn]
}

resource "aws_apigatewayv2_domain_name" "registry" {
  count = var.front == "http_api" && var.domain != null ? 1 : 0

  domain_name = var.domain.name
  tags        = var.tags

  domain_name_configuration {
    certificate_arn = local.certificate_arn
    endpoint_type   = "REGIONAL"
    security_policy = "TLS_1_2"
  }

  lifecycle {
    precondition {
      condition     = local.certificate_is_here
      error_message = "domain.certificate_arn must be of the registry's own region, ${local.region}: API Gateway takes no other."
    }
  }
}

# At the root of the host: Terraform requests /.well-known/ only there.
resource "aws_apigatewayv2_api_mapping" "registry" {
  count = var.front == "http_api" && var.domain != null ? 1 : 0

  api_id      = aws_apigatewayv2_api.registry[0].id
  domain_name = aws_apigatewayv2_domain_name.registry[0].id
  stage       = aws_apigatewayv2_stage.registry[0].id
}

locals {
  # The target of the host's record, for the record here or for your own.
  dns_target = (
    var.domain == null ? null :
    var.front == "http_api" ? {
      name    = aws_apigatewayv2_domain_name.registry[0].domain_name_configuration[0].target_domain_name
      zone_id = aws_apigatewayv2_domain_name.registry[0].domain_name_configuration[0].hosted_zone_id
    } :
    {
      name    = aws_lb.registry[0].dns_name
      zone_id = aws_lb.registry[0].zone_id
    }
  )
}

resource "aws_route53_record" "registry" {
  for_each = local.writes_dns ? toset(["A", "AAAA"]) : toset([])

  zone_id = var.domain.zone_id
  name    = var.domain.name
  type    = each.key

  alias {
    name                   = local.dns_target.name
    zone_id                = local.dns_target.zone_id
    evaluate_target_health = false
  }
}
