//! One segment file: its name, its header block and what is known about it while it is open.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use crate::crc32c;
use crate::io::File;
use crate::record::{self, take};

/// The version of the format that this crate writes, and the newest that it reads.
pub(crate) const FORMAT_VERSION: u32 = 1;
/// Where the first frame begins.
pub(crate) const FRAMES_START: u64 = 4096;
/// Segment ids fit the 32 bits that the index has for them.
pub(crate) const SEGMENT_ID_MAX: u64 = u32::MAX as u64;

const MAGIC: [u8; 8] = *b"LARDRSEG";
const FIELDS_LEN: usize = 60;
const CUT_AT: usize = FIELDS_LEN + 4;
const CUT_LEN: usize = 20;
/// The part of a block that is not zeros.
pub(crate) const START_LEN: usize = CUT_AT + CUT_LEN;
const BLOCK_LEN: usize = 4096;
const _: () = assert!(BLOCK_LEN as u64 == FRAMES_START);

/// Who wrote a segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The committer: positions ascend without gaps.
    Log = 0,
    /// Compaction: copies that were live when `as_of_lsn` was the newest published position.
    Compaction = 1,
    /// Recovery: copies of what lay above the durable mark, then the committer.
    Recovery = 2,
}

impl Origin {
    pub(crate) fn from_byte(byte: u8) -> Self {
        match byte {
            1 => Self::Compaction,
            2 => Self::Recovery,
            _ => Self::Log,
        }
    }
}

/// The block at the start of a segment file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct SegmentHeader {
    pub(crate) store: [u8; 16],
    pub(crate) id: u64,
    /// Position that the first frame of the committer gets.
    pub(crate) base_lsn: u64,
    /// For compaction: the newest published position when the copying began. Otherwise 0.
    pub(crate) as_of_lsn: u64,
    pub(crate) origin: Origin,
    /// The file held another segment before: what lies behind the frames means nothing.
    pub(crate) recycled: bool,
}

/// Why a header block gave no header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HeaderFault {
    /// Not a header, or a damaged one.
    Damaged,
    /// A sound header of a later format.
    Newer(u32),
}

impl SegmentHeader {
    /// The whole block: fields, checksum, zeros.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(BLOCK_LEN);
        bytes.extend_from_slice(&MAGIC);
        bytes.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        bytes.extend_from_slice(&self.store);
        bytes.extend_from_slice(&self.id.to_le_bytes());
        bytes.extend_from_slice(&self.base_lsn.to_le_bytes());
        bytes.extend_from_slice(&self.as_of_lsn.to_le_bytes());
        bytes.push(self.origin as u8);
        bytes.push(u8::from(self.recycled));
        bytes.resize(FIELDS_LEN, 0);
        let crc = crc32c::of(&bytes);
        bytes.extend_from_slice(&crc.to_le_bytes());
        bytes.resize(BLOCK_LEN, 0);
        bytes
    }

    /// Reads the start of a block. The version is believed only under a sound checksum, which later
    /// formats keep at the same place.
    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, HeaderFault> {
        let Some(bytes) = bytes.get(..FIELDS_LEN + 4) else { return Err(HeaderFault::Damaged) };
        let crc = u32::from_le_bytes(take(bytes, FIELDS_LEN));
        if bytes[..8] != MAGIC || crc != crc32c::of(&bytes[..FIELDS_LEN]) {
            return Err(HeaderFault::Damaged);
        }
        let version = u32::from_le_bytes(take(bytes, 8));
        if version > FORMAT_VERSION {
            return Err(HeaderFault::Newer(version));
        }
        Ok(Self {
            store: take(bytes, 12),
            id: u64::from_le_bytes(take(bytes, 28)),
            base_lsn: u64::from_le_bytes(take(bytes, 36)),
            as_of_lsn: u64::from_le_bytes(take(bytes, 44)),
            origin: Origin::from_byte(bytes[52]),
            recycled: bytes[53] & 1 != 0,
        })
    }
}

