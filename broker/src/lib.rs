//! Stile's broker: proves who an AWS caller is, mints its token, and answers Terraform's registry protocol.
//!
//! A request walks through the rooms in one direction, and what a room returns only that room can make.
//!
//! **Mint**, `POST /v1/token`: `http/exchange` → [`proof`] (400) → [`sts`] (401, 502, 503, 504) → [`principal`] →
//! [`grants`] `entitle` (403) → [`store`] single use (401, 503) → [`token`] seal → [`audit`].
//!
//! Behind a gateway that verified the signature, `GET /v1/token`: `http/lambda` → `http/gateway` → [`sts`] → from
//! [`principal`] on the same, with a pin in place of single use.
//!
//! **Read**, `GET …/download`: `http/bearer` → [`token`] open (401) → [`standings`] (503) → [`grants`] `decide` (403) →
//! [`registry`] and [`store`] (404) → `204` with a signed link.
//!
//! | evidence | says | made only by |
//! |---|---|---|
//! | [`sts::CallerIdentity`] | AWS vouches for this caller | STS's answer, or the context of a gateway the operator named |
//! | [`sts::VerifiedByGateway`] | AWS verified the signature before us | that context |
//! | [`grants::Entitlement`] | the caller may have such a token | [`grants::entitle`] |
//! | [`store::Claimed`] | the proof was never used before, or there is none behind a gateway | the store |
//! | [`token::Claims`] | this registry minted this | a mint, or opening a token |
//! | [`grants::Access`] | the holder may do this here, now | [`grants::decide`] |
//! | [`store::Pending`] | this principal began this upload for this version, and it has not ended | the store |
//! | [`registry::Checked`] | every entry of the archive was looked at | an upload's check |

pub mod audit;
pub mod boot;
pub mod check;
pub mod clock;
pub mod config;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod grants;
pub mod http;
pub mod one_at_a_time;
pub mod principal;
pub mod proof;
pub mod registry;
pub mod shares;
pub mod standings;
pub mod store;
pub mod sts;
pub mod token;
