//! What a spool tells about itself.

use crate::Timestamp;

/// Counts and sizes of a spool.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolStats {
    /// Entries stored.
    pub entries: u64,
    /// The sum of their payloads in bytes.
    pub bytes: u64,
    /// Entries known to be damaged.
    pub corrupt: u64,
    /// Bytes on disk, or in the store behind it; zero when unknown.
    pub disk_bytes: u64,
    /// Further numbers of the backend by name.
    pub details: Vec<(&'static str, u64)>,
    /// What may close the health gate, each with its state; empty for a backend without a gate.
    pub conditions: Vec<SpoolCondition>,
}

/// Something that closes the health gate when it holds, or when it has held for some time.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SpoolCondition {
    /// A short name, such as `no-space`.
    pub name: &'static str,
    /// What it is, in words; figures go with it where the backend has any.
    pub what: String,
    /// Whether it holds.
    pub state: SpoolHealth,
    /// Since when it has been in that state; `None` where it does not hold.
    pub since: Option<Timestamp>,
}

impl SpoolCondition {
    /// A condition that does not hold.
    pub fn new(name: &'static str, what: impl Into<String>) -> Self {
        Self { name, what: what.into(), state: SpoolHealth::Healthy, since: None }
    }
}

/// How a spool is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[allow(clippy::exhaustive_enums, reason = "a gate is open, under observation, or closed")]
pub enum SpoolHealth {
    /// Nothing is wrong.
    #[default]
    Healthy,
    /// Something is wrong, but stores are accepted.
    Degraded,
    /// Stores are refused.
    Shedding,
}

impl SpoolHealth {
    /// The state in one word.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Healthy => "healthy",
            Self::Degraded => "degraded",
            Self::Shedding => "shedding",
        }
    }
}

impl SpoolStats {
    /// The gravest state of all conditions.
    pub fn health(&self) -> SpoolHealth {
        self.conditions.iter().map(|condition| condition.state).max().unwrap_or_default()
    }
}
