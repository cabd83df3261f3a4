//! How long the store keeps records.

use stile_protocol::exchange::MAX_TTL;

/// Additional time for which the store keeps digests, revocations and uploads, in seconds. A clock
/// that jumps ahead and back must not delete a record that still counts.
pub(crate) const MARGIN: i64 = 24 * 3600;

/// Time for which the store lists a grant after its end, in seconds. Operators see in the list why
/// the grant allows nothing.
pub(crate) const EXPIRED_GRANT_RETENTION: i64 = 90 * 24 * 3600;

/// Time for which the store keeps a revoked token, in seconds: the longest lifetime of a token, and
/// the difference between clocks.
///
/// If the store deleted the revocation before the token expires, the token would be valid again.
pub(crate) const REVOKED_TOKEN_RETENTION: i64 = MAX_TTL + 60;
