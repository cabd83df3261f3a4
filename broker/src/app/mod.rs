//! The use cases of the broker. Each takes evidence and plain values, and returns a domain error.
//!
//! No use case depends on HTTP.

pub mod archive;
pub mod audit_heads;
pub mod audit_list;
pub mod authorize;
mod backlog;
mod broker;
pub mod catalogue;
mod check_turns;
mod download_counts;
pub mod event_sender;
pub mod events;
pub mod grants;
pub mod life;
mod limits;
pub mod metadata;
pub mod mint;
mod notices;
pub mod provider;
pub mod provider_upload;
pub mod publish;
pub mod publish_object;
pub mod publish_source;
mod refused_exchange_limits;
mod refused_exchanges;
mod scheduled;
pub mod search;
mod service_bearer;
pub mod service_tokens;
pub mod signing_keys;
mod sweep;
pub mod upload;
pub mod usage;

pub use backlog::{BACKLOG_INTERVAL, count_backlog, watch_backlog};
pub use broker::{Broker, NotReady, Readiness, Ready};
pub use check_turns::{CheckTurn, CheckTurns};
pub use download_counts::DownloadCounts;
pub use limits::{Limits, UploadPermit};
pub use refused_exchange_limits::RefusedExchangeLimits;
pub use scheduled::tick;
pub use sweep::{SWEEP_INTERVAL, sweep_store};
