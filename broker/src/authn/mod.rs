//! Every way to authenticate a caller. Each ends in an [`Identity`](stile_core::identity::Identity), which only this
//! module makes.
//!
//! [`sigv4`]: the caller signed an AWS request, and STS says who signed. [`gateway`]: API Gateway or a function URL
//! verified the signature.

pub mod gateway;
pub mod sigv4;
