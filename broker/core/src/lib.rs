//! The domain rules of Stile: principals, identities, grants, token claims and packages.
//!
//! This package has no network, no database and no AWS SDK. Nothing here reads a clock: `now` is an
//! argument.
//!
//! The modules import each other in this order only: [`clock`], [`critical`], [`principal`], [`trust`],
//! [`identity`], [`token`], [`package`], [`search`], [`grants`], [`service_token`], [`refused_exchange`], [`usage`], [`version_event`], [`webhook`], [`audit`].

pub mod audit;
pub mod clock;
pub mod critical;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod grants;
pub mod identity;
pub mod package;
pub mod principal;
pub mod refused_exchange;
pub mod search;
pub mod service_token;
pub mod token;
pub mod trust;
pub mod usage;
pub mod version_event;
pub mod webhook;
