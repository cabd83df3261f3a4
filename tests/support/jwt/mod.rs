//! JWTs of CI systems in tests: programs that sign them, and an issuer over HTTPS.
//!
//! Other people's libraries sign: PyJWT in Python and jose in Node. So a broker that reads only the
//! JWTs of its own library fails here.

pub mod claims;
pub mod issuer;
pub mod signer;
pub mod stage;
