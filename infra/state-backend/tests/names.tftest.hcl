# Every name is valid in AWS for every namespace, and no two namespaces get the same names.

mock_provider "aws" {
  mock_data "aws_caller_identity" {
    defaults = { account_id = "111122223333" }
  }

  mock_data "aws_partition" {
    defaults = { partition = "aws", dns_suffix = "amazonaws.com" }
  }

  mock_data "aws_region" {
    defaults = { id = "eu-central-1" }
  }

  mock_data "aws_iam_policy_document" {
    defaults = { json = "{\"Version\":\"2012-10-17\",\"Statement\":[]}" }
  }
}

variables {
  namespace = "acme"
  projects = {
    network = { principal_arns = ["arn:aws:iam::111122223333:root"] }
  }
}

run "a_plain_namespace_is_in_every_name" {
  command = plan

  assert {
    condition     = aws_s3_bucket.state.bucket == "tfstate-acme-4bb16c2b0b" && aws_kms_alias.state.name == "alias/tfstate-acme-4bb16c2b0b"
    error_message = "The bucket is `${aws_s3_bucket.state.bucket}`, the alias `${aws_kms_alias.state.name}`."
  }

  assert {
    condition     = startswith(aws_iam_role.project["network"].name, "tfstate-acme-network-")
    error_message = "The role is `${aws_iam_role.project["network"].name}`."
  }
}

run "capitals_and_signs_are_left_out" {
  command = plan

  variables {
    namespace  = "Payments & Cards (EU)"
    lock_table = true
  }

  assert {
    condition     = can(regex("^tfstate-payments-cards-eu-[0-9a-f]{10}$", aws_s3_bucket.state.bucket))
    error_message = "The bucket is `${aws_s3_bucket.state.bucket}`."
  }

  assert {
    condition     = aws_dynamodb_table.lock[0].name == aws_s3_bucket.state.bucket
    error_message = "The table is `${aws_dynamodb_table.lock[0].name}`."
  }
}

run "a_namespace_of_the_same_words_is_another_one" {
  command = plan

  variables {
    namespace = "payments-cards-eu"
  }

  assert {
    condition     = aws_resourcegroups_group.backend.name != run.capitals_and_signs_are_left_out.resource_group && startswith(aws_s3_bucket.state.bucket, "tfstate-payments-cards-eu-")
    error_message = "Both buckets are `${aws_s3_bucket.state.bucket}`."
  }
}

run "a_long_namespace_is_cut_and_keeps_its_digest" {
  command = plan

  variables {
    namespace = "the-department-of-everything-that-has-a-name-longer-than-any-bucket-may-have"
    projects = {
      a-project-whose-name-is-as-long-as-it-be = { principal_arns = ["arn:aws:iam::111122223333:root"] }
    }
  }

  assert {
    condition     = length(aws_s3_bucket.state.bucket) == 63 && can(regex("^tfstate-the-department-[a-z-]+-[0-9a-f]{10}$", aws_s3_bucket.state.bucket))
    error_message = "The bucket is `${aws_s3_bucket.state.bucket}`."
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.project : length(role.name) <= 64 && can(regex("-[0-9a-f]{10}$", role.name))])
    error_message = "The role is `${join(" ", [for role in aws_iam_role.project : role.name])}`."
  }
}

run "a_namespace_without_any_letter_of_ours_has_a_name" {
  command = plan

  variables {
    namespace = "状態"
  }

  assert {
    condition     = can(regex("^tfstate-[0-9a-f]{10}$", aws_s3_bucket.state.bucket))
    error_message = "The bucket is `${aws_s3_bucket.state.bucket}`."
  }
}

run "a_bucket_can_be_named_by_hand" {
  command = plan

  variables {
    bucket_name = "acme-states"
  }

  assert {
    condition     = aws_s3_bucket.state.bucket == "acme-states"
    error_message = "The bucket is `${aws_s3_bucket.state.bucket}`."
  }
}
