//! Tests of the program as a process: help, output, errors and effects.

#![expect(clippy::unwrap_used, reason = "a test may panic at the first unexpected result")]

mod audit;
mod backup;
mod broker;
mod claims;
mod ended;
mod export;
mod grant;
mod groups;
mod help;
mod life;
mod module;
mod module_search;
mod module_usage;
mod monorepo;
mod namespace;
mod objects;
mod output;
mod promote;
mod provider_join;
mod provider_keys;
mod provider_publish;
mod provider_registry;
mod provider_retries;
mod publish;
mod registry_host;
mod sources;
mod support;
mod token;
mod trust;
mod upload;
mod usage;
mod webhook;
