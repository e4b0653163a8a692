//! What a tier puts right on its own.

use std::fmt;
use std::sync::Arc;

use crate::KeyRef;

/// What a tier has put right on its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "who keeps copies must handle both")]
pub enum Repair<'a> {
    /// One key.
    Key(KeyRef<'a>),
    /// It may be any of them.
    All,
}

/// Hears of what tiers put right on their own; see [`Tier::on_repair`](super::Tier::on_repair).
///
/// Clones are handles of one listener. It is called while a call of the tier is under way, so it neither
/// waits nor calls the tier.
#[derive(Clone)]
pub struct RepairListener(Arc<dyn Fn(Repair<'_>) + Send + Sync>);

impl RepairListener {
    /// A listener that calls `hear`.
    pub fn new(hear: impl Fn(Repair<'_>) + Send + Sync + 'static) -> Self {
        Self(Arc::new(hear))
    }

    /// Tells it.
    pub fn hear(&self, repair: Repair<'_>) {
        (self.0)(repair);
    }
}

impl fmt::Debug for RepairListener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RepairListener").finish_non_exhaustive()
    }
}
