//! Bringing records into the index: from any thread and in any order, the same comes out.

use std::borrow::Borrow;
use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use crate::Slot;
use crate::index::{Index, Location};
use crate::record::{self, Kind};
use crate::scan::{Body, Frame};
use crate::segment::{Origin, Segment};

const SHARDS: usize = 64;

/// The index while it is being filled.
pub(super) struct Replay {
    pub(super) index: Index,
    /// The highest delete of each slot that was met so far.
    deletes: Box<[Mutex<Deletes>]>,
    /// Ranges of positions that never happened, last by first. No two of them overlap, and there
    /// may be many: a disk that stalls has everybody give up. All are known before the first
    /// record is brought in.
    aborted: BTreeMap<u64, u64>,
    pub(super) records: AtomicU64,
}

#[derive(Default)]
struct Deletes {
    newest: HashMap<Slot, u64>,
    /// The highest of all: what is newer needs no look.
    highest: u64,
}

impl Replay {
    /// `key` is that of the index.
    pub(super) fn new(key: u64) -> Self {
        let shard = || Mutex::new(Deletes::default());
        Self {
            index: Index::new(key),
            deletes: std::iter::repeat_with(shard).take(SHARDS).collect(),
            aborted: BTreeMap::new(),
            records: AtomicU64::new(0),
        }
    }

    /// Takes note of what the aborts among `frames` cancel. Comes before every [`Self::apply`].
    pub(super) fn note_aborts<'a>(&mut self, frames: impl IntoIterator<Item = &'a Frame>) {
        for frame in frames {
            if let Body::Abort(ranges) = &frame.body {
                self.aborted.extend(ranges.iter().copied());
            }
        }
    }

    /// Takes note of ranges that the manifest says were given up. Comes before every [`Self::apply`].
    pub(super) fn note_cancelled(&mut self, ranges: &[(u64, u64)]) {
        self.aborted.extend(ranges.iter().copied());
    }

    /// Brings the records of a segment into the index.
    pub(super) fn apply(&self, segment: &Segment, frames: impl Iterator<Item: Borrow<Frame>>) {
        let mut records = 0;
        for frame in frames {
            records += 1;
            self.apply_frame(segment, frame.borrow());
        }
        self.records.fetch_add(records, Ordering::Relaxed);
    }

    fn apply_frame(&self, segment: &Segment, frame: &Frame) {
        let (slot, lsn) = (frame.header.slot, frame.header.lsn);
        segment.cover(lsn);
        match frame.header.kind {
            Kind::Put => {
                segment.put_bytes.fetch_add(frame.header.frame_len(), Ordering::Relaxed);
                if !self.is_aborted(segment, lsn) {
                    let deletes = self.deletes(&slot);
                    let gone = deletes.highest > lsn
                        && deletes.newest.get(&slot).is_some_and(|delete| *delete > lsn);
                    if !gone {
                        self.index.put_if_newer(slot, locate(segment, frame));
                    }
                }
            }
            Kind::Delete => {
                let oldest = if let Body::Delete(oldest) = frame.body { oldest } else { 0 };
                segment.cover_tombstone(oldest, lsn, frame.header.frame_len());
                if !self.is_aborted(segment, lsn) {
                    let mut deletes = self.deletes(&slot);
                    deletes.highest = deletes.highest.max(lsn);
                    let newest = deletes.newest.entry(slot).or_default();
                    *newest = lsn.max(*newest);
                    self.index.remove_if_older(&slot, lsn);
                }
            }
            Kind::Abort => {
                let oldest = match &frame.body {
                    Body::Abort(ranges) => ranges.iter().map(|(first, _)| *first).min(),
                    _ => None,
                };
                let len = frame.header.frame_len();
                segment.cover_abort(oldest.unwrap_or(0), lsn, len);
            }
            Kind::Footer | Kind::Seal => {
                segment.tail_bytes.fetch_add(frame.header.frame_len(), Ordering::Relaxed);
            }
            Kind::Commit => {}
        }
    }

    /// Compaction never copies what was given up, so its copies are never meant.
    fn is_aborted(&self, segment: &Segment, lsn: u64) -> bool {
        segment.origin != Origin::Compaction
            && self.aborted.range(..=lsn).next_back().is_some_and(|(_, last)| lsn <= *last)
    }

    /// Held over a look at the deletes and the change that follows from it.
    fn deletes(&self, slot: &Slot) -> std::sync::MutexGuard<'_, Deletes> {
        let shard = slot.id.iter().fold(0, |mix: u8, byte| mix.rotate_left(3) ^ byte);
        let shard = &self.deletes[usize::from(shard) % SHARDS];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn locate(segment: &Segment, frame: &Frame) -> Location {
    let header = &frame.header;
    Location::new(segment.id, frame.offset, header.payload_len, header.lsn)
        .with_pre_open(true)
        .with_replaced(header.flags & record::FLAG_REPLACES != 0)
        .with_corrupt(!frame.payload_ok)
}
