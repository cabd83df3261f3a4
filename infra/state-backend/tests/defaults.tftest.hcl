# The defaults, and the effect of each switch.

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
    network = { principal_arns = ["arn:aws:iam::111122223333:role/deploy"], external_id = "acme:network" }
    website = { principal_arns = ["arn:aws:iam::444455556666:root"] }
  }
}

run "nothing_is_deleted_and_no_lock_table_is_made" {
  command = plan

  assert {
    condition     = !aws_s3_bucket.state.force_destroy
    error_message = "Every state would be deleted with the bucket."
  }

  assert {
    condition     = length(aws_dynamodb_table.lock) == 0 && output.lock_table == null
    error_message = "There is a lock table."
  }

  assert {
    condition     = join(" ", keys(output.backend["network"])) == "opentofu_from_1_10 terraform_from_1_10"
    error_message = "A client without a lock is served."
  }

  assert {
    condition     = aws_kms_key.state.enable_key_rotation && aws_kms_key.state.deletion_window_in_days == 30
    error_message = "The key does not rotate, or is gone too soon."
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.project : role.permissions_boundary == null]) && length(aws_s3_bucket_logging.state) == 0
    error_message = "A boundary or a log bucket comes from nowhere."
  }
}

run "a_lock_table_is_kept_as_the_bucket_is" {
  command = plan

  variables {
    lock_table = true
  }

  assert {
    condition     = aws_dynamodb_table.lock[0].deletion_protection_enabled && aws_dynamodb_table.lock[0].point_in_time_recovery[0].enabled && aws_dynamodb_table.lock[0].server_side_encryption[0].enabled
    error_message = "The table can be deleted, cannot be restored or is not encrypted with the module's key."
  }

  assert {
    condition     = aws_dynamodb_table.lock[0].hash_key == "LockID" && aws_dynamodb_table.lock[0].billing_mode == "PAY_PER_REQUEST"
    error_message = "The table is not what the `s3` backend looks for."
  }

  assert {
    condition     = length(output.backend["website"]) == 4
    error_message = "A client is missing."
  }
}

run "giving_up_is_one_switch" {
  command = plan

  variables {
    lock_table    = true
    force_destroy = true
  }

  assert {
    condition     = aws_s3_bucket.state.force_destroy && !aws_dynamodb_table.lock[0].deletion_protection_enabled
    error_message = "The bucket or the table would stay."
  }
}

run "an_organisation_gets_its_boundary_and_its_logs" {
  command = plan

  variables {
    permissions_boundary_arn = "arn:aws:iam::111122223333:policy/boundary"
    access_log_bucket        = "acme-access-logs"
    noncurrent_version_days  = 30
    key_deletion_days        = 7
    tags                     = { Owner = "platform" }
  }

  assert {
    condition     = alltrue([for role in aws_iam_role.project : role.permissions_boundary == "arn:aws:iam::111122223333:policy/boundary"])
    error_message = "A role has no boundary."
  }

  assert {
    condition     = aws_s3_bucket_logging.state[0].target_bucket == "acme-access-logs" && aws_s3_bucket_logging.state[0].target_prefix == "${aws_s3_bucket.state.bucket}/"
    error_message = "Access is logged elsewhere."
  }

  assert {
    condition     = aws_s3_bucket.state.tags["Owner"] == "platform" && aws_iam_role.project["website"].tags["StateProject"] == "website"
    error_message = "Tags are missing."
  }
}
