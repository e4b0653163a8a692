//! Slowing writers down that outrun compaction, so that the files keep to their bound.

use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::clock;
use crate::shared::Shared;

/// Bytes a second that writers are left when the brake begins. Half of it for every further half
/// segment of dead bytes.
const RATE: u64 = 256 << 20;
const RATE_MIN: u64 = 256 << 10;
/// A group waits no longer than this, so that its callers rather wait than fail.
const WAIT_MAX: Duration = Duration::from_secs(1);
/// How often one that waits looks whether it still has to.
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// What the committer remembers between two groups.
#[derive(Debug, Default)]
pub(crate) struct Brake {
    appended_bytes: u64,
}

impl Brake {
    /// Waits after a group, as long as compaction is at work and too far behind.
    pub(crate) fn wait(&mut self, shared: &Shared) {
        let appended = shared.counters.appended_bytes.load(Ordering::Relaxed);
        let written = appended - std::mem::replace(&mut self.appended_bytes, appended);
        if written == 0 || !shared.is_catching_up() {
            return;
        }
        let Some(rate) = shared.writers_rate() else { return };
        let nanos = u128::from(written) * 1_000_000_000 / u128::from(rate);
        let wait = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX)).min(WAIT_MAX);
        let due = clock::now().saturating_add(wait);
        let mut now = clock::now();
        // Compaction that waits for a sync waits for this thread.
        while now < due && shared.is_catching_up() && !shared.is_committer_needed() {
            if !shared.compactor.pause(due.saturating_sub(now).min(LOOK_EVERY)) {
                return;
            }
            now = clock::now();
        }
    }
}

impl Shared {
    /// The background is compacting: there is something to wait for.
    fn is_catching_up(&self) -> bool {
        self.catching_up.load(Ordering::Relaxed)
    }

    fn is_committer_needed(&self) -> bool {
        self.syncs_awaited.load(Ordering::Relaxed) > 0 || self.queue().closing
    }

    /// Bytes a second that writers are left; `None` while compaction keeps up.
    fn writers_rate(&self) -> Option<u64> {
        let beyond = self.dead_bytes().checked_sub(self.dead_bytes_of_hurry())?;
        let halves = beyond * 2 / self.options.segment_bytes;
        let rate = RATE >> halves.min(u64::from(u64::BITS) - 1);
        Some(rate.max(RATE_MIN))
    }
}
