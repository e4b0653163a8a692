//! Until when copies may be served.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

/// Until when the copies in private layers may be served, unless it is renewed.
///
/// Asked by every look-up, so it takes no lock. A process that stood still finds it over.
#[derive(Debug)]
pub(super) struct Lease {
    born: Instant,
    /// In nanoseconds since then.
    until: AtomicU64,
}

impl Lease {
    /// One that is over already.
    pub(super) const fn new(born: Instant) -> Self {
        Self { born, until: AtomicU64::new(0) }
    }

    pub(super) fn holds(&self, now: Instant) -> bool {
        self.nanos(now) < self.until.load(Ordering::SeqCst)
    }

    /// Lets it hold at least until then.
    pub(super) fn extend(&self, until: Instant) {
        self.until.fetch_max(self.nanos(until), Ordering::SeqCst);
    }

    pub(super) fn end(&self) {
        self.until.store(0, Ordering::SeqCst);
    }

    fn nanos(&self, at: Instant) -> u64 {
        u64::try_from(at.saturating_duration_since(self.born).as_nanos()).unwrap_or(u64::MAX)
    }
}
