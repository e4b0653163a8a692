//! What tiers say about themselves.

use std::time::Duration;

use super::Source;

/// How full a tier is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierUsage {
    /// Entries held, expired ones that were not yet dropped included.
    pub entries: u64,
    /// Their weight in bytes.
    pub bytes: u64,
    /// The bound on `bytes`; `None` when the backend sets its own.
    pub capacity: Option<u64>,
}

impl TierUsage {
    /// The usage of a tier.
    pub const fn new(entries: u64, bytes: u64, capacity: Option<u64>) -> Self {
        Self { entries, bytes, capacity }
    }
}

/// What one tier, which has no tiers inside, has done since it was opened.
///
/// Each number is counted by the layer that knows it, and zero where there is none: hits by the cache
/// above all, misses and what follows by what joins two tiers.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct TierStats {
    /// The labels on the way to it, joined by dots.
    pub path: String,
    /// The way to it: that of the hits it gives.
    pub source: Source,
    /// Values that it gave and that went to the caller, stale ones included.
    pub hits: u64,
    /// Those of them that were stale.
    pub stale_hits: u64,
    /// Keys that it was to be asked for and did not hold.
    pub misses: u64,
    /// Reads that it failed, each once however many keys it had; of a tier that is alone: all calls.
    pub errors: u64,
    /// Copies of what a tier below had that it took.
    pub refills: u64,
    /// Keys whose last change it has missed: for them it counts as holding nothing.
    pub owed_keys: u64,
    /// It has missed so much that it counts as empty until it was cleared.
    pub owes_all: bool,
    /// Debts, made or settled, that are not in the ledger yet: a process that takes over now finds those
    /// from before. Always zero without a ledger.
    pub unwritten_debts: u64,
    /// What its guard has seen, if it has one.
    pub guard: Option<GuardStats>,
    /// How full it is, as far as it knows.
    pub usage: Option<TierUsage>,
}

impl TierStats {
    /// A tier of which nothing is counted yet.
    pub fn new(label: impl Into<String>, usage: Option<TierUsage>) -> Self {
        Self {
            path: label.into(),
            source: Source::HERE,
            hits: 0,
            stale_hits: 0,
            misses: 0,
            errors: 0,
            refills: 0,
            owed_keys: 0,
            owes_all: false,
            unwritten_debts: 0,
            guard: None,
            usage,
        }
    }
}

/// Whether calls reach a guarded tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum BreakerState {
    /// They do.
    Closed,
    /// They do not: too many have failed.
    Open,
    /// The next one does, or one does now, and what becomes of it decides.
    HalfOpen,
}

impl BreakerState {
    /// The word used on the wire: `closed`, `open` or `half-open`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half-open",
        }
    }
}

/// What the guard of a tier has done since it was made, and what it lets through now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "guards outside of this crate make it")]
pub struct GuardStats {
    /// Whether calls reach the tier.
    pub state: BreakerState,
    /// While open: when the next call is let through.
    pub retry_in: Option<Duration>,
    /// How often the breaker has opened; a probe that fails does not count again.
    pub opened: u64,
    /// Calls that got no answer in time.
    pub timeouts: u64,
    /// Calls that failed, those without an answer in time included.
    pub failures: u64,
    /// Calls that were not made.
    pub refused: u64,
}
