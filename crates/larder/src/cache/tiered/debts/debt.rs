//! One key that a layer owes.

use larder_core::{CacheValue, Condition, HybridClock, Timestamp, Version};

/// What a layer has missed of one key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache::tiered) struct Debt {
    /// The number of the call that made the debt.
    pub(super) number: u64,
    pub(in crate::cache::tiered) loss: Loss,
    /// What the layer was asked for.
    pub(in crate::cache::tiered) due: Due,
}

/// What pays a debt, at least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cache::tiered) enum Due {
    /// The key has to go from what is private.
    Forget,
    /// The key has to go.
    Remove,
}

/// What a layer lacks that did not make a change.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::cache::tiered) struct Loss {
    /// What a write under a condition would have left there.
    pub(in crate::cache::tiered) missed: Option<Missed>,
    /// Whatever is older than this has to go, and nothing else: it is what another process has written
    /// since.
    pub(in crate::cache::tiered) void: Option<Version>,
}

/// A value that a layer should hold by now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(in crate::cache::tiered) struct Missed {
    pub(in crate::cache::tiered) version: Version,
    pub(in crate::cache::tiered) expire: Option<Timestamp>,
}

impl Loss {
    /// What is lost with a write of `value`.
    pub(in crate::cache::tiered) fn of_write<V>(
        value: &CacheValue<V>,
        condition: Condition,
        now: Timestamp,
    ) -> Self {
        match (condition, value.version) {
            (Condition::IfNewerThan(_), Some(version)) => {
                Self { missed: Some(Missed { version, expire: value.expire }), void: None }
            }
            _ => Self::of_remove(condition, now),
        }
    }

    /// What is lost with a remove.
    pub(in crate::cache::tiered) fn of_remove(condition: Condition, now: Timestamp) -> Self {
        let void = match condition {
            Condition::IfNewerThan(version) => version,
            // That one, and what is older still.
            Condition::IfVersionIs(Some(version)) => next(version),
            // What has no version is older than any.
            Condition::IfVersionIs(None) => Version::from_parts(0, 0),
            _ => latest(now),
        };
        Self { missed: None, void: Some(void) }
    }

    /// Everything that was written until `now`.
    pub(in crate::cache::tiered) fn everything(now: Timestamp) -> Self {
        Self { missed: None, void: Some(latest(now)) }
    }

    /// The same for a layer that made the change all the same.
    pub(in crate::cache::tiered) fn with_the_change(self) -> Self {
        let own = self.missed.map(|missed| next(missed.version));
        Self { void: self.void.max(own), ..self }
    }

    /// Whatever is older than this is not what the layer should hold.
    pub(in crate::cache::tiered) fn bound(self) -> Option<Version> {
        self.missed.map(|missed| missed.version).max(self.void)
    }
}

/// No write until `now` has a higher version, as long as clocks are no further apart than versions of
/// others are believed.
pub(in crate::cache::tiered) fn latest(now: Timestamp) -> Version {
    let millis = now.saturating_add(HybridClock::MAX_LEAD).as_millis();
    Version::from_parts(millis << 16 | 0xFFFF, u64::MAX)
}

/// The lowest version above this one.
fn next(version: Version) -> Version {
    match version.origin().checked_add(1) {
        Some(origin) => Version::from_parts(version.reading(), origin),
        None => Version::from_parts(version.reading().saturating_add(1), 0),
    }
}

impl Debt {
    /// This debt and a new one of the same key.
    pub(super) fn joined(self, new: Self) -> Self {
        let due = self.due.max(new.due);
        // What was to go before a later write has to go still.
        let void = self.loss.void.max(new.loss.void);
        let with = |number, missed| Self { number, loss: Loss { missed, void }, due };
        match (self.loss.missed, new.loss.missed) {
            // By version: the later call may be the one with the older value.
            (Some(held), Some(missed)) => with(self.number.max(new.number), Some(held.max(missed))),
            (held, _) if self.number > new.number => with(self.number, held),
            // What was owed before it is owed still.
            (held, _) if new.due == Due::Forget => with(new.number, held),
            (_, missed) => with(new.number, missed),
        }
    }
}
