# The name, and the program.

variable "name" {
  description = "Name of every resource, or the beginning of its name. Two registries in one account need two names, even in different regions."
  type        = string
  default     = "stile"
  nullable    = false

  validation {
    condition     = can(regex("^[a-z](-?[a-z0-9])*$", var.name)) && length(var.name) >= 3 && length(var.name) <= 27
    error_message = "name must be 3 to 27 of a-z, 0-9 and single dashes, begin with a letter and not end with a dash: a bucket is named by it."
  }
}

variable "package_path" {
  description = "Path of the function's package on the machine that runs Terraform, as `make package` builds it. Set either this or `package_s3`."
  type        = string
  default     = null

  validation {
    condition     = (var.package_path == null) != (var.package_s3 == null)
    error_message = "Say where the function's package is with exactly one of package_path and package_s3."
  }

  validation {
    condition     = var.package_path == null ? true : fileexists(var.package_path)
    error_message = "There is no file at package_path; build the package with make package."
  }
}

variable "package_s3" {
  description = "The function's package in a bucket of the same region. Set the object's version, so that a plan shows an upgrade as a change."
  type = object({
    bucket  = string
    key     = string
    version = optional(string)
  })
  default = null

  validation {
    condition     = var.package_s3 == null || can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.package_s3.bucket))
    error_message = "package_s3.bucket must be the name of a bucket, 3 to 63 of a-z, 0-9, dots and dashes, not its ARN."
  }

  validation {
    condition     = try(length(trimspace(var.package_s3.key)), 1) > 0
    error_message = "package_s3.key must be the key of the package, such as stile-broker-x86_64.zip."
  }

  validation {
    condition     = try(length(trimspace(var.package_s3.version)), 1) > 0
    error_message = "package_s3.version must be the id of a version of the object; leave it out where the bucket keeps none."
  }
}

variable "architecture" {
  description = "Architecture of the package: `x86_64` or `arm64`."
  type        = string
  default     = "x86_64"
  nullable    = false

  validation {
    condition     = contains(["x86_64", "arm64"], var.architecture)
    error_message = "architecture must be x86_64 or arm64."
  }
}

# The front of the function.

variable "front" {
  description = "What receives the requests: `http_api` (API Gateway), `function_url`, or `load_balancer`, an internal one that only `vpc.client_cidrs` can reach."
  type        = string
  default     = "http_api"
  nullable    = false

  validation {
    condition     = contains(["http_api", "function_url", "load_balancer"], var.front)
    error_message = "front must be http_api, function_url or load_balancer."
  }
}

variable "host" {
  description = "Registry host as users write it, if this module does not create it: for example that of your own proxy or CDN in front. Tokens are valid only for this host. Default: the host of `domain`, or else of `front`."
  type        = string
  default     = null

  validation {
    condition     = var.host == null || can(regex("^[a-z0-9]([a-z0-9-]*[a-z0-9])?([.][a-z0-9]([a-z0-9-]*[a-z0-9])?)*(:[0-9]{1,5})?$", var.host))
    error_message = "host must be a host name in lower case, perhaps with a port, without https:// and without a path."
  }

  validation {
    condition     = try(tonumber(split(":", var.host)[1]) >= 1 && tonumber(split(":", var.host)[1]) <= 65535, true)
    error_message = "host must have a port from 1 to 65535, or none, which is 443."
  }

  validation {
    condition     = var.host == null || var.domain == null
    error_message = "Give one of host and domain: the host of a domain is its name."
  }
}

