//! Damage that was found, entry by entry.

use std::sync::{Mutex, PoisonError};

use crate::Slot;

/// What kind of damage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum DamageKind {
    /// The payload of one entry fails its checksum.
    Payload,
    /// A stretch in which no record header can be read: what it held is unknown. An older version of
    /// what was replaced or deleted there may be shown.
    Unidentified,
    /// Such a stretch that was acknowledged.
    Accepted,
    /// The header block of a segment; its records were read nevertheless.
    SegmentHeader,
    /// The footer of a segment, or its seal; the segment was read as a whole instead.
    Footer,
    /// A segment file is gone.
    Vanished,
    /// A segment file is shorter than what had been written to it.
    CutShort,
    /// A segment file of another log stands in the folder.
    Foreign,
    /// A segment file carries another name than its header says: a copy, or renamed.
    Misplaced,
    /// A segment file that was retired long ago, or never made here, stands in the folder.
    Unlisted,
    /// The manifest is gone or unreadable; the set of segments was rebuilt from the files.
    Manifest,
}

impl DamageKind {
    /// Whether it concerns whole files, or nobody knows what: then the log takes no puts until it is
    /// acknowledged.
    pub fn is_structural(self) -> bool {
        match self {
            Self::Payload | Self::Accepted | Self::SegmentHeader | Self::Footer => false,
            Self::Unidentified
            | Self::Vanished
            | Self::CutShort
            | Self::Foreign
            | Self::Misplaced
            | Self::Unlisted
            | Self::Manifest => true,
        }
    }
}

impl std::fmt::Display for DamageKind {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Payload => "payload fails its checksum",
            Self::Unidentified => "unreadable records",
            Self::Accepted => "unreadable records, acknowledged",
            Self::SegmentHeader => "unreadable segment header, its records were read",
            Self::Footer => "unreadable segment footer, the segment was read instead",
            Self::Vanished => "segment file is missing",
            Self::CutShort => "segment file is cut short",
            Self::Foreign => "segment file belongs to another log",
            Self::Misplaced => "segment file carries the wrong name",
            Self::Unlisted => "segment file is not part of this log",
            Self::Manifest => "manifest is missing or unreadable",
        })
    }
}

/// One damaged place. The bytes stay on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Damage {
    /// Whose entry it is, where that can be told. Such an entry is also in
    /// [`Log::snapshot`](crate::Log::snapshot), and reading it gives the error.
    pub slot: Option<Slot>,
    /// The segment's number (the digits in the file name); 0 for the manifest.
    pub segment: u64,
    /// Where in the file.
    pub offset: u64,
    /// How many bytes; 0 where that means nothing.
    pub bytes: u64,
    /// What was found.
    pub what: DamageKind,
}

impl std::fmt::Display for Damage {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "segment {:x} at {}: {}", self.segment, self.offset, self.what)?;
        match self.slot {
            Some(slot) => write!(f, " ({slot})"),
            None => Ok(()),
        }
    }
}

/// The damage of an open log, each place once.
#[derive(Debug, Default)]
pub(crate) struct DamageList(Mutex<Vec<Damage>>);

/// More places than anyone reads; the count goes on.
const PLACES_MAX: usize = 1 << 16;

impl DamageList {
    pub(crate) fn new(found: Vec<Damage>) -> Self {
        Self(Mutex::new(found))
    }

    /// Adds a place; false if it is known already.
    pub(crate) fn add(&self, damage: Damage) -> bool {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = list.iter().any(|other| {
            let accepted =
                other.what == DamageKind::Accepted && damage.what == DamageKind::Unidentified;
            (other.segment, other.offset) == (damage.segment, damage.offset)
                && (other.what == damage.what || accepted)
        });
        if !known && list.len() < PLACES_MAX {
            list.push(damage);
        }
        !known
    }

    /// Drops what is structural; of stretches it stays known that they are unreadable.
    pub(crate) fn accept(&self) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        for damage in list.iter_mut().filter(|damage| damage.what == DamageKind::Unidentified) {
            damage.what = DamageKind::Accepted;
        }
        list.retain(|damage| !damage.what.is_structural());
    }

    /// Drops what lies in a segment that is gone on purpose.
    pub(crate) fn forget(&self, segment: u64) {
        let mut list = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        list.retain(|damage| damage.segment != segment);
    }

    pub(crate) fn all(&self) -> Vec<Damage> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    pub(crate) fn structural(&self) -> Vec<Damage> {
        let mut all = self.all();
        all.retain(|damage| damage.what.is_structural());
        all
    }
}
