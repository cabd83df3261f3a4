# What the variables lead to, the parts that no emulator has included.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_path = "versions.tf"
}

run "by_default_an_http_api_that_nobody_signs_for" {
  assert {
    condition     = output.host == "abcdef1234.execute-api.eu-central-1.amazonaws.com"
    error_message = "The host is that of the API."
  }

  assert {
    condition = alltrue([for rule in aws_s3_bucket_lifecycle_configuration.modules.rule :
      length(rule.expiration) + length(rule.noncurrent_version_expiration) == 0 || rule.filter[0].prefix == "uploads/"
    ])
    error_message = "Nothing but uploads ends by itself."
  }

  assert {
    condition     = anytrue([for rule in aws_s3_bucket_lifecycle_configuration.modules.rule : try(rule.expiration[0].expired_object_delete_marker, false)])
    error_message = "Markers of uploads that are gone go as well."
  }

  assert {
    condition     = aws_lambda_function.registry.ephemeral_storage[0].size == 1536 && aws_lambda_function.registry.timeout == 60
    error_message = "The function has room and time to check the largest file of a provider."
  }

  assert {
    condition     = aws_lambda_function.registry.environment[0].variables.STILE_HOST == output.host
    error_message = "The function knows its host."
  }

  assert {
    condition     = !contains(keys(aws_lambda_function.registry.environment[0].variables), "STILE_IAM_SOURCE") && length(aws_apigatewayv2_route.iam_token) == 0
    error_message = "GET /v1/token is off."
  }

  assert {
    condition     = aws_lambda_permission.http_api[0].source_arn == "arn:aws:execute-api:eu-central-1:111122223333:abcdef1234/*/*"
    error_message = "Only this API may invoke the function."
  }

  assert {
    condition     = aws_kms_key.audit[0].key_usage == "SIGN_VERIFY" && aws_kms_key.audit[0].customer_master_key_spec == "ECC_NIST_P256" && aws_lambda_function.registry.environment[0].variables.STILE_AUDIT_KEY == output.audit_key_arn
    error_message = "The function signs with a key of its own."
  }

  assert {
    condition     = aws_dynamodb_table.registry.deletion_protection_enabled && !aws_s3_bucket.modules.force_destroy && aws_kms_key.token.deletion_window_in_days == 30
    error_message = "What is kept is not easily lost."
  }

  assert {
    condition     = length(aws_dynamodb_table_item.host) == 0 && length(aws_lambda_function_url.registry) == 0 && length(aws_lb.registry) == 0
    error_message = "One front alone is made."
  }
}

run "without_a_key_that_signs" {
  variables {
    audit_signing = false
  }

  assert {
    condition     = length(aws_kms_key.audit) == 0 && output.audit_key_arn == null && !contains(keys(aws_lambda_function.registry.environment[0].variables), "STILE_AUDIT_KEY")
    error_message = "Nothing is signed."
  }
}

run "the_route_with_a_signature" {
  variables {
    iam_route = true
  }

  assert {
    condition     = aws_apigatewayv2_route.iam_token[0].authorization_type == "AWS_IAM" && aws_apigatewayv2_route.iam_token[0].route_key == "GET /v1/token"
    error_message = "The route asks for a signature."
  }

  assert {
    condition     = aws_apigatewayv2_route.every[0].authorization_type == "NONE"
    error_message = "The others do not: Terraform cannot sign."
  }

  assert {
    condition     = aws_lambda_function.registry.environment[0].variables.STILE_IAM_SOURCE == "111122223333/abcdef1234"
    error_message = "The function believes this account's API and no other."
  }
}

run "a_function_url_whose_host_is_a_row" {
  variables {
    front = "function_url"
  }

  assert {
    condition     = !contains(keys(aws_lambda_function.registry.environment[0].variables), "STILE_HOST")
    error_message = "The function's environment cannot name its own URL."
  }

  assert {
    condition = jsondecode(aws_dynamodb_table_item.host[0].item) == {
      pk   = { S = "host" }
      sk   = { S = "host" }
      host = { S = "abcdefghijklmnop.lambda-url.eu-central-1.on.aws" }
    }
    error_message = "The host is a row of the table."
  }

  assert {
    condition     = length(aws_apigatewayv2_api.registry) == 0
    error_message = "There is no API beside it."
  }
}