variable "domain" {
  description = "Host name of the registry, its certificate (ACM, same region), and the Route 53 zone for its records. Without a certificate, the module creates one and validates it in the zone. Without a zone, you write the record (output `dns`)."
  type = object({
    name            = string
    certificate_arn = optional(string)
    zone_id         = optional(string)
  })
  default = null

  validation {
    condition     = var.domain == null || can(regex("^([a-z0-9]([a-z0-9-]*[a-z0-9])?[.])+[a-z]([a-z0-9-]*[a-z0-9])?$", var.domain.name))
    error_message = "domain.name must be a full host name in lower case, such as registry.example.com."
  }

  validation {
    condition     = var.domain == null || try(var.domain.certificate_arn, null) != null || try(var.domain.zone_id, null) != null
    error_message = "domain needs a certificate: give certificate_arn, or zone_id of a public zone in which one can be validated."
  }

  validation {
    condition     = try(var.domain.certificate_arn, null) == null || can(regex("^arn:[a-z-]+:acm:[a-z0-9-]+:[0-9]{12}:certificate/.+$", var.domain.certificate_arn))
    error_message = "domain.certificate_arn must be the ARN of an ACM certificate."
  }

  validation {
    condition     = var.domain != null || var.front != "load_balancer"
    error_message = "front = load_balancer needs domain: its certificate must name a host."
  }

  validation {
    condition     = var.domain == null || var.front != "function_url"
    error_message = "A function URL cannot have a domain of its own; use front = http_api, or put a CDN before it and name that with host."
  }
}

variable "iam_route" {
  description = "Whether `GET /v1/token` is open to callers whose signature API Gateway verifies (`AWS_IAM`). Anyone who may invoke the function can then mint for every principal: see docs/lambda.md."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.iam_route || var.front == "http_api"
    error_message = "iam_route needs front = http_api, because no other front verifies signatures on a single route."
  }
}

variable "throttle" {
  description = "Requests a second, and at once, that the HTTP API accepts in total."
  type = object({
    rate  = optional(number, 500)
    burst = optional(number, 1000)
  })
  default  = {}
  nullable = false

  validation {
    condition     = var.throttle.rate >= 1 && var.throttle.burst >= 1 && floor(var.throttle.burst) == var.throttle.burst
    error_message = "throttle.rate must be at least 1, and throttle.burst a whole number of at least 1."
  }
}

variable "vpc" {
  description = "Runs the function in these private subnets. `endpoints` creates endpoints for DynamoDB and S3 (in `route_table_ids`), KMS, STS, and EventBridge with `event_bus`, for every client in the VPC. The VPC must not have any of them yet, and needs them if it has no NAT. `client_cidrs` may reach the load balancer."
  type = object({
    id              = string
    subnet_ids      = list(string)
    route_table_ids = optional(list(string), [])
    endpoints       = optional(bool, false)
    client_cidrs    = optional(list(string), [])
  })
  default = null

  validation {
    condition     = var.vpc != null || var.front != "load_balancer"
    error_message = "front = load_balancer needs vpc, because the load balancer is inside it."
  }

  validation {
    condition     = var.vpc == null || can(regex("^vpc-[0-9a-f]+$", var.vpc.id))
    error_message = "vpc.id must be the id of a VPC, such as vpc-0a1b2c3d4e5f60718."
  }

  validation {
    condition     = var.vpc == null || length(try(var.vpc.subnet_ids, [])) >= 2
    error_message = "vpc.subnet_ids must name at least two subnets, in two availability zones."
  }

  validation {
    condition = length(distinct(try(var.vpc.subnet_ids, []))) == length(try(var.vpc.subnet_ids, [])) && alltrue([
      for id in try(var.vpc.subnet_ids, []) : can(regex("^subnet-[0-9a-f]+$", id))
    ])
    error_message = "vpc.subnet_ids must be ids of subnets, such as subnet-0a1b2c3d4e5f60718, each once."
  }

  validation {
    condition     = !try(var.vpc.endpoints, false) || length(try(var.vpc.route_table_ids, [])) > 0
    error_message = "vpc.endpoints needs vpc.route_table_ids: DynamoDB and S3 are reached by routes."
  }

  validation {
    condition     = alltrue([for cidr in try(var.vpc.client_cidrs, []) : can(cidrnetmask(cidr))])
    error_message = "vpc.client_cidrs must be CIDR blocks of IPv4, such as 10.0.0.0/8."
  }

  validation {
    condition     = var.vpc == null || var.front != "load_balancer" || length(try(var.vpc.client_cidrs, [])) > 0
    error_message = "front = load_balancer needs vpc.client_cidrs: nobody else reaches it."
  }
}

