//! The gate: whether the log takes writes, and why not.

use std::sync::atomic::{AtomicU8, Ordering};

const POISONED: u8 = 1;
const STRUCTURAL: u8 = 2;

const POISONED_TEXT: &str = "an earlier write or sync failed, the log must be opened again";
const STRUCTURAL_TEXT: &str = "segment files are damaged, an operator must acknowledge it";

/// Why writes are refused, as bits; none: they are not.
#[derive(Debug, Default)]
pub(crate) struct Health(AtomicU8);

impl Health {
    /// A write or a sync failed: what is on disk is unknown, so nothing more is written.
    pub(crate) fn poison(&self) {
        self.0.fetch_or(POISONED, Ordering::SeqCst);
    }

    pub(crate) fn is_poisoned(&self) -> bool {
        self.0.load(Ordering::SeqCst) & POISONED != 0
    }

    /// Segment files are missing, foreign or cut short.
    pub(crate) fn report_structural(&self) {
        self.0.fetch_or(STRUCTURAL, Ordering::SeqCst);
    }

    pub(crate) fn acknowledge_structural(&self) {
        self.0.fetch_and(!STRUCTURAL, Ordering::SeqCst);
    }

    /// One atomic load.
    pub(crate) fn reason(&self) -> Option<&'static str> {
        match self.0.load(Ordering::SeqCst) {
            0 => None,
            bits if bits & POISONED != 0 => Some(POISONED_TEXT),
            _ => Some(STRUCTURAL_TEXT),
        }
    }
}
