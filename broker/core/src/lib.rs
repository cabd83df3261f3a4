//! Stile's rules, without a network, a database or AWS: who a caller is, what it was granted, what a token says, and what
//! a package is. Nothing here reads a clock; `now` is an argument.
//!
//! The modules import each other in this order only: [`clock`], [`critical`], [`principal`], [`identity`], [`token`],
//! [`package`], [`grants`], [`audit`].

pub mod audit;
pub mod clock;
pub mod critical;
#[cfg(any(test, feature = "fuzz"))]
pub mod fuzz;
pub mod grants;
pub mod identity;
pub mod package;
pub mod principal;
pub mod token;
