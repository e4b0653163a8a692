//! The only door to time: monotonic, and only as a distance.
//!
//! The committer never asks the clock by itself; whoever drives it passes the time in, so that a
//! simulation can move time as it likes.

use std::sync::OnceLock;
use std::time::{Duration, Instant};

/// Time since the first call in this process.
#[expect(clippy::disallowed_methods, reason = "this is the clock that the rest of the crate asks")]
pub(crate) fn now() -> Duration {
    static START: OnceLock<Instant> = OnceLock::new();
    START.get_or_init(Instant::now).elapsed()
}
