//! Forgetting what is oldest, whether it is live or not: for a log that holds what may be lost.
//!
//! The segments are dropped from the front of the history. No version that was replaced or deleted
//! can come back by that: whatever is older than a dropped record is dropped with it or before it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use crate::Error;
use crate::error::is_no_space;
use crate::index::Location;
use crate::manifest::StoreFault;
use crate::reader::Entry;
use crate::segment::Segment;
use crate::shared::{Item, Shared};
use crate::{Outcome, Slot};

/// What was forgotten.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Forgotten {
    /// Segments that are gone.
    pub segments: u64,
    /// Entries that were live in them.
    pub entries: u64,
    /// Bytes of their files up to their ends.
    pub bytes: u64,
}

impl Shared {
    /// Forgets the oldest sealed segment; `roll` seals the present one where there is no other.
    pub(crate) fn forget_oldest(
        &self,
        roll: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Forgotten, Error> {
        let _guard = self.await_compaction();
        self.check_writable()?;
        let mut oldest = self.oldest();
        if oldest.is_empty() {
            roll()?;
            oldest = self.oldest();
        }
        self.forget(&oldest)
    }

    /// Forgets everything that was visible when it was called.
    pub(crate) fn forget_all(
        &self,
        roll: impl FnOnce() -> Result<(), Error>,
    ) -> Result<Forgotten, Error> {
        let _guard = self.await_compaction();
        self.check_writable()?;
        // First what is sealed: on a full disk that gives the room to seal the rest.
        let first = self.forget(&self.sealed())?;
        roll()?;
        let second = self.forget(&self.sealed())?;
        Ok(Forgotten {
            segments: first.segments + second.segments,
            entries: first.entries + second.entries,
            bytes: first.bytes + second.bytes,
        })
    }

    /// The live entries of what [`Self::forget_oldest`] takes next, in the order of the disk.
    pub(crate) fn oldest_entries(&self, namespace: u16) -> Vec<Entry> {
        let oldest = self.oldest();
        let mut entries = self.entries_in(&oldest);
        entries.retain(|(slot, _)| slot.namespace == namespace);
        entries.sort_by_key(|(_, location)| location.place());
        entries.iter().map(|(slot, location)| Entry::new(slot, location)).collect()
    }

    /// Has the committer seal the present segment.
    pub(crate) fn roll_from_outside(&self) -> Result<(), Error> {
        match self.push_control(Item::Roll).wait(None) {
            Some(Outcome::Failed(error)) => Err(self.maintenance_error(&error)),
            _ => Ok(()),
        }
    }

    /// The sealed segment with the oldest records, and those that compaction has made overlap with
    /// it; none when the present segment is among them.
    fn oldest(&self) -> Vec<Arc<Segment>> {
        let mut all = self.all_segments();
        all.sort_by_key(|segment| segment.lsn_range().0);
        let mut reaches = 0;
        let overlap = all.iter().take_while(|segment| {
            let (min, max) = segment.lsn_range();
            let belongs = reaches == 0 || min < reaches;
            if belongs {
                reaches = reaches.max(max);
            }
            belongs
        });
        let count = overlap.count();
        all.truncate(count);
        if all.iter().all(|segment| segment.is_sealed()) { all } else { Vec::new() }
    }

    fn sealed(&self) -> Vec<Arc<Segment>> {
        let mut all = self.all_segments();
        all.retain(|segment| segment.is_sealed());
        all
    }

    /// What the index has in some segments.
    fn entries_in(&self, segments: &[Arc<Segment>]) -> Vec<(Slot, Location)> {
        let mut entries = Vec::new();
        if !segments.is_empty() {
            self.index.for_each(|slot, location| {
                if segments.iter().any(|segment| segment.id == location.segment()) {
                    entries.push((*slot, *location));
                }
            });
        }
        entries
    }

    /// Takes segments off the list, then out of the index, then off the disk.
    ///
    /// In this order: what the index has ceased to show must not come back, and a delete of what it
    /// does not show is not written.
    fn forget(&self, victims: &[Arc<Segment>]) -> Result<Forgotten, Error> {
        let mut forgotten = Forgotten::default();
        if victims.is_empty() {
            return Ok(forgotten);
        }
        self.unlist(victims)?;
        for (slot, location) in self.entries_in(victims) {
            if self.index.remove_at(&slot, &location) {
                self.count_dead(&location);
                forgotten.entries += 1;
            }
        }
        for victim in victims {
            self.remove_segment(victim.id);
            self.damage.forget(u64::from(victim.id));
            forgotten.segments += 1;
            forgotten.bytes += victim.end.load(Ordering::Relaxed);
            if let Err(error) = self.give_file_back(victim) {
                tracing::warn!(%error, segment = victim.id, "cannot remove a forgotten segment");
            }
        }
        Ok(forgotten)
    }

    fn unlist(&self, victims: &[Arc<Segment>]) -> Result<(), Error> {
        let stored = self.manifest().replace(&*self.io, &self.dir, |manifest| {
            let gone = |id: u64| victims.iter().any(|victim| u64::from(victim.id) == id);
            manifest.segments.retain(|listed| !gone(listed.id));
            manifest.void.extend(victims.iter().map(|victim| u64::from(victim.id)));
            manifest.forget_accepted();
        });
        let failed = |error: io::Error| {
            if is_no_space(&error) {
                return Error::NoSpace;
            }
            Error::io("list the segments of", &self.dir, error)
        };
        match stored {
            Ok(()) => Ok(()),
            Err(StoreFault::Unchanged(error)) => Err(failed(error)),
            Err(StoreFault::Unknown(error)) => {
                // Old or new may come back after a crash, so the files must stay.
                self.health.poison();
                Err(failed(error))
            }
        }
    }
}
