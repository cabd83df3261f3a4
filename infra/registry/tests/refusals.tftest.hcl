# Wrong variables are refused when a plan is made, each with a sentence.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_path     = "versions.tf"
  owned_namespaces = ["acme"]
}

run "a_name_that_no_bucket_can_have" {
  command = plan

  variables {
    name = "Stile_Registry"
  }

  expect_failures = [var.name]
}

run "a_name_that_is_too_long_for_a_bucket" {
  command = plan

  variables {
    name = "a-registry-for-every-platform-team"
  }

  expect_failures = [var.name]
}

run "no_package" {
  command = plan

  variables {
    package_path = null
  }

  expect_failures = [var.package_path]
}

run "two_packages" {
  command = plan

  variables {
    package_s3 = { bucket = "packages", key = "stile.zip" }
  }

  expect_failures = [var.package_path]
}

run "a_package_that_is_not_there" {
  command = plan

  variables {
    package_path = "nothing-here.zip"
  }

  expect_failures = [var.package_path]
}

run "a_life_over_the_maximum" {
  command = plan

  variables {
    default_ttl = 7200
    max_ttl     = 3600
  }

  expect_failures = [var.default_ttl]
}

run "a_maximum_over_what_the_broker_takes" {
  command = plan

  variables {
    max_ttl = 43201
  }

  expect_failures = [var.max_ttl]
}

run "a_link_for_a_day" {
  command = plan

  variables {
    link_ttl = 86400
  }

  expect_failures = [var.link_ttl]
}

run "a_domain_without_certificate_and_without_zone" {
  command = plan

  variables {
    domain = { name = "registry.example.com" }
  }

  expect_failures = [var.domain]
}

run "a_domain_before_a_function_url" {
  command = plan

  variables {
    front  = "function_url"
    domain = { name = "registry.example.com", zone_id = "Z1" }
  }

  expect_failures = [var.domain]
}

run "a_host_with_a_scheme" {
  command = plan

  variables {
    host = "https://registry.example.com"
  }

  expect_failures = [var.host]
}

run "signatures_where_nothing_verifies_them_on_one_route_alone" {
  command = plan

  variables {
    front     = "function_url"
    iam_route = true
  }

  expect_failures = [var.iam_route]
}

run "a_load_balancer_nowhere" {
  command = plan

  variables {
    front  = "load_balancer"
    domain = { name = "registry.example.com", zone_id = "Z1" }
  }

  expect_failures = [var.vpc]
}

run "a_load_balancer_without_a_name" {
  command = plan

  variables {
    front = "load_balancer"
    vpc   = { id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_cidrs = ["10.0.0.0/8"] }
  }

  expect_failures = [var.domain]
}

run "a_grant_on_a_namespace_that_can_be_none" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy", namespace = "Acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_list_that_owns_what_can_be_no_namespace" {
  command = plan

  variables {
    owned_namespaces = ["all"]
  }

  expect_failures = [var.owned_namespaces]
}

