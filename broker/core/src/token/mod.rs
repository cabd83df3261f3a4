//! What a token says, the keys it is sealed under, and how it is sealed and opened. No clock and no I/O.

mod claims;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod keyring;
mod seal;

pub(crate) use claims::NewClaims;
pub use claims::{Claims, TokenId};
pub use keyring::{DerivedKeys, Key, KeyId, Keyring, Listed, MAX_KEYS, PUBLISHED_AHEAD, ROTATION};
pub use seal::{MAX_TOKEN, Sealed, seal};
