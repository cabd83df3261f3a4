variable "name" {
  description = "Name of every resource."
  type        = string
  default     = "stile"
}

variable "package_path" {
  description = "Path of the function's package, as `make package` builds it."
  type        = string
}

variable "domain" {
  description = "Host name, certificate and zone. Default: the registry has the name that API Gateway gives it."
  type = object({
    name            = string
    certificate_arn = optional(string)
    zone_id         = optional(string)
  })
  default = null
}

variable "deployer_arn" {
  description = "ARN of the role that may use and publish modules in the namespace `acme`."
  type        = string
}

variable "platform_arns" {
  description = "Roles that run this configuration and may use its state."
  type        = set(string)
  nullable    = false

  validation {
    condition     = length(var.platform_arns) > 0
    error_message = "platform_arns must name at least one role: whoever runs this configuration reads its state as one of them."
  }
}

variable "iam_route" {
  description = "Whether `GET /v1/token` is open to callers that API Gateway verified. Anyone who may invoke the function can then mint for every principal: see docs/lambda.md."
  type        = bool
  default     = false
}

variable "source_buckets" {
  description = "Buckets with archives of modules that the registry may read, with a prefix of the keys and the KMS key of the objects."
  type = list(object({
    bucket      = string
    prefix      = optional(string, "")
    kms_key_arn = optional(string)
  }))
  default  = []
  nullable = false
}

variable "delegated_grants" {
  description = "Whether holders of `create_grant` and `delete_grant` change the grants of their namespaces through the API. Then an attacker in the function can write any grant."
  type        = bool
  default     = false
  nullable    = false
}

variable "state_namespace" {
  description = "Owner of the states in the state backend, in any words."
  type        = string
  default     = "acme-platform"
}

variable "state_projects" {
  description = "Projects with states there, besides `platform`, which is this configuration itself: for each project, who may assume its role."
  type = map(object({
    principal_arns = set(string)
    external_id    = optional(string)
  }))
  default  = {}
  nullable = false
}

variable "disposable" {
  description = "Whether a destroy deletes everything, with all archives."
  type        = bool
  default     = false
}