run "a_function_url_behind_a_cdn" {
  variables {
    front = "function_url"
    host  = "registry.example.com"
  }

  assert {
    condition     = aws_lambda_function.registry.environment[0].variables.STILE_HOST == "registry.example.com" && length(aws_dynamodb_table_item.host) == 0
    error_message = "The host that is named counts."
  }
}

run "a_domain_with_a_certificate_of_its_own" {
  variables {
    domain = { name = "registry.example.com", zone_id = "Z0123456789" }
  }

  assert {
    condition     = output.host == "registry.example.com" && aws_apigatewayv2_api.registry[0].disable_execute_api_endpoint
    error_message = "The registry has one name."
  }

  assert {
    condition     = aws_acm_certificate.registry[0].domain_name == "registry.example.com" && aws_route53_record.certificate[0].zone_id == "Z0123456789"
    error_message = "A certificate is made, and proved in the zone."
  }

  assert {
    condition     = toset(keys(aws_route53_record.registry)) == toset(["A", "AAAA"])
    error_message = "The name leads to the API."
  }

  assert {
    condition     = aws_apigatewayv2_api_mapping.registry[0].api_mapping_key == null
    error_message = "Terraform looks at the root of the host."
  }
}

run "a_domain_whose_record_is_written_elsewhere" {
  variables {
    domain = { name = "registry.example.com", certificate_arn = "arn:aws:acm:eu-central-1:111122223333:certificate/0" }
  }

  assert {
    condition     = length(aws_acm_certificate.registry) == 0 && length(aws_route53_record.registry) == 0
    error_message = "Nothing is written in a zone that was not named."
  }

  assert {
    condition     = output.dns.name == "d-abcdef1234.execute-api.eu-central-1.amazonaws.com"
    error_message = "Where the record must lead is told."
  }
}

run "in_a_network_without_a_way_out" {
  variables {
    vpc = {
      id              = "vpc-1"
      subnet_ids      = ["subnet-1", "subnet-2"]
      route_table_ids = ["rtb-1"]
      endpoints       = true
    }
  }

  assert {
    condition     = toset([for endpoint in concat(values(aws_vpc_endpoint.routed), values(aws_vpc_endpoint.named)) : endpoint.service_name]) == toset([for service in ["dynamodb", "s3", "kms", "sts"] : "com.amazonaws.eu-central-1.${service}"])
    error_message = "Every service the function calls has an endpoint."
  }

  assert {
    condition     = one(aws_security_group.endpoints[0].ingress).cidr_blocks == tolist(["10.1.0.0/16", "100.64.0.0/16"])
    error_message = "Everybody in the VPC whom private DNS leads there gets in, and nobody else."
  }

  assert {
    condition     = aws_lambda_function.registry.environment[0].variables.STILE_REGIONS == "eu-central-1"
    error_message = "STS of other regions cannot be reached, and is not believed."
  }

  assert {
    condition     = length(aws_iam_role_policy.network) == 1 && length(aws_lambda_function.registry.vpc_config) == 1
    error_message = "The function is in the network, and its role may be."
  }
}

run "behind_an_internal_load_balancer" {
  variables {
    front  = "load_balancer"
    domain = { name = "registry.example.com", certificate_arn = "arn:aws:acm:eu-central-1:111122223333:certificate/0", zone_id = "Z0123456789" }
    vpc = {
      id           = "vpc-1"
      subnet_ids   = ["subnet-1", "subnet-2"]
      client_cidrs = ["10.0.0.0/8"]
    }
  }

  assert {
    condition     = aws_lb.registry[0].internal && aws_lb_listener.registry[0].protocol == "HTTPS" && aws_lb_target_group.registry[0].lambda_multi_value_headers_enabled
    error_message = "It is internal, speaks TLS, and hands on every header."
  }

  assert {
    condition     = aws_lambda_permission.balancer[0].source_arn == aws_lb_target_group.registry[0].arn
    error_message = "Only this load balancer may invoke the function."
  }

  assert {
    condition     = [for rule in aws_vpc_security_group_ingress_rule.balancer : rule.cidr_ipv4] == ["10.0.0.0/8"]
    error_message = "Only those who are named reach it."
  }

  assert {
    condition     = output.host == "registry.example.com" && output.dns.name == "internal-stile-1.eu-central-1.elb.amazonaws.com"
    error_message = "The name leads to the load balancer."
  }
}

