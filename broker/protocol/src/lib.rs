//! The wire contract between the helper and the broker: grammars, limits, messages; no I/O and no clock.
//!
//! | room | what is in it |
//! |---|---|
//! | [`audience`] | the registry's host as Terraform spells it, the one thing both sides must agree on |
//! | [`region`] | AWS regions and the host of STS in each |
//! | [`signed_request`] | the one STS request that helper signs and broker reconstructs |
//! | [`exchange`] | `POST /v1/token`: what is sent, what is asked for |
//! | [`reply`] | what comes back: a token, or an error with its code |
//! | [`names`] | namespaces, module addresses, permissions |
//! | [`strict_json`] | JSON in which every field is known, present once and of its type |

pub mod audience;
pub mod exchange;
pub mod names;
pub mod region;
pub mod reply;
pub mod signed_request;
pub mod strict_json;
