//! The gate: whether the log takes puts, and why not.
//!
//! What is found wrong is a [`Reason`]. Each goes its own way from clear to shedding and back
//! ([`machine`]), judged about once a second by what the [`watch`] saw. The gate itself is one byte
//! that the commit path reads: the gravest reason that sheds.

use std::sync::atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

pub(crate) mod free;
pub(crate) mod machine;
mod reason;
pub(crate) mod watch;

pub use free::{FreeLimit, Space};
pub use reason::Reason;

use machine::{Machine, Signs};
use watch::Watch;

/// How the log is, or one condition of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a gate is open, open under observation, or closed")]
pub enum HealthState {
    /// Nothing is wrong.
    #[default]
    Healthy,
    /// Something is wrong, not for long enough to refuse anything, or not for long any more.
    Degraded,
    /// Puts are refused.
    Shedding,
}

/// What is known of one reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Condition {
    /// Which.
    pub reason: Reason,
    /// Whether it holds, and what it does.
    pub state: HealthState,
    /// How long it has been in that state; zero where it does not hold.
    pub lasting: Duration,
}

/// How an open log is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct HealthReport {
    /// The gravest state of all conditions.
    pub state: HealthState,
    /// Every reason there is, the gravest first.
    pub conditions: Vec<Condition>,
    /// How often the gate has closed since the log was opened.
    pub closings: u64,
    /// Batches that the closed gate refused.
    pub refused: u64,
    /// Reads that the system failed.
    pub read_errors: u64,
    /// The file system, when it was last looked at and where it tells.
    pub space: Option<Space>,
}

/// The gate and what judges it.
#[derive(Debug)]
pub(crate) struct Health {
    /// 0: open, otherwise the code of the reason that closes it.
    gate: AtomicU8,
    judge: Mutex<Judge>,
    refused: AtomicU64,
    read_errors: AtomicU64,
    /// Puts were refused for want of room, and none was written since.
    no_space: AtomicBool,
    /// Whether that happened since the watch last looked.
    no_space_again: AtomicBool,
}

#[derive(Debug)]
struct Judge {
    machine: Machine,
    watch: Watch,
}

impl Health {
    pub(crate) fn new(min_free_space: FreeLimit, min_free_inodes: FreeLimit) -> Self {
        let watch = Watch::new(min_free_space, min_free_inodes);
        Self {
            gate: AtomicU8::new(0),
            judge: Mutex::new(Judge { machine: Machine::default(), watch }),
            refused: AtomicU64::new(0),
            read_errors: AtomicU64::new(0),
            no_space: AtomicBool::new(false),
            no_space_again: AtomicBool::new(false),
        }
    }

    /// Why puts are refused, if they are. One atomic load.
    pub(crate) fn reason(&self) -> Option<Reason> {
        Reason::from_code(self.gate.load(Ordering::SeqCst))
    }

    /// The reason in words; nothing is allocated.
    pub(crate) fn text(&self) -> Option<&'static str> {
        self.reason().map(Reason::text)
    }

    /// Nothing may be written any more, not even a delete.
    pub(crate) fn is_poisoned(&self) -> bool {
        self.reason().is_some_and(Reason::forbids_writing)
    }

    /// A write or a sync failed: what is on disk is unknown, so nothing more is written.
    pub(crate) fn poison(&self) {
        self.raise(Reason::WriteFailed);
    }

    /// Segment files are missing, foreign or cut short.
    pub(crate) fn report_structural(&self) {
        self.raise(Reason::Structural);
    }

    pub(crate) fn acknowledge_structural(&self) {
        let mut judge = self.judge();
        judge.machine.acknowledge(Reason::Structural);
        self.show(&judge.machine);
    }

    /// A put was refused because the disk is full; whether that is news.
    pub(crate) fn found_no_space(&self) -> bool {
        self.no_space_again.store(true, Ordering::Relaxed);
        !self.no_space.swap(true, Ordering::Relaxed)
    }

    /// Puts are refused for want of room, so that more should be reclaimed than pays otherwise.
    pub(crate) fn is_short_of_space(&self) -> bool {
        self.no_space.load(Ordering::Relaxed) || self.reason().is_some_and(Reason::is_about_space)
    }

    /// A put was written.
    pub(crate) fn found_space(&self) {
        if self.no_space.load(Ordering::Relaxed) {
            self.no_space.store(false, Ordering::Relaxed);
        }
    }

    /// The system failed to read a record.
    pub(crate) fn found_read_error(&self, segment: u32, offset: u64) {
        self.read_errors.fetch_add(1, Ordering::Relaxed);
        self.judge().watch.read_error((segment, offset));
    }

    /// The gate refused a batch.
    pub(crate) fn count_refused(&self) {
        self.refused.fetch_add(1, Ordering::Relaxed);
    }

    /// Judges everything by what is true at `now`.
    fn observe(&self, now: Duration, signs: Signs, judge: &mut Judge) {
        judge.machine.observe(now, signs);
        self.show(&judge.machine);
    }

    pub(crate) fn report(&self) -> HealthReport {
        let judge = self.judge();
        HealthReport {
            state: judge.machine.state(),
            conditions: judge.machine.conditions(),
            closings: judge.machine.closings(),
            refused: self.refused.load(Ordering::Relaxed),
            read_errors: self.read_errors.load(Ordering::Relaxed),
            space: judge.watch.space(),
        }
    }

    fn raise(&self, reason: Reason) {
        let mut judge = self.judge();
        judge.machine.raise(reason);
        self.show(&judge.machine);
    }

    /// Moves the gate. Only called with the judge held, so that no older verdict overtakes.
    fn show(&self, machine: &Machine) {
        let reason = machine.shedding();
        let code = reason.map_or(0, Reason::code);
        let before = Reason::from_code(self.gate.swap(code, Ordering::SeqCst));
        match (before, reason) {
            (before, Some(reason)) if before != Some(reason) => {
                tracing::warn!(reason = reason.name(), "the gate is closed: {}", reason.text());
            }
            (Some(before), None) => {
                tracing::info!(reason = before.name(), "the gate is open again");
            }
            _ => {}
        }
    }

    fn judge(&self) -> MutexGuard<'_, Judge> {
        self.judge.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