run "grants_become_a_file" {
  variables {
    owned_namespaces = ["web", "acme", "*"]
    grants = [
      { principal = "arn:aws:iam::111122223333:role/deploy", namespace = "acme", permissions = ["upload", "download"], expires = "2027-01-31" },
      { principal = "account:111122223333", namespace = "*", permissions = ["download"] },
    ]
  }

  assert {
    condition = output.grants_file == join("\n", [
      "{\"version\": 1, \"owns\": [\"*\",\"acme\",\"web\"], \"grant\": [",
      "{\"expires\":\"2027-01-31\",\"namespace\":\"acme\",\"permissions\":[\"download\",\"upload\"],\"principal\":\"arn:aws:iam::111122223333:role/deploy\"},",
      "{\"expires\":null,\"namespace\":\"*\",\"permissions\":[\"download\"],\"principal\":\"account:111122223333\"}",
      "]}",
    ])
    error_message = "One grant a line, as stile-admin reads it."
  }

  assert {
    condition     = length(jsondecode(output.grants_file).grant) == 2
    error_message = "The file is JSON."
  }
}

run "every_principal_that_a_file_can_have_is_one_here" {
  command = plan

  variables {
    owned_namespaces = ["acme"]
    grants = [
      for principal in [
        "arn:aws-us-gov:iam::111122223333:user/team/alice",
        "sso:111122223333/Admin",
        "account:aws-cn:111122223333",
        "oidc:release-ci",
        "org:o-a1b2c3d4e5",
        "ou:o-a1b2c3d4e5/r-ab12",
        "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-22222222",
        "account:111122223333/tag:team=data",
        "account:aws-cn:111122223333/tag:cost:center=a/b",
        "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/tag:team=data/tag:x=y",
        "tag:team=data",
      ] : { principal = principal, namespace = "acme", permissions = ["download"] }
    ]
  }

  assert {
    condition     = length(jsondecode(output.grants_file).grant) == 11
    error_message = "The file has each of them."
  }
}

run "a_list_without_grants_can_own_namespaces" {
  command = plan

  variables {
    owned_namespaces = ["acme"]
  }

  assert {
    condition     = jsondecode(output.grants_file) == jsondecode("{\"version\": 1, \"owns\": [\"acme\"], \"grant\": []}")
    error_message = "Every grant on acme is deleted."
  }
}

run "without_grants_there_is_a_file_that_owns_nothing" {
  command = plan

  assert {
    condition     = jsondecode(output.grants_file) == jsondecode("{\"version\": 1, \"owns\": [], \"grant\": []}")
    error_message = "The commands of the first deployment work without grants, too."
  }
}

run "a_namespace_stays_owned_without_its_last_grant" {
  command = plan

  variables {
    owned_namespaces = ["acme", "web"]
    grants           = [{ principal = "account:111122223333", namespace = "acme", permissions = ["download"] }]
  }

  assert {
    condition     = jsondecode(output.grants_file).owns == ["acme", "web"]
    error_message = "stile-admin deletes the last grant on web."
  }
}

run "by_default_the_function_writes_no_grant" {
  assert {
    condition = alltrue([
      for statement in data.aws_iam_policy_document.store.statement : !startswith(statement.sid, "Grants") && (statement.sid == "ProvidersKeep" || !contains(statement.actions, "dynamodb:ConditionCheckItem"))
    ])
    error_message = "No statement is about grants."
  }

  assert {
    condition = alltrue(flatten([
      for statement in data.aws_iam_policy_document.store.statement : [
        for condition in statement.condition : length(setintersection(condition.values, ["folded *", "grants", "namespace *", "principal *", "service tokens"])) == 0
      ]
    ]))
    error_message = "No condition lets a row of a grant through."
  }
}