# Grants, tokens and regions.

variable "grants" {
  description = "Grants. The plan checks them, and `stile-admin grant apply` makes them from output `grants_file`: only the program writes grants (docs/decisions/0006). Each is on one of `owned_namespaces`, where `apply` deletes every grant that is not here, except those of services. `expires` is a date such as `2027-01-31`, a time, or `never`."
  type = list(object({
    principal   = string
    namespace   = string
    permissions = set(string)
    expires     = optional(string)
  }))
  default  = []
  nullable = false

  validation {
    condition = alltrue([
      for grant in var.grants : grant.namespace == "*" ||
      can(regex("^[a-z0-9](-?[a-z0-9])*$", grant.namespace)) && length(grant.namespace) <= 64 && !contains(["all", "search"], grant.namespace)
    ])
    error_message = "A grant's namespace must be 1 to 64 of a-z, 0-9 and single dashes, with a letter or digit at both ends and not all or search; or * for every namespace."
  }

  # If the list owned the namespaces of its grants by itself, it would no longer own a namespace whose last grant was
  # removed, and the grant would stay.
  validation {
    condition     = alltrue([for grant in var.grants : contains(var.owned_namespaces, grant.namespace)])
    error_message = "Each grant's namespace must be in owned_namespaces, which says of which namespaces grants has every grant. Leave it there when you remove the last grant on it, so that stile-admin deletes that grant."
  }

  validation {
    condition = alltrue([
      for grant in var.grants : anytrue([
        can(regex("^arn:aws(-cn|-us-gov|-eusc|-iso(-[bef])?)?:iam::[0-9]{12}:(role|user)/([A-Za-z0-9+=,.@_-]+/)*[A-Za-z0-9+=,.@_-]{1,64}$", grant.principal)),
        can(regex("^sso:(aws(-cn|-us-gov|-eusc|-iso(-[bef])?)?:)?[0-9]{12}/[A-Za-z0-9+=,.@_-]{1,32}$", grant.principal)),
        can(regex("^account:(aws(-cn|-us-gov|-eusc|-iso(-[bef])?)?:)?[0-9]{12}$", grant.principal)),
        can(regex("^oidc:[a-z]([a-z0-9-]{0,62}[a-z0-9])?$", grant.principal)),
        can(regex("^org:o-[a-z0-9]{10,32}$", grant.principal)),
        can(regex("^ou:o-[a-z0-9]{10,32}/r-[a-z0-9]{4,32}(/ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}){0,5}$", grant.principal)),
        # AWS sets tags whose key begins with aws: itself.
        can(regex("^((account:(aws(-cn|-us-gov|-eusc|-iso(-[bef])?)?:)?[0-9]{12}|ou:o-[a-z0-9]{10,32}/r-[a-z0-9]{4,32}(/ou-[a-z0-9]{4,32}-[a-z0-9]{8,32}){0,5})/)?tag:[A-Za-z0-9_.:+@-]{1,128}=[A-Za-z0-9_.:/=+@-]{1,256}$", grant.principal))
        && !can(regex("(?i)^([^=]*/)?tag:aws:", grant.principal)),
      ])
    ])
    error_message = "A grant's principal must be the ARN of a role or user, sso:ACCOUNT/PERMISSION_SET or account:ACCOUNT, these two perhaps with a partition before the account, oidc:TRUST, org:ORGANIZATION, ou:ORGANIZATION/ROOT/UNIT, or tag:KEY=VALUE, perhaps with account:ACCOUNT/ or ou:ORGANIZATION/ROOT/ before it; a pattern is none. The grants of a service belong to its tokens, so service:NAME is none either."
  }

  validation {
    condition = alltrue([
      for grant in var.grants :
      length(grant.permissions) > 0 && length(setsubtract(grant.permissions, ["download", "upload", "create_grant", "delete_grant"])) == 0
    ])
    error_message = "A grant's permissions must be one or more of download, upload, create_grant and delete_grant."
  }

  # A time in the past is valid here: a plan must not fail from the day on which a grant ends.
  validation {
    condition = alltrue([
      for grant in var.grants : grant.expires == null || anytrue([
        grant.expires == "never",
        can(timeadd("${regex("^[0-9]{4}-[0-9]{2}-[0-9]{2}$", grant.expires)}T00:00:00Z", "0s")),
        can(timeadd(format("%sT%s%s", [
          for part in regex("^([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt ]([0-9]{2}:[0-9]{2}:[0-9]{2})(?:[.][0-9]+)?([Zz]|[+-][0-9]{2}:[0-9]{2})$", grant.expires) : upper(part)
        ]...), "0s")),
      ])
    ])
    error_message = "A grant's expires must be a valid date or time such as 2027-01-31 or 2027-01-31T18:00:00Z, or never; a duration would mean another end each day."
  }

  validation {
    condition     = length(distinct([for grant in var.grants : "${grant.principal} ${grant.namespace}"])) == length(var.grants)
    error_message = "A principal has two grants on one namespace; put their permissions into one."
  }
}

