# Private access: the function in a VPC, the endpoints that it needs without NAT, and an internal load balancer.

locals {
  in_vpc    = var.vpc == null ? 0 : 1
  endpoints = try(var.vpc.endpoints, false)
  balanced  = var.front == "load_balancer" ? 1 : 0
}

resource "aws_security_group" "function" {
  count = local.in_vpc

  name        = "${var.name}-function"
  description = "Stile ${var.name}: the function, which calls AWS and is called by nobody"
  vpc_id      = var.vpc.id
  tags        = var.tags
}

# To every address: AWS has too many, without vpc.endpoints, for STS of every region and for S3.
#trivy:ignore:AVD-AWS-0104
resource "aws_vpc_security_group_egress_rule" "function" {
  count = local.in_vpc

  security_group_id = aws_security_group.function[0].id
  description       = "AWS, over TLS"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = "0.0.0.0/0"
}

resource "aws_vpc_endpoint" "routed" {
  for_each = local.endpoints ? toset(["dynamodb", "s3"]) : toset([])

  vpc_id            = var.vpc.id
  service_name      = "${data.aws_partition.current.reverse_dns_prefix}.${local.region}.${each.key}"
  vpc_endpoint_type = "Gateway"
  route_table_ids   = var.vpc.route_table_ids
  tags              = merge({ Name = "${var.name}-${each.key}" }, var.tags)
}

resource "aws_vpc_endpoint" "named" {
  for_each = local.endpoints ? toset(concat(["kms", "sts"], var.event_bus ? ["events"] : [])) : toset([])

  vpc_id              = var.vpc.id
  service_name        = "${data.aws_partition.current.reverse_dns_prefix}.${local.region}.${each.key}"
  vpc_endpoint_type   = "Interface"
  subnet_ids          = var.vpc.subnet_ids
  security_group_ids  = [aws_security_group.endpoints[0].id]
  private_dns_enabled = true
  tags                = merge({ Name = "${var.name}-${each.key}" }, var.tags)
}

data "aws_vpc" "registry" {
  count = local.endpoints ? 1 : 0

  id = var.vpc.id
}

# Private DNS leads every client in the VPC to these endpoints, so they admit all of them; the services decide who may do
# what. The rules are inside the group, since a rule for each block could not be planned together with a VPC.
resource "aws_security_group" "endpoints" {
  count = local.endpoints ? 1 : 0

  name        = "${var.name}-endpoints"
  description = "Stile ${var.name}: KMS and STS, for the whole VPC"
  vpc_id      = var.vpc.id
  tags        = var.tags

  ingress {
    description = "The VPC"
    protocol    = "tcp"
    from_port   = 443
    to_port     = 443
    cidr_blocks = [for block in data.aws_vpc.registry[0].cidr_block_associations : block.cidr_block if block.state == "associated"]
  }
}

resource "aws_security_group" "balancer" {
  count = local.balanced

  name        = "${var.name}-balancer"
  description = "Stile ${var.name}: the load balancer"
  vpc_id      = var.vpc.id
  tags        = var.tags
}

resource "aws_vpc_security_group_ingress_rule" "balancer" {
  for_each = local.balanced == 1 ? toset(var.vpc.client_cidrs) : toset([])

  security_group_id = aws_security_group.balancer[0].id
  description       = "Who may reach the registry"
  ip_protocol       = "tcp"
  from_port         = 443
  to_port           = 443
  cidr_ipv4         = each.key
}

resource "aws_lb" "registry" {
  #checkov:skip=CKV_AWS_91:only the caller of the module has a bucket for the log, and access_log_bucket names it
  count = local.balanced

  name                       = var.name
  internal                   = true
  load_balancer_type         = "application"
  subnets                    = var.vpc.subnet_ids
  security_groups            = [aws_security_group.balancer[0].id]
  drop_invalid_header_fields = true
  enable_deletion_protection = var.deletion_protection
  tags                       = var.tags

  dynamic "access_logs" {
    for_each = var.access_log_bucket == null ? [] : [var.access_log_bucket]

    content {
      enabled = true
      bucket  = access_logs.value
      prefix  = "${var.name}/balancer"
    }
  }
}

resource "aws_lb_listener" "registry" {
  count = local.balanced

  load_balancer_arn = aws_lb.registry[0].arn
  port              = 443
  protocol          = "HTTPS"
  ssl_policy        = "ELBSecurityPolicy-TLS13-1-2-2021-06"
  certificate_arn   = local.certificate_arn
  tags              = var.tags

  default_action {
    type             = "forward"
    target_group_arn = aws_lb_target_group.registry[0].arn
  }

  lifecycle {
    precondition {
      condition     = local.certificate_is_here
      error_message = "domain.certificate_arn must be of the registry's own region, ${local.region}: a load balancer takes no other."
    }
  }
}

resource "aws_lb_target_group" "registry" {
  count = local.balanced

  name        = var.name
  target_type = "lambda"
  # Otherwise the load balancer passes on only one of two Authorization headers, and chooses which.
  lambda_multi_value_headers_enabled = true
  tags                               = var.tags
}

resource "aws_lb_target_group_attachment" "registry" {
  count = local.balanced

  target_group_arn = aws_lb_target_group.registry[0].arn
  target_id        = aws_lambda_function.registry.arn

  depends_on = [aws_lambda_permission.balancer]
}

resource "aws_lambda_permission" "balancer" {
  count = local.balanced

  statement_id  = "LoadBalancer"
  action        = "lambda:InvokeFunction"
  function_name = aws_lambda_function.registry.function_name
  principal     = "elasticloadbalancing.amazonaws.com"
  source_arn    = aws_lb_target_group.registry[0].arn
}