run "the_function_adds_no_event_to_the_chain_of_operators" {
  variables {
    delegated_grants = true
  }

  assert {
    condition = [
      for statement in data.aws_iam_policy_document.store.statement : [tolist(statement.actions), [for condition in statement.condition : [condition.test, condition.variable, tolist(condition.values)]]] if statement.effect == "Deny"
    ] == [[tolist(["dynamodb:PutItem"]), [["ForAnyValue:StringEquals", "dynamodb:LeadingKeys", tolist(["audit events *"])]]]]
    error_message = "A put into the partition of that name, and of no other, is denied."
  }
}

run "with_delegated_grants_the_function_writes_rows_of_grants_and_no_others" {
  variables {
    delegated_grants = true
  }

  assert {
    condition = {
      for statement in data.aws_iam_policy_document.store.statement : statement.sid => [tolist(statement.actions), one([for condition in statement.condition : sort(condition.values)])] if startswith(statement.sid, "Grants")
      } == {
      GrantsWrite  = [tolist(["dynamodb:PutItem"]), tolist(["audit events *", "grants", "namespace *", "principal *", "service tokens"])]
      GrantsDelete = [tolist(["dynamodb:DeleteItem"]), tolist(["folded *", "grants", "namespace *", "service tokens"])]
      GrantsKeep   = [tolist(["dynamodb:ConditionCheckItem"]), tolist(["principal *", "revocations", "trusts"])]
    }
    error_message = "The function writes rows of grants, deletes those of lists, and checks documents."
  }
}

run "by_default_no_access_log_and_no_trace" {
  assert {
    condition     = length(aws_cloudwatch_log_group.access) + length(aws_apigatewayv2_stage.registry[0].access_log_settings) == 0
    error_message = "API Gateway writes no log."
  }

  assert {
    condition     = length(aws_s3_bucket_logging.modules) + length(aws_lambda_function.registry.tracing_config) + length(aws_iam_role_policy.tracing) == 0
    error_message = "The bucket writes no log, and the function no traces."
  }
}

run "an_access_log_of_api_gateway" {
  variables {
    api_access_log = {}
  }

  assert {
    condition     = aws_cloudwatch_log_group.access[0].retention_in_days == 365 && aws_cloudwatch_log_group.access[0].kms_key_id == aws_kms_key.data.arn
    error_message = "The log has the retention of the function's log, and the data key."
  }

  assert {
    condition     = aws_apigatewayv2_stage.registry[0].access_log_settings[0].destination_arn == aws_cloudwatch_log_group.access[0].arn
    error_message = "The stage writes to that group."
  }

  assert {
    condition = length(setintersection(values(jsondecode(aws_apigatewayv2_stage.registry[0].access_log_settings[0].format)), [
      "$context.path", "$context.identity.userAgent", "$context.authorizer.error", "$context.error.message",
    ])) == 0
    error_message = "No field contains a text of the caller."
  }

  assert {
    condition = contains(flatten([
      for statement in data.aws_iam_policy_document.data_key.statement : [for condition in statement.condition : condition.values]
    ]), "arn:aws:logs:eu-central-1:111122223333:log-group:${aws_cloudwatch_log_group.access[0].name}")
    error_message = "CloudWatch may use the data key for that group."
  }
}

run "an_access_log_with_its_own_retention_and_key" {
  variables {
    api_access_log = { retention_days = 0, kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/1" }
  }

  assert {
    condition     = aws_cloudwatch_log_group.access[0].retention_in_days == 0 && aws_cloudwatch_log_group.access[0].kms_key_id == "arn:aws:kms:eu-central-1:111122223333:key/1"
    error_message = "What is named counts."
  }
}

run "access_logs_of_the_bucket_and_of_the_load_balancer" {
  variables {
    access_log_bucket = "acme-access-logs"
    front             = "load_balancer"
    domain            = { name = "registry.example.com", certificate_arn = "arn:aws:acm:eu-central-1:111122223333:certificate/0" }
    vpc = {
      id           = "vpc-1"
      subnet_ids   = ["subnet-1", "subnet-2"]
      client_cidrs = ["10.0.0.0/8"]
    }
  }

  assert {
    condition     = aws_s3_bucket_logging.modules[0].target_bucket == "acme-access-logs" && aws_s3_bucket_logging.modules[0].target_prefix == "stile/archives/"
    error_message = "The bucket of the archives writes its log there."
  }

  assert {
    condition     = aws_lb.registry[0].access_logs[0].enabled && aws_lb.registry[0].access_logs[0].bucket == "acme-access-logs" && aws_lb.registry[0].access_logs[0].prefix == "stile/balancer"
    error_message = "So does the load balancer."
  }
}

run "traces" {
  variables {
    tracing_mode = "Active"
  }

  assert {
    condition     = aws_lambda_function.registry.tracing_config[0].mode == "Active"
    error_message = "The function is traced."
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.tracing[0].statement : statement.actions]) == ["xray:PutTelemetryRecords", "xray:PutTraceSegments"]
    error_message = "Its role may send traces, and nothing else."
  }
}

