# Wrong variables are refused when a plan is made, each with a sentence.

mock_provider "aws" {
  source = "./tests/mocks"
}

variables {
  package_path = "versions.tf"
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
    vpc   = { id = "vpc-1", subnet_ids = ["subnet-1", "subnet-2"] }
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

run "a_whole_account_of_operators" {
  command = plan

  variables {
    operator_arns = ["arn:aws:iam::111122223333:root"]
  }

  expect_failures = [var.operator_arns]
}

run "a_function_that_ends_before_sts_answers" {
  command = plan

  variables {
    timeout = 3
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