run "a_grant_on_a_namespace_that_the_list_does_not_own" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy", namespace = "web", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_pattern" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/*", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_of_nothing" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy", namespace = "acme", permissions = [] }]
  }

  expect_failures = [var.grants]
}

run "a_function_that_ends_before_sts_answers" {
  command = plan

  variables {
    timeout  = 3
    schedule = false
  }

  expect_failures = [var.timeout]
}

run "a_function_that_may_not_run" {
  command = plan

  variables {
    reserved_concurrency = 0
  }

  expect_failures = [var.reserved_concurrency]
}

run "a_retention_that_cloudwatch_does_not_have" {
  command = plan

  variables {
    log_retention_days = 42
  }

  expect_failures = [var.log_retention_days]
}

run "endpoints_without_routes" {
  command = plan

  variables {
    vpc = { id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], endpoints = true }
  }

  expect_failures = [var.vpc]
}

run "a_package_in_a_bucket_by_its_arn" {
  command = plan

  variables {
    package_path = null
    package_s3   = { bucket = "arn:aws:s3:::packages", key = "stile.zip" }
  }

  expect_failures = [var.package_s3]
}

run "a_package_without_a_key" {
  command = plan

  variables {
    package_path = null
    package_s3   = { bucket = "packages", key = " " }
  }

  expect_failures = [var.package_s3]
}

run "a_package_of_an_empty_version" {
  command = plan

  variables {
    package_path = null
    package_s3   = { bucket = "packages", key = "stile.zip", version = "" }
  }

  expect_failures = [var.package_s3]
}

run "a_port_that_there_is_not" {
  command = plan

  variables {
    host = "registry.example.com:65536"
  }

  expect_failures = [var.host]
}

run "a_port_of_zero" {
  command = plan

  variables {
    host = "registry.example.com:0"
  }

  expect_failures = [var.host]
}

run "a_certificate_of_another_region" {
  command = plan

  variables {
    domain = { name = "registry.example.com", certificate_arn = "arn:aws:acm:us-east-1:111122223333:certificate/0" }
  }

  expect_failures = [aws_apigatewayv2_domain_name.registry]
}

run "a_certificate_of_another_region_before_a_load_balancer" {
  command = plan

  variables {
    front  = "load_balancer"
    domain = { name = "registry.example.com", certificate_arn = "arn:aws:acm:us-east-1:111122223333:certificate/0" }
    vpc    = { id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_cidrs = ["10.0.0.0/8"] }
  }

  expect_failures = [aws_lb_listener.registry]
}

run "less_than_a_request_a_second" {
  command = plan

  variables {
    throttle = { rate = 0 }
  }

  expect_failures = [var.throttle]
}

run "half_a_request_at_once" {
  command = plan

  variables {
    throttle = { burst = 1.5 }
  }

  expect_failures = [var.throttle]
}

run "a_network_by_its_name" {
  command = plan

  variables {
    vpc = { id = "main", subnet_ids = ["subnet-1", "subnet-2"] }
  }

  expect_failures = [var.vpc]
}

run "one_subnet" {
  command = plan

  variables {
    vpc = { id = "vpc-1", subnet_ids = ["subnet-1"] }
  }

  expect_failures = [var.vpc]
}

run "subnets_by_their_arns" {
  command = plan

  variables {
    vpc = { id = "vpc-1", subnet_ids = ["arn:aws:ec2:eu-central-1:111122223333:subnet/subnet-1", "subnet-2"] }
  }

  expect_failures = [var.vpc]
}

run "one_subnet_twice" {
  command = plan

  variables {
    vpc = { id = "vpc-1", subnet_ids = ["subnet-1", "subnet-1"] }
  }

  expect_failures = [var.vpc]
}

run "clients_by_ipv6" {
  command = plan

  variables {
    vpc = { id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], client_cidrs = ["fd00::/8"] }
  }

  expect_failures = [var.vpc]
}

run "a_load_balancer_that_nobody_reaches" {
  command = plan

  variables {
    front  = "load_balancer"
    domain = { name = "registry.example.com", zone_id = "Z1" }
    vpc    = { id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"] }
  }

  expect_failures = [var.vpc]
}

run "fips_where_sts_has_its_plain_name_alone" {
  command = plan

  variables {
    fips    = true
    regions = ["us-east-1"]
    vpc     = { id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"], route_table_ids = ["rtb-1"], endpoints = true }
  }

  expect_failures = [var.fips]
}

run "a_region_that_aws_does_not_have" {
  command = plan

  variables {
    regions = ["eu-central-9"]
  }

  expect_failures = [var.regions]
}

run "a_grant_for_a_permission_set_without_its_name" {
  command = plan

  variables {
    grants = [{ principal = "sso:111122223333", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_part_of_an_account" {
  command = plan

  variables {
    grants = [{ principal = "account:111122223333/deploy", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_partition_that_aws_does_not_have" {
  command = plan

  variables {
    grants = [{ principal = "account:aws-moon:111122223333", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_path_without_a_name" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/team/", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_duration" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy", namespace = "acme", permissions = ["download"], expires = "90d" }]
  }

  expect_failures = [var.grants]
}

run "a_grant_until_a_date_that_there_is_not" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy", namespace = "acme", permissions = ["download"], expires = "2027-02-29" }]
  }

  expect_failures = [var.grants]
}

run "a_grant_until_a_time_on_a_date_that_there_is_not" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy", namespace = "acme", permissions = ["download"], expires = "2027-02-30T00:00:00Z" }]
  }

  expect_failures = [var.grants]
}

run "a_grant_until_a_time_without_its_offset" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy", namespace = "acme", permissions = ["download"], expires = "2027-01-31T18:00:00" }]
  }

  expect_failures = [var.grants]
}

run "a_grant_until_more_than_a_time" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy", namespace = "acme", permissions = ["download"], expires = "2027-01-31 and more" }]
  }

  expect_failures = [var.grants]
}

run "an_access_log_of_a_stage_that_there_is_not" {
  command = plan

  variables {
    front          = "function_url"
    api_access_log = {}
  }

  expect_failures = [var.api_access_log]
}

run "an_access_log_for_a_number_of_days_that_cloudwatch_has_not" {
  command = plan

  variables {
    api_access_log = { retention_days = 2 }
  }

  expect_failures = [var.api_access_log]
}

run "an_access_log_under_an_alias" {
  command = plan

  variables {
    api_access_log = { kms_key_arn = "alias/logs" }
  }

  expect_failures = [var.api_access_log]
}

run "an_access_log_in_a_bucket_by_its_arn" {
  command = plan

  variables {
    access_log_bucket = "arn:aws:s3:::logs"
  }

  expect_failures = [var.access_log_bucket]
}

run "traces_in_a_mode_that_there_is_not" {
  command = plan

  variables {
    tracing_mode = "On"
  }

  expect_failures = [var.tracing_mode]
}

run "half_a_megabyte" {
  command = plan

  variables {
    memory_size = 512.5
  }

  expect_failures = [var.memory_size]
}

run "half_a_second" {
  command = plan

  variables {
    timeout = 60.5
  }

  expect_failures = [var.timeout]
}

run "half_an_instance" {
  command = plan

  variables {
    reserved_concurrency = 1.5
  }

  expect_failures = [var.reserved_concurrency]
}

run "half_a_day_of_recovery" {
  command = plan

  variables {
    recovery_days = 34.5
  }

  expect_failures = [var.recovery_days]
}

run "half_a_day_of_deletion" {
  command = plan

  variables {
    key_deletion_days = 7.5
  }

  expect_failures = [var.key_deletion_days]
}

run "half_an_exchange" {
  command = plan

  variables {
    alarms = { refused_exchanges = 1.5 }
  }

  expect_failures = [var.alarms]
}

run "a_bucket_by_a_name_that_is_reserved" {
  command = plan

  variables {
    bucket_name = "xn--modules"
  }

  expect_failures = [var.bucket_name]
}

run "a_bucket_by_an_end_that_is_reserved" {
  command = plan

  variables {
    bucket_name = "modules-s3alias"
  }

  expect_failures = [var.bucket_name]
}

run "a_tag_that_is_aws_s_own" {
  command = plan

  variables {
    tags = { "aws:owner" = "platform" }
  }

  expect_failures = [var.tags]
}

run "a_source_bucket_by_its_arn" {
  command = plan

  variables {
    source_buckets = [{ bucket = "arn:aws:s3:::acme-modules" }]
  }

  expect_failures = [var.source_buckets]
}

run "a_source_bucket_by_an_access_point" {
  command = plan

  variables {
    source_buckets = [{ bucket = "acme-ab12cd34-s3alias" }]
  }

  expect_failures = [var.source_buckets]
}

run "a_source_bucket_with_a_pattern" {
  command = plan

  variables {
    source_buckets = [{ bucket = "acme-modules", prefix = "terraform/*" }]
  }

  expect_failures = [var.source_buckets]
}

run "a_source_bucket_with_a_way_up" {
  command = plan

  variables {
    source_buckets = [{ bucket = "acme-modules", prefix = "terraform/../secret" }]
  }

  expect_failures = [var.source_buckets]
}

run "a_source_bucket_with_a_slash_at_the_end" {
  command = plan

  variables {
    source_buckets = [{ bucket = "acme-modules", prefix = "terraform/" }]
  }

  expect_failures = [var.source_buckets]
}

run "a_source_bucket_with_an_alias_of_a_key" {
  command = plan

  variables {
    source_buckets = [{ bucket = "acme-modules", kms_key_arn = "alias/acme" }]
  }

  expect_failures = [var.source_buckets]
}

run "a_source_bucket_with_a_pattern_of_keys_of_kms" {
  command = plan

  variables {
    source_buckets = [{ bucket = "acme-modules", kms_key_arn = "arn:aws:kms:eu-central-1:111122223333:key/*" }]
  }

  expect_failures = [var.source_buckets]
}

run "the_own_bucket_as_a_source_bucket" {
  command = plan

  variables {
    bucket_name    = "acme-stile"
    source_buckets = [{ bucket = "acme-modules" }, { bucket = "acme-stile", prefix = "modules/acme" }]
  }

  expect_failures = [aws_iam_role_policy.store]
}

run "a_schedule_whose_ticks_lambda_could_end" {
  command = plan

  variables {
    timeout = 29
  }

  expect_failures = [var.schedule]
}

run "a_bus_to_which_the_function_would_send_nothing" {
  command = plan

  variables {
    event_bus = true
    schedule  = false
  }

  expect_failures = [var.event_bus]
}

run "a_grant_for_a_service" {
  command = plan

  variables {
    grants = [{ principal = "service:renovate", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_an_organization_without_its_id" {
  command = plan

  variables {
    grants = [{ principal = "org:o-acme", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_unit_without_its_root" {
  command = plan

  variables {
    grants = [{ principal = "ou:o-a1b2c3d4e5/ou-ab12-11111111", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_unit_that_is_too_deep" {
  command = plan

  variables {
    grants = [{ principal = "ou:o-a1b2c3d4e5/r-ab12/ou-ab12-11111111/ou-ab12-11111111/ou-ab12-11111111/ou-ab12-11111111/ou-ab12-11111111/ou-ab12-11111111", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_tag_without_its_value" {
  command = plan

  variables {
    grants = [{ principal = "account:111122223333/tag:team", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_tag_of_aws" {
  command = plan

  variables {
    grants = [{ principal = "account:111122223333/tag:AWS:createdBy=deploy", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_grant_for_a_tag_of_a_role" {
  command = plan

  variables {
    grants = [{ principal = "arn:aws:iam::111122223333:role/deploy/tag:team=data", namespace = "acme", permissions = ["download"] }]
  }

  expect_failures = [var.grants]
}

run "a_private_issuer_without_tls" {
  command = plan

  variables {
    private_issuers = ["http://gitlab.corp.example"]
  }

  expect_failures = [var.private_issuers]
}

run "two_private_issuers_in_one_text" {
  command = plan

  variables {
    private_issuers = ["https://a.corp.example,https://b.corp.example"]
  }

  expect_failures = [var.private_issuers]
}