variable "owned_namespaces" {
  description = "The namespaces of which `grants` has every grant. Keep a namespace here when you remove its last grant, so that the grant is deleted. `*` means the grants on `*`."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition = alltrue([
      for namespace in var.owned_namespaces : namespace == "*" ||
      can(regex("^[a-z0-9](-?[a-z0-9])*$", namespace)) && length(namespace) <= 64 && !contains(["all", "search"], namespace)
    ])
    error_message = "Each of owned_namespaces must be 1 to 64 of a-z, 0-9 and single dashes, with a letter or digit at both ends and not all or search; or * for the grants on *."
  }
}

variable "source_buckets" {
  description = "Objects that the function may read for versions that `stile-admin module publish --object` publishes: a bucket, perhaps a prefix of its keys without a `/` at its end, and the KMS key of the objects. `stile-admin namespace set --source s3://…` must allow them for a namespace, too."
  type = list(object({
    bucket      = string
    prefix      = optional(string, "")
    kms_key_arn = optional(string)
  }))
  default  = []
  nullable = false

  validation {
    condition = alltrue([
      for source in var.source_buckets : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", source.bucket)) &&
      !can(regex("^(xn--|sthree-|amzn-s3-demo-)|(-s3alias|--ol-s3|[.]mrap|--x-s3|--table-s3)$", source.bucket))
    ])
    error_message = "source_buckets[*].bucket must be the name of a bucket, 3 to 63 of a-z, 0-9, dots and dashes, not its ARN and not that of an access point."
  }

  validation {
    condition = alltrue([
      for source in var.source_buckets : source.prefix == "" || can(regex("^[A-Za-z0-9._~+=@,:-]+(/[A-Za-z0-9._~+=@,:-]+)*$", source.prefix)) &&
      length(setintersection(split("/", source.prefix), [".", ".."])) == 0
    ])
    error_message = "source_buckets[*].prefix must be parts of letters, digits and ._~+=@,:- with single slashes between them, such as terraform/modules; a pattern is none, and neither are the parts . and ..."
  }

  validation {
    condition     = alltrue([for source in var.source_buckets : source.kms_key_arn == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/[A-Za-z0-9-]+$", source.kms_key_arn))])
    error_message = "source_buckets[*].kms_key_arn must be the ARN of one KMS key, without a pattern; leave it out for objects that no KMS key of yours encrypts."
  }
}

variable "delegated_grants" {
  description = "Whether holders of `create_grant` and `delete_grant` may change grants through the API. The function's role may then write grants, and so may an attacker in the function."
  type        = bool
  default     = false
  nullable    = false
}

variable "audit_signing" {
  description = "Whether the function signs the heads of the audit chains each minute, with a KMS key of its own. Without it, nobody finds a chain of events that a writer to the table wrote again. It needs `schedule`."
  type        = bool
  default     = true
  nullable    = false
}

variable "default_ttl" {
  description = "Life in seconds of a token of `GET /v1/token` if the request names none: 60 to 43200, and at most `max_ttl`."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.default_ttl >= 60 && var.default_ttl <= 43200 && floor(var.default_ttl) == var.default_ttl
    error_message = "default_ttl must be from 60 to 43200 seconds."
  }

  validation {
    condition     = var.default_ttl <= var.max_ttl
    error_message = "default_ttl must not be over max_ttl."
  }
}

variable "max_ttl" {
  description = "Longest life of a token in seconds: 60 to 43200."
  type        = number
  default     = 3600
  nullable    = false

  validation {
    condition     = var.max_ttl >= 60 && var.max_ttl <= 43200 && floor(var.max_ttl) == var.max_ttl
    error_message = "max_ttl must be from 60 to 43200 seconds."
  }
}

variable "link_ttl" {
  description = "Life of a signed URL of an archive in seconds: 60 to 3600."
  type        = number
  default     = 300
  nullable    = false

  validation {
    condition     = var.link_ttl >= 60 && var.link_ttl <= 3600 && floor(var.link_ttl) == var.link_ttl
    error_message = "link_ttl must be from 60 to 3600 seconds."
  }
}

variable "regions" {
  description = "Regions for which the broker accepts proofs. Default: every commercial region, or with `vpc.endpoints` only the region of the function."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for region in var.regions : contains(local.known_regions, region)])
    error_message = "regions must be names of AWS regions that the broker knows (regions.tf), such as eu-central-1."
  }
}

