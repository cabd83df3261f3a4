//! How long records are remembered.

use stile_protocol::exchange::MAX_TTL;

/// How much longer than needed digests, revocations and uploads are remembered, in seconds: a clock that jumps ahead and
/// back must not forget what still counts.
pub(crate) const MARGIN: i64 = 24 * 3600;

/// How long a grant that has ended is still listed, in seconds, so that an operator sees what became of it.
pub(crate) const LISTED_FOR: i64 = 90 * 24 * 3600;

/// How long a revoked token is remembered, in seconds: the longest token, and what clocks differ by.
///
/// Were it forgotten before it has expired, it would be good again.
pub(crate) const REMEMBERED: i64 = MAX_TTL + 60;
