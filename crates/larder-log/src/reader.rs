//! Reading what the index points to. Every read checks the header and the payload.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::{Buf, Bytes};

use crate::crc32c;
use crate::damage::{Damage, DamageKind};
use crate::index::Location;
use crate::io::{Advice, read_full};
use crate::mend;
use crate::record::{HEADER_LEN, Header, Kind};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::{ReadError, Slot};

/// A segment leaves the table only after its entries have moved, so looking again finds them.
const LOOKS_MAX: usize = 1000;

/// Larger payloads are copied and checked on a thread that may take its time.
const NOW_BYTES_MAX: u32 = 1 << 20;

/// What could be said without waiting for the disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "there is no third case")]
pub enum Now {
    /// The payload, `None` when the slot holds nothing.
    Ready(Option<Bytes>),
    /// The bytes may not be in memory, or are more than 1 MiB: [`Log::get`](crate::Log::get) waits
    /// for them.
    WouldBlock,
}

/// An entry as the index knows it.
#[derive(Clone, Copy, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// What it is stored under.
    pub slot: Slot,
    /// Length of the payload in bytes.
    pub len: u32,
    /// The slot held something when the log was opened.
    pub pre_open: bool,
    location: Location,
}

impl Entry {
    pub(crate) fn new(slot: &Slot, location: &Location) -> Self {
        let (len, pre_open) = (location.len(), location.pre_open());
        Self { slot: *slot, len, pre_open, location: *location }
    }

    pub(crate) fn lies_at(&self, location: &Location) -> bool {
        self.location.same_place(location)
    }

    /// Whether `damage` is that of this very record: not of one that the slot held before.
    pub fn is_at(&self, damage: &Damage) -> bool {
        (self.slot, u64::from(self.location.segment()), self.location.offset())
            == (damage.slot.unwrap_or(self.slot), damage.segment, damage.offset)
    }
}

/// All entries of a namespace, from memory: see [`Log::entries`](crate::Log::entries).
#[derive(Debug)]
pub struct Entries<'a> {
    shared: &'a Shared,
    namespace: u16,
    next_shard: usize,
    ready: Vec<Entry>,
}

impl<'a> Entries<'a> {
    pub(crate) fn new(shared: &'a Shared, namespace: u16) -> Self {
        Self { shared, namespace, next_shard: 0, ready: Vec::new() }
    }
}

impl Iterator for Entries<'_> {
    type Item = Entry;

    fn next(&mut self) -> Option<Entry> {
        loop {
            if let Some(entry) = self.ready.pop() {
                return Some(entry);
            }
            let (namespace, ready) = (self.namespace, &mut self.ready);
            let more = self.shared.index.visit_shard(self.next_shard, |slot, location| {
                if slot.namespace == namespace {
                    ready.push(Entry::new(slot, location));
                }
            });
            if !more {
                return None;
            }
            self.next_shard += 1;
        }
    }
}

/// Whether a read may wait for the disk.
#[derive(Clone, Copy)]
enum Wait {
    Yes,
    No,
}

/// What a place on disk gave.
enum Found {
    Sound(Bytes),
    /// Not, or no longer, what was written there.
    Unsound,
    /// The header is so rotten that the record alone does not tell what it was.
    Headless,
    WouldBlock,
}

impl Shared {
    pub(crate) fn read_slot(&self, slot: Slot) -> Result<Option<Bytes>, ReadError> {
        match self.read(slot, Wait::Yes)? {
            Now::Ready(payload) => Ok(payload),
            Now::WouldBlock => Err(unsettled(0)),
        }
    }

    pub(crate) fn read_slot_now(&self, slot: Slot) -> Result<Now, ReadError> {
        self.read(slot, Wait::No)
    }

