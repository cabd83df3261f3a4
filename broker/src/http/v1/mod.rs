//! The handlers of the routes below `/v1`, in one file for each resource.
//!
//! Each handler parses a request, calls one use case, and renders the answer.

pub(super) mod archives;
pub(super) mod audit;
mod detail;
pub(super) mod exchange;
mod exchange_form;
pub(super) mod explain;
pub(super) mod gateway;
pub(super) mod grants;
pub(super) mod life;
pub(super) mod lists;
pub(super) mod modules;
pub(super) mod package_path;
pub(super) mod provider_uploads;
pub(super) mod providers;
mod publication;
pub(super) mod publish;
mod publish_source;
pub(super) mod search;
pub(super) mod service_tokens;
pub(super) mod shown;
pub(super) mod signing_keys;
pub(super) mod uploads;
pub(super) mod usage;
pub(super) mod whoami;