run "the_trace_header_is_passed_on" {
  variables {
    tracing_mode = "PassThrough"
  }

  assert {
    condition     = aws_lambda_function.registry.tracing_config[0].mode == "PassThrough" && length(aws_iam_role_policy.tracing) == 0
    error_message = "A role that sends no traces has no right to."
  }
}

run "a_grant_ends_when_stile_admin_says_it_can" {
  command = plan

  variables {
    owned_namespaces = ["acme"]
    grants = [
      for index, expires in [
        "never", "2027-01-31", "2028-02-29", "2020-01-01", "9999-12-31",
        "2027-01-31T18:00:00Z", "2027-01-31t18:00:00z", "2027-01-31 18:00:00.25-23:59",
      ] : { principal = "account:${format("%012d", index)}", namespace = "acme", permissions = ["download"], expires = expires }
    ]
  }

  assert {
    condition     = [for grant in jsondecode(output.grants_file).grant : grant.expires] == [for grant in var.grants : grant.expires]
    error_message = "What was given is what stile-admin is given."
  }
}

run "an_alarm_for_each_of_what_aws_counts_and_the_log_says" {
  assert {
    condition     = length(aws_cloudwatch_metric_alarm.counted) == 2 && length(aws_cloudwatch_metric_alarm.logged) == 5 && length(aws_cloudwatch_log_metric_filter.logged) == 5
    error_message = "docs/operations.md counts seven alarms and five metrics."
  }
}

run "by_default_no_instance_is_reserved_and_every_stage_is_throttled" {
  assert {
    condition     = aws_lambda_function.registry.reserved_concurrent_executions == -1
    error_message = "A new account cannot reserve any instance."
  }

  assert {
    condition = (
      aws_apigatewayv2_stage.registry[0].default_route_settings[0].throttling_rate_limit == 500 &&
      aws_apigatewayv2_stage.registry[0].default_route_settings[0].throttling_burst_limit == 1000
    )
    error_message = "The README has these two numbers."
  }
}

run "limits_of_callers_that_an_operator_sets" {
  variables {
    reserved_concurrency = 1
    throttle             = { rate = 20, burst = 40 }
  }

  assert {
    condition     = aws_lambda_function.registry.reserved_concurrent_executions == 1
    error_message = "The function has at most one instance."
  }

  assert {
    condition = (
      aws_apigatewayv2_stage.registry[0].default_route_settings[0].throttling_rate_limit == 20 &&
      aws_apigatewayv2_stage.registry[0].default_route_settings[0].throttling_burst_limit == 40
    )
    error_message = "The stage accepts as many requests as the operator says."
  }
}

run "what_is_odd_and_allowed" {
  command = plan

  variables {
    host     = "registry.example.com:65535"
    regions  = ["eu-central-1", "us-gov-west-1", "eusc-de-east-1"]
    throttle = { rate = 1.5, burst = 1 }
    tags     = { "Cost Centre" = "" }
  }

  assert {
    condition     = output.host == "registry.example.com:65535" && aws_lambda_function.registry.environment[0].variables.STILE_REGIONS == "eu-central-1,eusc-de-east-1,us-gov-west-1"
    error_message = "The function is told what was given."
  }

  assert {
    condition     = aws_apigatewayv2_stage.registry[0].default_route_settings[0].throttling_rate_limit == 1.5
    error_message = "A rate need not be a whole number."
  }
}

run "without_alarms" {
  variables {
    alarms = null
  }

  assert {
    condition     = length(aws_cloudwatch_metric_alarm.counted) + length(aws_cloudwatch_metric_alarm.logged) + length(aws_cloudwatch_log_metric_filter.logged) == 0
    error_message = "Nothing is watched."
  }
}