/// Where an older segment ended, as the recovery found that began the segment with this in its block.
/// What lies behind that end was copied or cut, and must not count again if the manifest is lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Cut {
    pub(crate) segment: u64,
    pub(crate) end: u64,
}

impl Cut {
    /// Writes itself into a block, behind the fields of the header.
    pub(crate) fn put_into(self, block: &mut [u8]) {
        block[CUT_AT..CUT_AT + 8].copy_from_slice(&self.segment.to_le_bytes());
        block[CUT_AT + 8..CUT_AT + 16].copy_from_slice(&self.end.to_le_bytes());
        let crc = crc32c::of(&block[..CUT_AT + 16]);
        block[CUT_AT + 16..CUT_AT + CUT_LEN].copy_from_slice(&crc.to_le_bytes());
    }

    /// The cut in the start of a block, if there is one.
    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let bytes = bytes.get(..START_LEN)?;
        let crc = u32::from_le_bytes(take(bytes, CUT_AT + 16));
        let cut = Self {
            segment: u64::from_le_bytes(take(bytes, CUT_AT)),
            end: u64::from_le_bytes(take(bytes, CUT_AT + 8)),
        };
        (cut.segment != 0 && crc == crc32c::of(&bytes[..CUT_AT + 16])).then_some(cut)
    }
}

/// A segment of an open log. Held by everyone who may read from it: the file outlives its name.
#[derive(Debug)]
pub(crate) struct Segment {
    pub(crate) id: u32,
    pub(crate) file: Arc<dyn File>,
    pub(crate) seed: u32,
    pub(crate) origin: Origin,
    pub(crate) as_of_lsn: u64,
    /// Where the next frame goes, or where the last one ended.
    pub(crate) end: AtomicU64,
    pub(crate) sealed: AtomicBool,
    /// Bytes of frames that the index points to.
    pub(crate) live_bytes: AtomicU64,
    pub(crate) live_records: AtomicU64,
    /// Bytes of put frames, dead or alive.
    pub(crate) put_bytes: AtomicU64,
    pub(crate) min_lsn: AtomicU64,
    pub(crate) max_lsn: AtomicU64,
    /// Bytes of delete and abort frames, and the positions that these refer to.
    pub(crate) tombstone_bytes: AtomicU64,
    pub(crate) tombstone_oldest: AtomicU64,
    pub(crate) tombstone_newest: AtomicU64,
    /// Bytes of footer and seal.
    pub(crate) tail_bytes: AtomicU64,
    /// Some of the tombstones are aborts, which may cancel deletes, too.
    pub(crate) holds_aborts: AtomicBool,
    /// Damage was found in it: its file is moved aside, never unlinked.
    pub(crate) damaged: AtomicBool,
    /// The scrubber has told that its file is cut short: once, since that may be acknowledged.
    pub(crate) told_short: AtomicBool,
}

impl Segment {
    pub(crate) fn new(
        header: &SegmentHeader,
        id: u32,
        file: Arc<dyn File>,
        end: u64,
        sealed: bool,
    ) -> Self {
        Self {
            id,
            file,
            seed: record::seed(&header.store, u64::from(id)),
            origin: header.origin,
            as_of_lsn: header.as_of_lsn,
            end: AtomicU64::new(end),
            sealed: AtomicBool::new(sealed),
            live_bytes: AtomicU64::new(0),
            live_records: AtomicU64::new(0),
            put_bytes: AtomicU64::new(0),
            min_lsn: AtomicU64::new(u64::MAX),
            max_lsn: AtomicU64::new(0),
            tombstone_bytes: AtomicU64::new(0),
            tombstone_oldest: AtomicU64::new(u64::MAX),
            tombstone_newest: AtomicU64::new(0),
            tail_bytes: AtomicU64::new(0),
            holds_aborts: AtomicBool::new(false),
            damaged: AtomicBool::new(false),
            told_short: AtomicBool::new(false),
        }
    }

