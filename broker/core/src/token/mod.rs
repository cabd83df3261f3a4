//! Access tokens: claims, keys, sealing and opening. It has no clock and no I/O.

mod claims;
#[cfg(any(test, feature = "fuzz"))]
pub(crate) mod fuzz;
mod holder;
mod keyring;
mod seal;

pub use claims::{Claims, TokenId};
pub(crate) use claims::{NewClaims, ServiceClaims};
pub use holder::{Holder, MAX_GROUPS};
pub use keyring::{
    ACTIVATION_DELAY, DerivedKeys, Key, KeyId, Keyring, KeyringSummary, MAX_AHEAD, MAX_KEYS,
    ROTATION_INTERVAL,
};
pub use seal::{MAX_TOKEN_LEN, Sealed, seal};
