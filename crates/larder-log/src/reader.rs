//! Reading what the index points to. Every read checks the header and the payload.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bytes::Bytes;

use crate::damage::{Damage, DamageKind};
use crate::index::Location;
use crate::io::read_full;
use crate::record::{HEADER_LEN, Header, Kind};
use crate::segment::Segment;
use crate::shared::Shared;
use crate::{ReadError, Slot};

/// A segment leaves the table only after its entries have moved, so looking again finds them.
const LOOKS_MAX: usize = 1000;

/// One entry of a [`Log::snapshot`](crate::Log::snapshot). Holding it keeps its bytes readable.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Entry {
    /// What it is stored under.
    pub slot: Slot,
    /// Length of the payload in bytes.
    pub len: u32,
    /// The slot held something when the log was opened.
    pub pre_open: bool,
    location: Location,
    segment: Arc<Segment>,
}

impl Entry {
    /// Whether `damage` is that of this very record: not of one that the slot held before.
    pub fn is_at(&self, damage: &Damage) -> bool {
        (self.slot, u64::from(self.segment.id), self.location.offset())
            == (damage.slot.unwrap_or(self.slot), damage.segment, damage.offset)
    }
}

impl Shared {
    pub(crate) fn read_slot(&self, slot: Slot) -> Result<Option<Bytes>, ReadError> {
        if self.is_closed() {
            return Err(ReadError::Closed);
        }
        match self.find(slot) {
            None => Ok(None),
            Some((location, segment)) => self.read_location(slot, &location, &segment).map(Some),
        }
    }

    pub(crate) fn read_entry(&self, entry: &Entry) -> Result<Option<Bytes>, ReadError> {
        match self.index.get(&entry.slot) {
            _ if self.is_closed() => Err(ReadError::Closed),
            None => Ok(None),
            Some(now) if now.same_place(&entry.location) => {
                self.read_location(entry.slot, &now, &entry.segment).map(Some)
            }
            Some(_) => self.read_slot(entry.slot),
        }
    }

    pub(crate) fn snapshot(&self, namespace: u16) -> Vec<Entry> {
        let mut places = Vec::new();
        self.index.for_each(|slot, location| {
            if slot.namespace == namespace {
                places.push((*slot, *location));
            }
        });
        let mut entries: Vec<Entry> = places
            .into_iter()
            .filter_map(|(slot, location)| {
                let (location, segment) = match self.segment(location.segment()) {
                    Some(segment) => (location, segment),
                    // It has moved, or was removed, since the shard was read.
                    None => self.find(slot)?,
                };
                let (len, pre_open) = (location.len(), location.pre_open());
                Some(Entry { slot, len, pre_open, location, segment })
            })
            .collect();
        entries.sort_by_key(|entry| (entry.location.segment(), entry.location.offset()));
        entries
    }

    fn find(&self, slot: Slot) -> Option<(Location, Arc<Segment>)> {
        for _ in 0..LOOKS_MAX {
            let location = self.index.get(&slot)?;
            if let Some(segment) = self.segment(location.segment()) {
                return Some((location, segment));
            }
            std::thread::yield_now();
        }
        None
    }

    fn read_location(
        &self,
        slot: Slot,
        location: &Location,
        segment: &Segment,
    ) -> Result<Bytes, ReadError> {
        if !location.corrupt()
            && let Some(bytes) = read_frame(slot, location, segment)?
        {
            return Ok(bytes);
        }
        self.report_payload(slot, location, segment);
        Err(ReadError::Corrupt { slot })
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
}

/// The payload of the frame at `location`, or `None` if it is not, or no longer, what was written.
pub(crate) fn read_frame(
    slot: Slot,
    location: &Location,
    segment: &Segment,
) -> Result<Option<Bytes>, ReadError> {
    let mut frame = vec![0; HEADER_LEN + location.len() as usize];
    let read = read_full(&*segment.file, &mut frame, location.offset())
        .map_err(|source| ReadError::Io { segment: u64::from(segment.id), source })?;
    frame.truncate(read);
    let sound = Header::decode(&frame, segment.seed).is_some_and(|header| {
        header.kind == Kind::Put
            && header.slot == slot
            && header.lsn == location.lsn()
            && frame.len() == HEADER_LEN + header.payload_len as usize
            && crc32c::crc32c(&frame[HEADER_LEN..]) == header.payload_crc
    });
    Ok(sound.then(|| Bytes::from(frame).slice(HEADER_LEN..)))
}
