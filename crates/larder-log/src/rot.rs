//! Telling what rot has hit in a segment that is in use.

use std::sync::atomic::Ordering;

use crate::damage::{Damage, DamageKind};
use crate::segment::Segment;
use crate::shared::Shared;

impl Shared {
    /// Notes a stretch in which no record header can be read. The entries that lie there are known
    /// from memory: each is noted as well. Returns how many these are.
    pub(crate) fn report_stretch(&self, segment: &Segment, (from, to): (u64, u64)) -> u64 {
        let mut lost = Vec::new();
        self.index.for_each(|slot, location| {
            if location.segment() == segment.id && (from..to).contains(&location.offset()) {
                lost.push((*slot, *location));
            }
        });
        for (slot, location) in &lost {
            self.report_payload(*slot, location, segment);
        }
        // It may also have held deletes.
        self.report_range(segment, (from, to), DamageKind::Unidentified);
        lost.len() as u64
    }

    /// Notes damage that belongs to no entry in particular, once.
    pub(crate) fn report_range(&self, segment: &Segment, (from, to): (u64, u64), what: DamageKind) {
        segment.damaged.store(true, Ordering::Relaxed);
        let new = self.damage.add(Damage {
            slot: None,
            segment: u64::from(segment.id),
            offset: from,
            bytes: to - from,
            what,
        });
        if new {
            self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(segment = segment.id, offset = from, %what, "damage found");
        }
    }
}
