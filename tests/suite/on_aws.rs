//! The same flows on DynamoDB, S3 and KMS, and the properties of only these: the calls, and the
//! behaviour without them.

use stile_tests::broker::Backend;

const BACKEND: Backend = Backend::Aws;

#[path = "audit_api.rs"]
mod audit_api;
#[path = "audit_heads.rs"]
mod audit_heads;
#[path = "audit_secrets.rs"]
mod audit_secrets;
#[path = "aws_jwt.rs"]
mod aws_jwt;
#[path = "bearer.rs"]
mod bearer;
#[path = "corpus.rs"]
mod corpus;
#[path = "event_bus.rs"]
mod event_bus;
#[path = "events.rs"]
mod events;
#[path = "exchange.rs"]
mod exchange;
#[path = "exchange_with_sts.rs"]
mod exchange_with_sts;
#[path = "explain.rs"]
mod explain;
#[path = "explain_request.rs"]
mod explain_request;
#[path = "export.rs"]
mod export;
#[path = "grant_plan.rs"]
mod grant_plan;
#[path = "grants_api.rs"]
mod grants_api;
#[path = "grants_list.rs"]
mod grants_list;
#[path = "grants_program.rs"]
mod grants_program;
#[path = "grants_program_file.rs"]
mod grants_program_file;
#[path = "grants_raise.rs"]
mod grants_raise;
#[path = "helper_in_ci.rs"]
mod helper_in_ci;
#[path = "jwt.rs"]
mod jwt;
#[path = "jwt_keys.rs"]
mod jwt_keys;
#[path = "jwts.rs"]
mod jwts;
#[path = "kept_events.rs"]
mod kept_events;
#[path = "kept_events_damaged.rs"]
mod kept_events_damaged;
#[path = "life.rs"]
mod life;
#[path = "life_programs.rs"]
mod life_programs;
#[path = "lifecycle.rs"]
mod lifecycle;
#[path = "load.rs"]
mod load;
#[path = "metadata.rs"]
mod metadata;
#[path = "metrics.rs"]
mod metrics;
#[path = "modules.rs"]
mod modules;
#[path = "notices.rs"]
mod notices;
#[path = "objects.rs"]
mod objects;
#[path = "objects_again.rs"]
mod objects_again;
#[path = "objects_terraform.rs"]
mod objects_terraform;
#[path = "paths.rs"]
mod paths;
#[path = "promote.rs"]
mod promote;
#[path = "provider_store.rs"]
mod provider_store;
#[path = "providers.rs"]
mod providers;
#[path = "providers_again.rs"]
mod providers_again;
#[path = "providers_program.rs"]
mod providers_program;
#[path = "providers_served.rs"]
mod providers_served;
#[path = "providers_signed.rs"]
mod providers_signed;
#[path = "providers_stopped.rs"]
mod providers_stopped;
#[path = "providers_terraform.rs"]
mod providers_terraform;
#[path = "quotas.rs"]
mod quotas;
#[path = "request_ids.rs"]
mod request_ids;
#[path = "routes.rs"]
mod routes;
#[path = "search.rs"]
mod search;
#[path = "service_tokens.rs"]
mod service_tokens;
#[path = "service_tokens_api.rs"]
mod service_tokens_api;
#[path = "service_tokens_program.rs"]
mod service_tokens_program;
#[path = "service_tokens_terraform.rs"]
mod service_tokens_terraform;
#[path = "sources.rs"]
mod sources;
#[path = "sources_git.rs"]
mod sources_git;
#[path = "store.rs"]
mod store;
#[path = "store_check.rs"]
mod store_check;
#[path = "terraform.rs"]
mod terraform;
#[path = "trusts.rs"]
mod trusts;
#[path = "uploads.rs"]
mod uploads;
#[path = "usage.rs"]
mod usage;