variable "private_issuers" {
  description = "URLs of issuers of JWTs that can be at private addresses, such as `https://gitlab.corp.example`. The function must then be in a VPC that reaches them, at port 443: its security group allows no other."
  type        = set(string)
  default     = []
  nullable    = false

  validation {
    condition     = alltrue([for url in var.private_issuers : startswith(url, "https://") && !strcontains(url, ",")])
    error_message = "private_issuers must be URLs that begin with https://."
  }
}

variable "fips" {
  description = "Whether the broker uses only the FIPS 140 endpoints of STS. `regions` must then name regions that have one."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.fips || !try(var.vpc.endpoints, false)
    error_message = "fips cannot be used with vpc.endpoints, because the endpoint of STS has only its plain name. Turn one of them off; without vpc.endpoints, give the subnets NAT."
  }
}

# Sizes and retention.

variable "memory_size" {
  description = "Memory of the function in MB, which also sets its share of a processor."
  type        = number
  default     = 512
  nullable    = false

  validation {
    condition     = var.memory_size >= 128 && var.memory_size <= 10240 && floor(var.memory_size) == var.memory_size
    error_message = "memory_size must be from 128 to 10240 whole MB."
  }
}

variable "timeout" {
  description = "Longest run of the function in seconds: 10 to 900. STS may take three. Completing the upload of a large module may take longer than the 30 that API Gateway waits, and continues."
  type        = number
  default     = 60
  nullable    = false

  validation {
    condition     = var.timeout >= 10 && var.timeout <= 900 && floor(var.timeout) == var.timeout
    error_message = "timeout must be from 10 to 900 whole seconds."
  }
}

variable "reserved_concurrency" {
  description = "Number of instances that Lambda reserves for the function, which is also its maximum. The account keeps 100 for all other functions, so the value is at most its quota minus 100. Default: the account's unreserved instances."
  type        = number
  default     = null

  validation {
    condition     = var.reserved_concurrency == null ? true : var.reserved_concurrency >= 1 && floor(var.reserved_concurrency) == var.reserved_concurrency
    error_message = "reserved_concurrency must be a whole number of at least 1; 0 would turn the registry off."
  }
}

