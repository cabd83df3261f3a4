//! The broker: authenticates AWS callers, mints tokens, and serves Terraform's registry protocol.
//!
//! The packages below this one contain the rules. `stile-protocol` has the wire formats.
//! `stile-core` has principals, identities, tokens, grants and packages. `stile-store` has the
//! store. This package applies them to requests:
//!
//! **Mint**, `POST /v1/token`: [`http`] → [`authn`] (400, 401, 502, 503, 504) →
//! `stile_core::grants::entitle` (403) → `stile_store` single use (401, 503) → [`tokens`] seal →
//! [`audit`].
//!
//! **Read**, `GET …/download`: [`http`] → [`tokens`] open (401) → [`principal_cache`] (503) →
//! `stile_core::grants::decide` (403) → `stile_store` (404) → `204` with a signed URL.
//!
//! | evidence | meaning | created only by |
//! |---|---|---|
//! | `Identity` | an issuer vouches for this caller | [`authn`] |
//! | `SingleUse` | how the store prevents a second use of the authentication | [`authn`] |
//! | `Entitlement` | the caller may have a token of this scope | `grants::entitle` |
//! | `Recorded` | the authentication was never used before | the store |
//! | `Claims` | this registry minted this token | an entitlement, or opening a token |
//! | `Access`, `PackageAccess` | the bearer has this right here, now | `grants::decide` |
//! | `GrantAccess`, `OperatorAccess` | the holder may change grants, or the whole store | the admin program |
//! | `PendingUpload` | this principal began this upload of this version, and it is still open | the store |
//! | `VerifiedArchive` | the broker read and checked every entry of the archive | the check of an upload |

pub mod app;
pub mod audit;
pub mod authn;
pub mod boot;
pub mod check;
pub mod checked_resolver;
pub mod client_source;
pub mod config;
pub mod error_chain;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod http;
pub mod metrics;
pub mod per_key_limit;
pub mod principal_cache;
pub mod recent_cache;
pub mod search_cache;
pub mod service_token_cache;
pub mod shared_failure_mutex;
pub mod show;
pub mod tokens;
pub mod trust_cache;
pub mod webhook_client;