    /// Widens the range of positions that the segment holds.
    pub(crate) fn cover(&self, lsn: u64) {
        self.min_lsn.fetch_min(lsn, Ordering::Relaxed);
        self.max_lsn.fetch_max(lsn, Ordering::Relaxed);
    }

    /// Counts an abort at `lsn` that cancels nothing below `oldest`.
    pub(crate) fn cover_abort(&self, oldest: u64, lsn: u64, frame_len: u64) {
        self.holds_aborts.store(true, Ordering::Relaxed);
        self.cover_tombstone(oldest, lsn, frame_len);
    }

    /// Counts a delete at `lsn` whose older versions lie at `oldest` or above.
    pub(crate) fn cover_tombstone(&self, oldest: u64, lsn: u64, frame_len: u64) {
        self.tombstone_bytes.fetch_add(frame_len, Ordering::Relaxed);
        self.tombstone_oldest.fetch_min(oldest, Ordering::Relaxed);
        self.tombstone_newest.fetch_max(lsn, Ordering::Relaxed);
    }

    pub(crate) fn is_sealed(&self) -> bool {
        self.sealed.load(Ordering::Acquire)
    }

    pub(crate) fn lsn_range(&self) -> (u64, u64) {
        (self.min_lsn.load(Ordering::Relaxed), self.max_lsn.load(Ordering::Relaxed))
    }

    /// Bytes of frames, dead or alive.
    pub(crate) fn data_bytes(&self) -> u64 {
        self.end.load(Ordering::Acquire).saturating_sub(FRAMES_START)
    }

    /// [`Self::data_bytes`] without footer and seal.
    pub(crate) fn record_bytes(&self) -> u64 {
        self.data_bytes().saturating_sub(self.tail_bytes.load(Ordering::Relaxed))
    }

    /// Whether this segment may hold a put that a delete at `lsn`, reaching back to `oldest`, still
    /// has to cancel. Copies made by compaction were live at `as_of_lsn`, so they hold nothing that
    /// was cancelled before; and where every put is live none is cancelled.
    pub(crate) fn may_hold(&self, oldest: u64, lsn: u64) -> bool {
        self.overlaps(oldest, lsn) && !self.is_wholly_live()
    }

    /// [`Self::may_hold`] for an abort, which cancels deletes, too.
    pub(crate) fn may_hold_aborted(&self, oldest: u64, lsn: u64) -> bool {
        let untouched = self.is_wholly_live() && self.tombstone_bytes.load(Ordering::Relaxed) == 0;
        self.overlaps(oldest, lsn) && !untouched
    }

    fn overlaps(&self, oldest: u64, lsn: u64) -> bool {
        let (min, max) = self.lsn_range();
        let copied_later = self.origin == Origin::Compaction && self.as_of_lsn >= lsn;
        min < lsn && max >= oldest && !copied_later
    }

    /// Whether the index points to every put that was ever written here. Unreadable stretches may
    /// hide others.
    fn is_wholly_live(&self) -> bool {
        let puts = self.put_bytes.load(Ordering::Relaxed);
        puts == self.live_bytes.load(Ordering::Relaxed) && !self.damaged.load(Ordering::Relaxed)
    }
}

/// The path of a segment file.
pub(crate) fn path(dir: &Path, id: u64) -> PathBuf {
    dir.join(file_name(id))
}

/// The name of a segment file.
pub(crate) fn file_name(id: u64) -> String {
    format!("seg-{id:016x}.log")
}

/// The id in the name of a segment file.
pub(crate) fn parse_name(name: &str) -> Option<u64> {
    parse_id(name.strip_prefix("seg-")?)
}

/// The id in what follows the prefix of a file's name.
pub(crate) fn parse_id(rest: &str) -> Option<u64> {
    let digits = rest.strip_suffix(".log")?;
    let lower = digits.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
    (digits.len() == 16 && lower).then(|| u64::from_str_radix(digits, 16).ok()).flatten()
}

#[cfg(test)]
mod tests;
