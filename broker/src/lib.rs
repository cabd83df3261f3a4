//! Stile's broker: proves who an AWS caller is, mints its token, and answers Terraform's registry protocol.
//!
//! The packages below this one have the rules: `stile-protocol` the wire formats, `stile-core` principals, identities,
//! tokens, grants and packages, `stile-store` what a registry keeps. Here a request meets them:
//!
//! **Mint**, `POST /v1/token`: [`http`] → [`authn`] (400, 401, 502, 503, 504) → `stile_core::grants::entitle` (403) →
//! `stile_store` single use (401, 503) → [`tokens`] seal → [`audit`].
//!
//! **Read**, `GET …/download`: [`http`] → [`tokens`] open (401) → [`principal_cache`] (503) → `stile_core::grants::decide` (403) →
//! `stile_store` (404) → `204` with a signed URL.
//!
//! | evidence | says | made only by |
//! |---|---|---|
//! | `Identity` | an issuer vouches for this caller | [`authn`] |
//! | `SingleUse` | what keeps the authentication from being used twice | [`authn`] |
//! | `Entitlement` | the caller may have such a token | `grants::entitle` |
//! | `Recorded` | the authentication was never used before | the store |
//! | `Claims` | this registry minted this | an entitlement, or opening a token |
//! | `Access`, `PackageAccess` | the holder may do this here, now | `grants::decide` |
//! | `GrantAccess`, `OperatorAccess` | this may change grants, or the whole store | `grants::decide`, or the admin program |
//! | `PendingUpload` | this principal began this upload for this version, and it has not ended | the store |
//! | `VerifiedArchive` | every entry of the archive was read | an upload's check |

pub mod app;
pub mod audit;
pub mod authn;
pub mod boot;
pub mod check;
pub mod config;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod http;
pub mod per_key_limit;
pub mod principal_cache;
pub mod shared_failure_mutex;
pub mod tokens;