variable "log_level" {
  description = "Level of the log: `error`, `warn`, `info` or `debug`. The audit log and the alarms need `info`."
  type        = string
  default     = "info"
  nullable    = false

  validation {
    condition     = contains(["error", "warn", "info", "debug"], var.log_level)
    error_message = "log_level must be error, warn, info or debug."
  }
}

variable "log_retention_days" {
  description = "Retention of the log in days; one of the values of CloudWatch, where 0 means for ever."
  type        = number
  default     = 365
  nullable    = false

  validation {
    condition     = contains(local.log_retentions, var.log_retention_days)
    error_message = "log_retention_days must be one that CloudWatch has: ${join(", ", local.log_retentions)}."
  }
}

variable "api_access_log" {
  description = "Access log of API Gateway, with `front = \"http_api\"`: one line for each request, and also for those that do not reach the function. `retention_days` is by default `log_retention_days`, and `kms_key_arn` the data key; `{}` has both. Default: no access log."
  type = object({
    retention_days = optional(number)
    kms_key_arn    = optional(string)
  })
  default = null

  validation {
    condition     = var.api_access_log == null || var.front == "http_api"
    error_message = "api_access_log needs front = http_api, because no other front has a stage. For a load balancer, set access_log_bucket."
  }

  validation {
    condition     = try(contains(local.log_retentions, var.api_access_log.retention_days), true)
    error_message = "api_access_log.retention_days must be one that CloudWatch has: ${join(", ", local.log_retentions)}."
  }

  validation {
    condition     = try(var.api_access_log.kms_key_arn, null) == null || can(regex("^arn:[a-z-]+:kms:[a-z0-9-]+:[0-9]{12}:key/.+$", var.api_access_log.kms_key_arn))
    error_message = "api_access_log.kms_key_arn must be the ARN of a KMS key, whose policy lets CloudWatch Logs use it for this log group."
  }
}

variable "access_log_bucket" {
  description = "Bucket for the access logs of the bucket of the archives and, with `front = \"load_balancer\"`, of the load balancer. The bucket must let `logging.s3.amazonaws.com`, and for a load balancer `logdelivery.elasticloadbalancing.amazonaws.com`, write below the module's `name`. Default: no access logs."
  type        = string
  default     = null

  validation {
    condition     = var.access_log_bucket == null ? true : can(regex("^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$", var.access_log_bucket))
    error_message = "access_log_bucket must be the name of a bucket, 3 to 63 of a-z, 0-9, dots and dashes, not its ARN."
  }
}

variable "tracing_mode" {
  description = "Mode of AWS X-Ray for the function: `Active` traces a sample of the requests, and the role may then send traces. `PassThrough` traces none, which is also what Lambda does by default."
  type        = string
  default     = null

  validation {
    condition     = var.tracing_mode == null ? true : contains(["Active", "PassThrough"], var.tracing_mode)
    error_message = "tracing_mode must be Active or PassThrough; leave it out for the default of Lambda."
  }
}

variable "table_name" {
  description = "Name of the table. Default: `name`. Set another name for a restored table, since DynamoDB restores only under a new name."
  type        = string
  default     = null

  validation {
    condition     = var.table_name == null || can(regex("^[A-Za-z0-9_.-]{3,255}$", var.table_name))
    error_message = "table_name must be 3 to 255 letters, digits, dots, dashes and underscores."
  }
}

variable "bucket_name" {
  description = "Name of the bucket. Default: `name`, account and region, which is free unless somebody took it intentionally."
  type        = string
  default     = null

  validation {
    condition     = var.bucket_name == null ? true : can(regex("^[a-z0-9][a-z0-9-]{1,61}[a-z0-9]$", var.bucket_name)) && !can(regex("^(xn--|sthree-|amzn-s3-demo-)|(-s3alias|--ol-s3|--x-s3|--table-s3)$", var.bucket_name))
    error_message = "bucket_name must be 3 to 63 of a-z, 0-9 and dashes, without a dot, with a letter or digit at both ends, and with none of the prefixes and suffixes that Amazon S3 reserves."
  }
}