    fn read(&self, slot: Slot, wait: Wait) -> Result<Now, ReadError> {
        let (mut segment_id, mut mended) = (0, false);
        for _ in 0..LOOKS_MAX {
            if self.is_closed() {
                return Err(ReadError::Closed);
            }
            let Some(location) = self.index.get(&slot) else { return Ok(Now::Ready(None)) };
            segment_id = location.segment();
            let Some(segment) = self.segment(segment_id) else {
                std::thread::yield_now();
                continue;
            };
            let found = match wait {
                _ if location.corrupt() => Found::Unsound,
                Wait::No if location.len() > NOW_BYTES_MAX => Found::WouldBlock,
                _ => read_frame(slot, &location, &segment, wait).inspect_err(|_| {
                    self.health.found_read_error(segment.id, location.offset());
                })?,
            };
            match found {
                Found::Sound(payload) => return Ok(Now::Ready(Some(payload))),
                Found::WouldBlock => return Ok(Now::WouldBlock),
                // A footer may tell.
                Found::Headless if !mended && segment.is_sealed() => {
                    if matches!(wait, Wait::No) {
                        return Ok(Now::WouldBlock);
                    }
                    mended = true;
                    let frame = (location.offset(), location.offset() + location.frame_len());
                    self.mend_stretch(&segment, frame);
                }
                Found::Unsound | Found::Headless if self.is_still_at(slot, &location, &segment) => {
                    self.report_payload(slot, &location, &segment);
                    return Err(ReadError::Corrupt { slot });
                }
                // Replaced or moved while it was read, and its blocks used for something else.
                Found::Unsound | Found::Headless => {}
            }
        }
        Err(unsettled(segment_id))
    }

    /// Whether what was read a moment ago was the slot's present record. A file is used again only
    /// after the index has ceased to point to it, so a look after the read decides.
    fn is_still_at(&self, slot: Slot, location: &Location, segment: &Arc<Segment>) -> bool {
        self.index.get(&slot).is_some_and(|now| now.same_place(location))
            && self.segment(segment.id).is_some_and(|now| Arc::ptr_eq(&now, segment))
    }

    /// All entries of a namespace, in the order of the disk.
    pub(crate) fn snapshot(&self, namespace: u16) -> Vec<Entry> {
        let mut entries: Vec<Entry> = Entries::new(self, namespace).collect();
        entries.sort_by_key(|entry| (entry.location.segment(), entry.location.offset()));
        entries
    }

    /// Notes a damaged entry, once.
    pub(crate) fn report_payload(&self, slot: Slot, location: &Location, segment: &Segment) {
        segment.damaged.store(true, Ordering::Relaxed);
        let new = self.damage.add(Damage {
            slot: Some(slot),
            segment: u64::from(segment.id),
            offset: location.offset(),
            bytes: location.frame_len(),
            what: DamageKind::Payload,
        });
        if new {
            self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(segment = segment.id, offset = location.offset(), "corrupt entry");
        }
    }

    /// Gives memory back; returns how many bytes of this process.
    pub(crate) fn give_memory_back(&self) -> i64 {
        let before = self.index.bytes();
        self.index.shrink();
        let after = self.index.bytes();
        for segment in self.all_segments().iter().filter(|segment| segment.is_sealed()) {
            // The system's memory, not ours, so it does not count.
            segment.file.advise(0, 0, Advice::DontNeed);
        }
        i64::try_from(before).unwrap_or(i64::MAX) - i64::try_from(after).unwrap_or(i64::MAX)
    }
}

/// The payload of the frame at `location`. One read, one allocation.
fn read_frame(
    slot: Slot,
    location: &Location,
    segment: &Segment,
    wait: Wait,
) -> Result<Found, ReadError> {
    let failed = |source| ReadError::Io { segment: u64::from(segment.id), source };
    let mut frame = vec![0; HEADER_LEN + location.len() as usize];
    match wait {
        Wait::No => {
            if !segment.file.read_now(&mut frame, location.offset()).map_err(failed)? {
                return Ok(Found::WouldBlock);
            }
        }
        Wait::Yes => {
            let read = read_full(&*segment.file, &mut frame, location.offset()).map_err(failed)?;
            frame.truncate(read);
        }
    }
    let is_sound = |header: &Header| {
        header.kind == Kind::Put
            && header.slot == slot
            && header.lsn == location.lsn()
            && frame.len() == HEADER_LEN + header.payload_len as usize
            && crc32c::of(&frame[HEADER_LEN..]) == header.payload_crc
    };
    // What the index says of the record makes up for a rotten byte in its header.
    match Header::decode(&frame, segment.seed) {
        Some(header) if !is_sound(&header) => return Ok(Found::Unsound),
        Some(_) => {}
        None => {
            let mut candidates = mend::candidates(&frame, segment.seed);
            candidates.retain(is_sound);
            if candidates.len() != 1 {
                return Ok(Found::Headless);
            }
        }
    }
    let mut payload = Bytes::from(frame);
    payload.advance(HEADER_LEN);
    Ok(Found::Sound(payload))
}

/// The entry moved on and on while it was looked for.
pub(crate) fn unsettled(segment: u32) -> ReadError {
    let source = std::io::Error::other("the entry moved each time it was looked at: try again");
    ReadError::Io { segment: u64::from(segment), source }
}
