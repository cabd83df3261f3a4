//! Creates identities in tests: throw-away keys, proofs that they sign, and a local STS that
//! verifies signatures.

pub mod identity;
pub mod local;
pub mod proof;
pub mod sigv4;
