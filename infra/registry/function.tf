# The function, its configuration, its log, and its URL if it has one.

locals {
  environment = merge(
    {
      STILE_TABLE       = aws_dynamodb_table.registry.name
      STILE_BUCKET      = aws_s3_bucket.modules.id
      STILE_KMS_KEY     = aws_kms_key.token.arn
      STILE_DEFAULT_TTL = tostring(var.default_ttl)
      STILE_MAX_TTL     = tostring(var.max_ttl)
      STILE_LINK_TTL    = tostring(var.link_ttl)
      STILE_LOG         = var.log_level
    },
    local.named_host == null ? {} : { STILE_HOST = local.named_host },
    length(local.regions) == 0 ? {} : { STILE_REGIONS = join(",", sort(local.regions)) },
    length(var.private_issuers) == 0 ? {} : { STILE_PRIVATE_ISSUERS = join(",", sort(var.private_issuers)) },
    { for arn in aws_kms_key.audit[*].arn : "STILE_AUDIT_KEY" => arn },
    { for arn in aws_cloudwatch_event_bus.registry[*].arn : "STILE_EVENT_BUS" => arn },
    var.fips ? { STILE_FIPS = "true" } : {},
    var.metrics ? { STILE_METRICS_NAMESPACE = local.metrics } : {},
    var.iam_route ? { STILE_IAM_SOURCE = "${local.account}/${aws_apigatewayv2_api.registry[0].id}" } : {},
  )

  # In a VPC with endpoints there is a reliable path to STS of one region only.
  regions = length(var.regions) > 0 ? var.regions : try(var.vpc.endpoints, false) ? [local.region] : []
}

locals {
  # The retentions that CloudWatch has, in days; 0 means for ever.
  log_retentions = [0, 1, 3, 5, 7, 14, 30, 60, 90, 120, 150, 180, 365, 400, 545, 731, 1096, 1827, 2192, 2557, 2922, 3288, 3653]
}

# Created before the function, which would create one of that name itself: without a retention, and without this key.
resource "aws_cloudwatch_log_group" "function" {
  name              = "/aws/lambda/${var.name}"
  retention_in_days = var.log_retention_days
  kms_key_id        = aws_kms_key.data.arn
  tags              = var.tags

  depends_on = [aws_kms_key_policy.data]
}

# Tracing is off by default, because the broker sends no segments and X-Ray costs: see `tracing_mode`.
#trivy:ignore:AVD-AWS-0066
resource "aws_lambda_function" "registry" {
  #checkov:skip=CKV_AWS_50:the broker sends no segments and X-Ray costs, and tracing_mode turns it on
  #checkov:skip=CKV_AWS_116:every front invokes the function synchronously, only the schedule does not, and the next minute does what a failed tick did not
  #checkov:skip=CKV_AWS_173:the variables name resources and contain no secret, and Lambda encrypts them with its own key
  #checkov:skip=CKV_AWS_272:make package signs nothing, and Terraform compares the digest or the version of the package
  function_name = var.name
  description   = "Stile, a private Terraform registry"
  role          = aws_iam_role.function.arn

  filename          = var.package_path
  source_code_hash  = var.package_path == null ? null : filebase64sha256(var.package_path)
  s3_bucket         = try(var.package_s3.bucket, null)
  s3_key            = try(var.package_s3.key, null)
  s3_object_version = try(var.package_s3.version, null)

  runtime       = "provided.al2023"
  handler       = "bootstrap"
  architectures = [var.architecture]
  memory_size   = var.memory_size
  timeout       = var.timeout

  reserved_concurrent_executions = coalesce(var.reserved_concurrency, -1)

  # The function checks a provider's file in /tmp. The largest has 1 GB, and Lambda's default is 512 MB.
  ephemeral_storage {
    size = 1536
  }

  environment {
    variables = local.environment
  }

  dynamic "vpc_config" {
    for_each = var.vpc == null ? [] : [var.vpc]

    content {
      subnet_ids         = vpc_config.value.subnet_ids
      security_group_ids = [aws_security_group.function[0].id]
    }
  }

  dynamic "tracing_config" {
    for_each = var.tracing_mode == null ? [] : [var.tracing_mode]

    content {
      mode = tracing_config.value
    }
  }

  tags = var.tags

  # Lambda checks the rights to a network and to traces before it creates the function, and starts to log at once.
  depends_on = [
    aws_cloudwatch_log_group.function,
    aws_iam_role_policy.log,
    aws_iam_role_policy.network,
    aws_iam_role_policy.tracing,
  ]
}

# Without a signature, since Terraform cannot sign. It needs two permissions. hashicorp/aws 6.29 and later write both when
# they create the URL. An older provider writes only the first and cannot write the second; README.md has the command.
resource "aws_lambda_function_url" "registry" {
  #checkov:skip=CKV_AWS_258:Terraform cannot sign its requests, and the broker requires its own token or proof
  count = var.front == "function_url" ? 1 : 0

  function_name      = aws_lambda_function.registry.function_name
  authorization_type = "NONE"
}
