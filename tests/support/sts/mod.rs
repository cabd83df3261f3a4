//! Identities in tests: throw-away keys, proofs that they sign, and a local STS that verifies them.

pub mod identity;
pub mod local;
pub mod proof;
pub mod sigv4;
