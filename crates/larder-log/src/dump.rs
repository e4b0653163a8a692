//! Listing the records of a folder from outside. Changes nothing.

use std::fmt;
use std::path::Path;

use crate::io::{DiskIo, Io};
use crate::record::Kind;
use crate::scan::{Body, Frame};
use crate::verify::{Visit, visit};
use crate::{Damage, OpenError, Slot};

/// One line of a dump.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum DumpItem {
    /// A segment begins.
    #[non_exhaustive]
    Segment {
        /// Its number.
        segment: u64,
        /// The part of the file that counts.
        bytes: u64,
        /// It is complete.
        sealed: bool,
    },
    /// A record.
    #[non_exhaustive]
    Record {
        /// The segment that it lies in.
        segment: u64,
        /// Where in the file.
        offset: u64,
        /// Its position in the log.
        lsn: u64,
        /// What it is: `put`, `delete`, `commit`, `abort`, `footer` or `seal`.
        kind: &'static str,
        /// Whose record it is, for puts and deletes.
        slot: Option<Slot>,
        /// Length of its payload.
        len: u32,
        /// Its payload passes its checksum.
        sound: bool,
        /// What a commit or an abort says, in words.
        note: String,
    },
    /// Records at these positions were given up and do not count: the manifest says so.
    #[non_exhaustive]
    Cancelled {
        /// The first position.
        first: u64,
        /// The last one.
        last: u64,
    },
    /// A damaged place.
    Damage(Damage),
    /// So many bytes at the end are torn.
    Torn(u64),
}

/// Calls `take` for every record of the log in the folder `path`, segment by segment.
///
/// # Errors
/// As [`verify`](crate::verify).
pub fn dump(path: &Path, take: impl FnMut(DumpItem)) -> Result<(), OpenError> {
    dump_with(&DiskIo, path, take)
}

/// [`dump`] on another disk.
///
/// # Errors
/// As [`dump`].
pub fn dump_with(
    io: &dyn Io,
    path: &Path,
    mut take: impl FnMut(DumpItem),
) -> Result<(), OpenError> {
    visit(io, path, |visit| match visit {
        Visit::Damage(damage) => take(DumpItem::Damage(damage)),
        Visit::Cancelled(first, last) => take(DumpItem::Cancelled { first, last }),
        Visit::Torn(0) | Visit::Mended(_) | Visit::Accepted(..) => {}
        Visit::Torn(bytes) => take(DumpItem::Torn(bytes)),
        Visit::Segment(segment, bytes, sealed, _) => {
            take(DumpItem::Segment { segment, bytes, sealed });
        }
        Visit::Frame(segment, frame) => take(record(segment, &frame)),
    })
    .map(drop)
}

fn record(segment: u64, frame: &Frame) -> DumpItem {
    let header = &frame.header;
    let note = match &frame.body {
        Body::Commit(commit) => format!(
            "{} records from {}, durable to {}",
            commit.count, commit.first_lsn, commit.durable_lsn
        ),
        Body::Abort(ranges) => format!("{ranges:?}"),
        Body::Seal(seal) => format!("positions {} to {}", seal.min_lsn, seal.max_lsn),
        Body::Footer(_) => "what the segment holds".to_owned(),
        Body::Delete(0) | Body::None => String::new(),
        Body::Delete(oldest) => format!("since {oldest}"),
    };
    DumpItem::Record {
        segment,
        offset: frame.offset,
        lsn: header.lsn,
        kind: match header.kind {
            Kind::Put => "put",
            Kind::Delete => "delete",
            Kind::Commit => "commit",
            Kind::Abort => "abort",
            Kind::Seal => "seal",
            Kind::Footer => "footer",
        },
        slot: matches!(header.kind, Kind::Put | Kind::Delete).then_some(header.slot),
        len: header.payload_len,
        sound: frame.payload_ok,
        note,
    }
}

impl fmt::Display for DumpItem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Segment { segment, bytes, sealed } => {
                let state = if *sealed { "sealed" } else { "open" };
                write!(f, "segment {segment:x} ({state}, {bytes} bytes)")
            }
            Self::Record { segment, offset, lsn, kind, slot, len, sound, note } => {
                write!(f, "{segment:x}+{offset} lsn {lsn} {kind}")?;
                if let Some(slot) = slot {
                    write!(f, " {slot}")?;
                }
                write!(f, " {len} bytes")?;
                if !note.is_empty() {
                    write!(f, " ({note})")?;
                }
                if !sound {
                    f.write_str(" DAMAGED")?;
                }
                Ok(())
            }
            Self::Damage(damage) => write!(f, "DAMAGE {damage}"),
            Self::Cancelled { first, last } => write!(f, "given up: lsn {first} to {last}"),
            Self::Torn(bytes) => write!(f, "torn tail of {bytes} bytes"),
        }
    }
}
