//! From the AWS identity somebody already has to a registry's token: what the credentials helper and the admin CLI share.
//!
//! | room | what happens there |
//! |---|---|
//! | [`config`] | reads the environment and `stile/config.toml`: which hosts are Stile registries |
//! | [`credentials`] | finds AWS credentials and a region, as every AWS tool does |
//! | [`proof`] | signs the one STS request: a proof |
//! | [`exchange`] | sends a proof, gets a token; [`iam_exchange`] does it where AWS itself verifies the signature |
//! | [`call`] | one HTTP call to a broker: limits, trusted roots, no redirects |
//! | [`cache`] | keeps tokens in private files until they are nearly over |
//! | [`token`] | the whole way, cache first |

pub mod cache;
pub mod call;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod exchange;
pub mod iam_exchange;
pub mod message;
pub mod private_file;
pub mod proof;
pub mod token;
