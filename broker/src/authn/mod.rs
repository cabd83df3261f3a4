//! Authenticates callers. Each method returns an [`Identity`](stile_core::identity::Identity),
//! which only this module creates.
//!
//! [`sigv4`]: the caller signed a request to STS, and STS answers who signed it. [`gateway`]: API
//! Gateway or a function URL verified the signature. [`jwt`]: an issuer that a trust believes signed
//! a JWT.

pub mod gateway;
pub mod jwt;
pub mod sigv4;
