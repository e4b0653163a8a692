//! Counting what is live, in the log and in each segment.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::index::Location;
use crate::segment::Segment;
use crate::shared::Shared;

/// Some records.
#[derive(Clone, Copy, Debug, Default)]
struct Sum {
    records: u64,
    frame_bytes: u64,
    payload_bytes: u64,
}

impl Sum {
    fn of(location: &Location) -> Self {
        let mut sum = Self::default();
        sum.add(location);
        sum
    }

    fn add(&mut self, location: &Location) {
        self.records += 1;
        self.frame_bytes += location.frame_len();
        self.payload_bytes += u64::from(location.len());
    }
}

/// What some changes of the index come to. The levels are shared with readers, so that each record
/// on its own would cost four moves of a cache line.
///
/// Between a change of the index and [`Self::settle`] the levels are behind. What is live in the
/// segment that is written may be counted late, since nobody reclaims it; what is dead in others is
/// never counted early.
#[derive(Debug)]
pub(crate) struct Tally<'a> {
    shared: &'a Shared,
    /// The segment that is written.
    active: &'a Segment,
    live: Sum,
    dead: Sum,
    dead_in_active: Sum,
    /// The last other segment in which something died: mostly the next one dies there, too.
    other: Option<Arc<Segment>>,
    dead_in_other: Sum,
}

impl<'a> Tally<'a> {
    pub(crate) fn new(shared: &'a Shared, active: &'a Segment) -> Self {
        Self {
            shared,
            active,
            live: Sum::default(),
            dead: Sum::default(),
            dead_in_active: Sum::default(),
            other: None,
            dead_in_other: Sum::default(),
        }
    }

    /// The index has come to point to a place in the segment that is written.
    pub(crate) fn add_live(&mut self, location: &Location) {
        debug_assert_eq!(location.segment(), self.active.id);
        self.live.add(location);
    }

    /// The index has ceased to point to this place.
    pub(crate) fn add_dead(&mut self, location: &Location) {
        self.dead.add(location);
        let segment = location.segment();
        if segment == self.active.id {
            self.dead_in_active.add(location);
            return;
        }
        if self.other.as_ref().is_none_or(|other| other.id != segment) {
            self.settle_other();
            self.other = self.shared.segment(segment);
        }
        self.dead_in_other.add(location);
    }

    /// Brings the levels up to date.
    pub(crate) fn settle(&mut self) {
        let (live, dead) = (std::mem::take(&mut self.live), std::mem::take(&mut self.dead));
        self.shared.count(&live, &dead);
        self.active.count(&live, &std::mem::take(&mut self.dead_in_active));
        self.settle_other();
    }

    fn settle_other(&mut self) {
        let dead = std::mem::take(&mut self.dead_in_other);
        if let Some(other) = &self.other {
            other.count(&Sum::default(), &dead);
        }
    }
}

impl Shared {
    /// Counts a location that the index has come to point to.
    pub(crate) fn count_live(&self, location: &Location) {
        self.count(&Sum::of(location), &Sum::default());
        if let Some(segment) = self.segment(location.segment()) {
            segment.count(&Sum::of(location), &Sum::default());
        }
    }

    /// Counts a location that the index has ceased to point to.
    pub(crate) fn count_dead(&self, location: &Location) {
        self.count(&Sum::default(), &Sum::of(location));
        if let Some(segment) = self.segment(location.segment()) {
            segment.count(&Sum::default(), &Sum::of(location));
        }
    }

    fn count(&self, live: &Sum, dead: &Sum) {
        let counters = &self.counters;
        shift(&counters.live_bytes, live.frame_bytes, dead.frame_bytes);
        shift(&counters.payload_bytes, live.payload_bytes, dead.payload_bytes);
    }
}

impl Segment {
    fn count(&self, live: &Sum, dead: &Sum) {
        shift(&self.live_bytes, live.frame_bytes, dead.frame_bytes);
        shift(&self.live_records, live.records, dead.records);
    }
}

/// Up first, so that the level never passes below zero.
fn shift(level: &AtomicU64, up: u64, down: u64) {
    if up > 0 {
        level.fetch_add(up, Ordering::Relaxed);
    }
    if down > 0 {
        level.fetch_sub(down, Ordering::Relaxed);
    }
}
