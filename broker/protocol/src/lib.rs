//! The wire protocol between helper and broker: messages, grammars and limits, without I/O or a clock.
//!
//! | module | contents |
//! |---|---|
//! | [`audience`] | the registry's host in canonical form |
//! | [`region`] | AWS regions and the STS host of each |
//! | [`signed_request`] | the STS request that the helper signs and the broker rebuilds |
//! | [`exchange`] | the request body of `POST /v1/token` |
//! | [`token_exchange`] | the form of `POST /v1/token` with a JWT: OAuth 2.0 Token Exchange |
//! | [`reply`] | responses: a token, or an error with its code |
//! | [`request_id`] | the id of a request in an answer |
//! | [`names`] | namespaces, module addresses, permissions |
//! | [`printable`] | characters that a terminal prints as text |
//! | [`strict_json`] | parses JSON objects and rejects unknown, duplicate or mistyped fields |

pub mod audience;
pub mod exchange;
pub mod names;
pub mod printable;
pub mod region;
pub mod reply;
pub mod request_id;
pub mod signed_request;
pub mod strict_json;
pub mod token_exchange;
