//! Exchanges AWS credentials for registry tokens; the credentials helper and the admin CLI share it.
//!
//! | module | purpose |
//! |---|---|
//! | [`config`] | reads the environment and `stile/config.toml`: which hosts are Stile registries |
//! | [`credentials`] | finds AWS credentials and a region with the providers of the AWS SDK |
//! | [`proof`] | signs the STS request that proves the caller's identity |
//! | [`exchange`] | sends a proof and gets a token |
//! | [`id_token`] | finds the JWT of a job, or gets one from GitHub Actions or from AWS |
//! | [`jwt_exchange`] | sends a JWT and gets a token |
//! | [`iam_exchange`] | signs the token request for gateways where AWS verifies the signature |
//! | [`call`] | sends one HTTP request to a broker: limits, root certificates, no redirects |
//! | [`cache`] | stores tokens in private files until shortly before they expire |
//! | [`settings`] | the settings with their sources, for `config show` |
//! | [`token`] | returns a token from the cache or from an exchange |
//! | [`private_file`] | reads and writes files that only their owner may access |
//! | [`message`], [`shell`], [`clock`] | error texts for users; quotes for shells; the clock |

pub mod bearer;
pub mod cache;
pub mod call;
pub mod clock;
pub mod config;
pub mod credentials;
pub mod exchange;
pub mod iam_exchange;
pub mod id_token;
pub mod jwt_exchange;
pub mod message;
pub mod private_file;
pub mod proof;
pub mod settings;
pub mod shell;
pub mod token;