run "a_package_in_a_bucket" {
  variables {
    package_path = null
    package_s3   = { bucket = "packages", key = "stile.zip", version = "v1" }
  }

  assert {
    condition     = aws_lambda_function.registry.s3_object_version == "v1" && aws_lambda_function.registry.filename == null
    error_message = "The function is what that version of the object is."
  }
}

run "by_default_the_role_reads_no_other_bucket" {
  assert {
    condition = alltrue([for statement in data.aws_iam_policy_document.store.statement :
      !contains(["SourceObjects", "SourceObjectsEncryption"], statement.sid)
    ])
    error_message = "Without source_buckets, there is no statement about other buckets."
  }
}

run "the_role_reads_the_objects_of_source_buckets_and_no_others" {
  variables {
    source_buckets = [
      { bucket = "acme-modules", prefix = "terraform/x" },
      { bucket = "acme-more", prefix = null },
      {
        bucket      = "acme-secret"
        prefix      = "y"
        kms_key_arn = "arn:aws:kms:eu-west-1:444455556666:key/b41d0816-7df2-462b-ac8a-2d8e44d373c3"
      },
    ]
  }

  assert {
    condition = [for statement in data.aws_iam_policy_document.store.statement : statement.resources if statement.sid == "SourceObjects"] == [toset([
      "arn:aws:s3:::acme-modules/terraform/x",
      "arn:aws:s3:::acme-modules/terraform/x/*",
      "arn:aws:s3:::acme-more/*",
      "arn:aws:s3:::acme-secret/y",
      "arn:aws:s3:::acme-secret/y/*",
    ])]
    error_message = "A prefix ends at a slash."
  }

  assert {
    condition     = [for statement in data.aws_iam_policy_document.store.statement : statement.actions if statement.sid == "SourceObjects"] == [toset(["s3:GetObject", "s3:GetObjectVersion"])]
    error_message = "The role reads objects, and lists and writes nothing."
  }

  assert {
    condition = [for statement in data.aws_iam_policy_document.store.statement : statement.resources if statement.sid == "SourceObjectsEncryption"] == [toset([
      "arn:aws:kms:eu-west-1:444455556666:key/b41d0816-7df2-462b-ac8a-2d8e44d373c3",
    ])]
    error_message = "The role decrypts with the keys of the objects."
  }

  assert {
    condition = [
      for statement in data.aws_iam_policy_document.store.statement : one(statement.condition).values
      if statement.sid == "SourceObjectsEncryption"
    ] == [tolist(["s3.eu-west-1.amazonaws.com"])]
    error_message = "Only S3 in the region of the key decrypts."
  }
}

run "in_another_partition_kms_has_two_names_of_s3" {
  variables {
    source_buckets = [{
      bucket      = "acme-secret"
      kms_key_arn = "arn:aws-cn:kms:cn-north-1:444455556666:key/mrk-b41d08167df2462bac8a2d8e44d373c3"
    }]
  }

  override_data {
    target = data.aws_partition.current
    values = {
      partition  = "aws-cn"
      dns_suffix = "amazonaws.com.cn"
    }
  }

  assert {
    condition = [
      for statement in data.aws_iam_policy_document.store.statement : toset(one(statement.condition).values)
      if statement.sid == "SourceObjectsEncryption"
    ] == [toset(["s3.cn-north-1.amazonaws.com", "s3.cn-north-1.amazonaws.com.cn"])]
    error_message = "Objects and archives have the same names of S3, each in the region of its key."
  }

  assert {
    condition = [
      for statement in data.aws_iam_policy_document.store.statement : toset(one(statement.condition).values)
      if statement.sid == "ArchivesEncryption"
    ] == [toset(["s3.eu-central-1.amazonaws.com", "s3.eu-central-1.amazonaws.com.cn"])]
    error_message = "So does the data key."
  }
}

