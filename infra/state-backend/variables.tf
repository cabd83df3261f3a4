variable "namespace" {
  description = "Owner of the states, in any words: a company, a platform, a landing zone. The names of the resources derive from it."
  type        = string
  nullable    = false

  validation {
    condition     = length(trimspace(var.namespace)) > 0
    error_message = "The namespace is empty: say whose state this is, for example `acme-platform`."
  }
}

variable "projects" {
  description = "Projects that share the backend, each with its own prefix and role. `principal_arns` may assume the role (roles, users or whole accounts as `arn:aws:iam::ACCOUNT:root`), and only with `external_id` if that is set."
  type = map(object({
    principal_arns = set(string)
    external_id    = optional(string)
  }))
  nullable = false

  validation {
    condition     = length(var.projects) >= 1 && length(var.projects) <= 40
    error_message = "A backend serves 1 to 40 projects: the policy of its key, which names the role of each, has a fixed size; use another backend for more."
  }

  validation {
    condition     = alltrue([for name in keys(var.projects) : can(regex("^[a-z0-9]([a-z0-9_-]{0,38}[a-z0-9])?$", name))])
    error_message = "A project's name is 1 to 40 of `a-z`, `0-9`, `-` and `_`, and begins and ends with a letter or digit: it becomes a prefix of the bucket and a part of policies."
  }

  validation {
    condition     = alltrue([for project in var.projects : length(project.principal_arns) > 0])
    error_message = "A project's `principal_arns` is empty: a role that nobody may assume serves nobody."
  }

  validation {
    condition = alltrue(flatten([for project in var.projects : [
      for arn in project.principal_arns : can(regex("^arn:aws(-[a-z]+)*:iam::[0-9]{12}:(root|(role|user)/[A-Za-z0-9+=,.@_/-]+)$", arn))
    ]]))
    error_message = "A principal is the ARN of an IAM role, an IAM user or an account's root, without wildcards; of an assumed role name the role, `arn:aws:iam::ACCOUNT:role/NAME`."
  }

  validation {
    condition     = alltrue([for project in var.projects : project.external_id == null ? true : can(regex("^[A-Za-z0-9+=,.@:/_-]{2,}$", project.external_id)) && length(project.external_id) <= 1224])
    error_message = "An external id is 2 to 1224 letters, digits or `+=,.@:/_-`, as AWS STS takes them."
  }
}

variable "bucket_name" {
  description = "Name of the bucket. Default: derived from the namespace, the account and the region."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null ? true : can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name)) && !can(regex("^(xn--|sthree-|amzn-s3-demo-)|(-s3alias|--ol-s3|--x-s3|--table-s3)$", var.bucket_name))
    error_message = "A bucket's name is 3 to 63 of `a-z`, `0-9` and `-`, begins and ends with a letter or digit, and has none of the prefixes and suffixes that Amazon S3 reserves."
  }
}

variable "lock_table" {
  description = "Whether to create a DynamoDB table for locks as well. Clients before Terraform 1.10 and OpenTofu 1.10 know no other lock. Newer clients then take both locks, so that old and new clients exclude each other."
  type        = bool
  default     = false
  nullable    = false
}

variable "noncurrent_version_days" {
  description = "Days for which an overwritten or deleted state remains."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = var.noncurrent_version_days >= 7 && var.noncurrent_version_days <= 3650 && floor(var.noncurrent_version_days) == var.noncurrent_version_days
    error_message = "States that were written over are kept for 7 to 3650 whole days: they are the only way back from a bad apply."
  }
}

variable "access_log_bucket" {
  description = "Bucket for Amazon S3's server access logs, below this bucket's name. Default: no logs. The bucket must let `logging.s3.amazonaws.com` write."
  type        = string
  default     = null

  validation {
    condition     = var.access_log_bucket == null ? true : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.access_log_bucket))
    error_message = "The access log bucket is given by its name, 3 to 63 of `a-z`, `0-9`, `.` and `-`, not by its ARN."
  }
}

variable "permissions_boundary_arn" {
  description = "ARN of the permissions boundary of the roles, if an organisation requires one."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary_arn == null ? true : can(regex("^arn:aws(-[a-z]+)*:iam::([0-9]{12}|aws):policy/[A-Za-z0-9+=,.@_/-]+$", var.permissions_boundary_arn))
    error_message = "A permissions boundary is the ARN of an IAM policy, `arn:aws:iam::ACCOUNT:policy/NAME`."
  }
}

variable "key_deletion_days" {
  description = "Days in which a destroyed key can be recovered. After that nobody can read any state."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.key_deletion_days >= 7 && var.key_deletion_days <= 30 && floor(var.key_deletion_days) == var.key_deletion_days
    error_message = "AWS KMS keeps a key that is to be deleted for 7 to 30 whole days."
  }
}

variable "force_destroy" {
  description = "Whether `terraform destroy` may delete the bucket with every state in it, and the lock table. Set it, and apply, before you remove a backend."
  type        = bool
  default     = false
  nullable    = false
}

variable "tags" {
  description = "Tags for every resource that can have them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{1,128}$", key)) && length(value) <= 256 && !startswith(lower(key), "aws:")]) && length(var.tags) <= 48
    error_message = "There are at most 48 tags; a key has 1 to 128 letters, digits, spaces or `_.:/=+@-` and does not begin with `aws:`, a value has at most 256 characters."
  }

  validation {
    condition     = !contains(keys(var.tags), "StateBackend") && !contains(keys(var.tags), "StateProject")
    error_message = "The tags `StateBackend` and `StateProject` are set by this module: the resource group is found by the first."
  }
}