variable "recovery_days" {
  description = "Number of days to which the table can be restored, to the second: 1 to 35."
  type        = number
  default     = 35
  nullable    = false

  validation {
    condition     = var.recovery_days >= 1 && var.recovery_days <= 35 && floor(var.recovery_days) == var.recovery_days
    error_message = "recovery_days must be from 1 to 35 whole days."
  }
}

variable "deletion_protection" {
  description = "Whether the table is protected from deletion. Turn it off and apply before a destroy."
  type        = bool
  default     = true
  nullable    = false
}

variable "force_destroy" {
  description = "Whether a destroy deletes a bucket that contains archives, with every version of them."
  type        = bool
  default     = false
  nullable    = false
}

variable "key_deletion_days" {
  description = "Days between a destroy and the deletion of the keys, in which you can recover them: 7 to 30."
  type        = number
  default     = 30
  nullable    = false

  validation {
    condition     = var.key_deletion_days >= 7 && var.key_deletion_days <= 30 && floor(var.key_deletion_days) == var.key_deletion_days
    error_message = "key_deletion_days must be from 7 to 30 whole days."
  }
}

# Alarms, events and ownership.

variable "alarms" {
  description = "Alarms: where they go (`actions`: ARNs of SNS topics), and how many refused exchanges in five minutes raise one. `null` creates none."
  type = object({
    actions           = optional(set(string), [])
    refused_exchanges = optional(number, 100)
  })
  default = {}

  validation {
    condition     = var.alarms == null ? true : var.alarms.refused_exchanges >= 1 && floor(var.alarms.refused_exchanges) == var.alarms.refused_exchanges
    error_message = "alarms.refused_exchanges must be a whole number of at least 1."
  }

  validation {
    condition     = alltrue([for arn in try(var.alarms.actions, []) : startswith(arn, "arn:")])
    error_message = "alarms.actions must be ARNs, of SNS topics for example."
  }
}

variable "metrics" {
  description = "Whether the function writes metrics to its log, and the module creates a dashboard of them. CloudWatch has a price for each metric and month: docs/operations.md has an estimate."
  type        = bool
  default     = false
  nullable    = false
}

variable "event_bus" {
  description = "Whether to create an EventBridge bus to which the function sends the events of versions (source `stile`). S3's own event for every new archive (source `aws.s3`) goes there, too. It needs `schedule`."
  type        = bool
  default     = false
  nullable    = false

  validation {
    condition     = !var.event_bus || var.schedule
    error_message = "event_bus needs schedule: without it, the function sends no event."
  }
}

variable "schedule" {
  description = "Whether a schedule invokes the function each minute, which sends events to webhooks and to the bus, and adds counted downloads to the table. It needs a `timeout` of at least 30."
  type        = bool
  default     = true
  nullable    = false

  # A tick sends for 10 seconds, and its last attempt takes up to 10 more.
  validation {
    condition     = !var.schedule || var.timeout >= 30
    error_message = "schedule needs a timeout of at least 30: a tick that Lambda ends would record nothing."
  }
}

variable "permissions_boundary" {
  description = "ARN of the permissions boundary of every role that this module creates. Default: none."
  type        = string
  default     = null

  validation {
    condition     = var.permissions_boundary == null || can(regex("^arn:aws[a-z-]*:iam::([0-9]{12}|aws):policy/.+$", var.permissions_boundary))
    error_message = "permissions_boundary must be the ARN of an IAM policy."
  }
}

variable "tags" {
  description = "Tags of every resource that can have them."
  type        = map(string)
  default     = {}
  nullable    = false

  validation {
    condition     = alltrue([for key, value in var.tags : can(regex("^[\\p{L}\\p{Z}\\p{N}_.:/=+@-]{1,128}$", key)) && length(value) <= 256 && !startswith(lower(key), "aws:")]) && length(var.tags) <= 49
    error_message = "tags must be at most 49; a key has 1 to 128 letters, digits, spaces or _.:/=+@- and does not begin with aws:, a value has at most 256 characters."
  }
}