run "a_schedule_invokes_exactly_this_function_each_minute" {
  assert {
    condition     = aws_scheduler_schedule.tick[0].schedule_expression == "rate(1 minute)" && aws_scheduler_schedule.tick[0].target[0].arn == aws_lambda_function.registry.arn
    error_message = "The schedule invokes the function each minute."
  }

  assert {
    condition     = jsondecode(aws_scheduler_schedule.tick[0].target[0].input) == { stile = { internal = "tick", v = 1 } }
    error_message = "The input is the whole internal event."
  }

  assert {
    condition     = aws_scheduler_schedule.tick[0].target[0].role_arn == aws_iam_role.schedule[0].arn && aws_scheduler_schedule.tick[0].target[0].retry_policy[0].maximum_retry_attempts == 0
    error_message = "The schedule has a role of its own, and does not repeat an invocation that Lambda did not take."
  }

  assert {
    condition     = aws_lambda_function_event_invoke_config.tick[0].function_name == aws_lambda_function.registry.function_name && aws_lambda_function_event_invoke_config.tick[0].maximum_retry_attempts == 0 && aws_lambda_function_event_invoke_config.tick[0].maximum_event_age_in_seconds == 60
    error_message = "Lambda does not repeat a tick that failed, and drops one that waited for a minute."
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.schedule[0].statement : concat(tolist(statement.actions), tolist(statement.resources))]) == ["lambda:InvokeFunction", aws_lambda_function.registry.arn]
    error_message = "The role of the schedule may invoke this function and do nothing else."
  }
}

run "without_a_schedule_nothing_else_may_invoke_the_function" {
  variables {
    schedule = false
  }

  assert {
    condition     = length(aws_scheduler_schedule.tick) + length(aws_lambda_function_event_invoke_config.tick) + length(aws_iam_role.schedule) + length(aws_iam_role_policy.schedule) == 0
    error_message = "There is neither a schedule nor its role."
  }
}

run "metrics_have_a_price_and_are_off" {
  assert {
    condition     = length(aws_cloudwatch_dashboard.registry) == 0 && !contains(keys(aws_lambda_function.registry.environment[0].variables), "STILE_METRICS_NAMESPACE")
    error_message = "There are neither metrics nor a dashboard."
  }
}

run "the_dashboard_searches_the_namespace_of_the_function" {
  variables {
    metrics = true
  }

  assert {
    condition     = aws_lambda_function.registry.environment[0].variables.STILE_METRICS_NAMESPACE == "Stile/stile"
    error_message = "The function writes metrics."
  }

  assert {
    condition     = alltrue([for widget in jsondecode(aws_cloudwatch_dashboard.registry[0].dashboard_body).widgets : strcontains(jsonencode(widget.properties.metrics), "Stile/stile")])
    error_message = "Each graph has metrics of that namespace."
  }
}

run "the_function_sends_events_to_exactly_one_bus" {
  variables {
    event_bus = true
  }

  assert {
    condition     = aws_lambda_function.registry.environment[0].variables.STILE_EVENT_BUS == aws_cloudwatch_event_bus.registry[0].arn
    error_message = "The function knows the bus."
  }

  assert {
    condition     = flatten([for statement in data.aws_iam_policy_document.store.statement : tolist(statement.resources) if contains(statement.actions, "events:PutEvents")]) == [aws_cloudwatch_event_bus.registry[0].arn]
    error_message = "The function may send to this bus only."
  }
}

run "without_a_bus_the_function_may_send_to_none" {
  assert {
    condition     = !contains(keys(aws_lambda_function.registry.environment[0].variables), "STILE_EVENT_BUS") && length([for statement in data.aws_iam_policy_document.store.statement : statement if contains(statement.actions, "events:PutEvents")]) == 0
    error_message = "No bus, no right."
  }
}

run "private_issuers_are_a_list_of_the_function" {
  command = plan

  variables {
    private_issuers = ["https://gitlab.corp.example", "https://ci.corp.example/oidc"]
  }

  assert {
    condition     = aws_lambda_function.registry.environment[0].variables.STILE_PRIVATE_ISSUERS == "https://ci.corp.example/oidc,https://gitlab.corp.example"
    error_message = "The broker reads them with commas between them."
  }
}

run "without_private_issuers_the_function_has_no_list_of_them" {
  command = plan

  assert {
    condition     = !contains(keys(aws_lambda_function.registry.environment[0].variables), "STILE_PRIVATE_ISSUERS")
    error_message = "Every issuer must be at a public address."
  }
}
