//! The list of segments that count, replaced as a whole.
//!
//! A segment file counts only when the manifest lists it, and a listed one that is not there is
//! damage: without the list, a vanished file would look like one that was never written. Every
//! change of the set (a new segment, compaction, recovery) is one atomic replacement, so a crash
//! leaves the old set or the new one.

use std::io;
use std::path::{Path, PathBuf};

use crate::crc32c;
pub(crate) use crate::io::StoreFault;
use crate::io::{Io, read_full, write_all};
use crate::record::take;
use crate::segment::{FORMAT_VERSION, Origin};

pub(crate) const NAME: &str = "MANIFEST";
pub(crate) const TEMPORARY: &str = "MANIFEST.tmp";
const MAGIC: [u8; 8] = *b"LARDRMAN";
/// Magic, version, length and store id, with a checksum of their own: later formats keep them.
const PREFIX_LEN: usize = 36;
const FIXED_LEN: usize = PREFIX_LEN + 48;
const ENTRY_LEN: usize = 48;
/// Far above what fits a disk; a longer one is noise.
const LEN_MAX: u64 = 1 << 30;

/// One segment of the set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Listed {
    pub(crate) id: u64,
    /// Where its frames end; 0 while it is the one that is appended to.
    pub(crate) end: u64,
    pub(crate) base_lsn: u64,
    pub(crate) as_of_lsn: u64,
    pub(crate) min_lsn: u64,
    pub(crate) max_lsn_and_origin: (u64, Origin),
}

/// The set of segments.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Manifest {
    pub(crate) store: [u8; 16],
    /// The next id that no listed file ever had.
    pub(crate) next_segment: u64,
    /// Positions up to here had survived a sync when this was written.
    pub(crate) durable_lsn: u64,
    /// No position from here on was ever given out, as far as was known.
    pub(crate) next_lsn: u64,
    /// The log was shut down with the last segment ending here, all of it synced. 0: it was not.
    pub(crate) clean_end: u64,
    /// In the order of their ids; the appended one, if any, has `end` 0.
    pub(crate) segments: Vec<Listed>,
    /// Files with these ids mean nothing and may be deleted.
    pub(crate) void: Vec<u64>,
    /// Ranges of positions that were given up, and no record may say so: first and last.
    pub(crate) cancelled: Vec<(u64, u64)>,
    /// Unreadable stretches that were acknowledged: segment and offset.
    pub(crate) accepted: Vec<(u64, u64)>,
    /// It was made anew from the files, and nobody has acknowledged yet that there was none.
    pub(crate) rebuilt: bool,
}

/// Why there is no manifest.
#[derive(Debug)]
pub(crate) enum ManifestFault {
    Missing,
    Damaged,
    Newer(u32),
    Io(io::Error),
}

impl Manifest {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let lists = self.segments.len() * ENTRY_LEN + self.void.len() * 8;
        let pairs = self.cancelled.len() + self.accepted.len();
        let len = FIXED_LEN + lists + pairs * 16 + 4;
        let mut out = Vec::with_capacity(len);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT_VERSION.to_le_bytes());
        push_u32(&mut out, len);
        out.extend_from_slice(&self.store);
        let prefix_crc = crc32c::of(&out);
        out.extend_from_slice(&prefix_crc.to_le_bytes());
        for number in [self.next_segment, self.durable_lsn, self.next_lsn, self.clean_end] {
            out.extend_from_slice(&number.to_le_bytes());
        }
        push_u32(&mut out, self.segments.len());
        push_u32(&mut out, self.void.len());
        push_u32(&mut out, self.cancelled.len());
        push_u32(&mut out, usize::from(self.rebuilt));
        for listed in &self.segments {
            let (max_lsn, origin) = listed.max_lsn_and_origin;
            for number in [listed.id, listed.end, listed.base_lsn, listed.as_of_lsn, listed.min_lsn]
            {
                out.extend_from_slice(&number.to_le_bytes());
            }
            // Positions never reach 2^56: at a million a second that takes two thousand years.
            let packed = (max_lsn & (u64::MAX >> 8)) | (u64::from(origin as u8) << 56);
            out.extend_from_slice(&packed.to_le_bytes());
        }
        for id in &self.void {
            out.extend_from_slice(&id.to_le_bytes());
        }
        for (first, last) in self.cancelled.iter().chain(&self.accepted) {
            out.extend_from_slice(&first.to_le_bytes());
            out.extend_from_slice(&last.to_le_bytes());
        }
        let crc = crc32c::of(&out);
        out.extend_from_slice(&crc.to_le_bytes());
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Result<Self, ManifestFault> {
        let damaged = Err(ManifestFault::Damaged);
        if bytes.len() < PREFIX_LEN
            || bytes[..8] != MAGIC
            || u32::from_le_bytes(take(bytes, 32)) != crc32c::of(&bytes[..32])
        {
            return damaged;
        }
        let version = u32::from_le_bytes(take(bytes, 8));
        if version > FORMAT_VERSION {
            return Err(ManifestFault::Newer(version));
        }
        let crc_at = bytes.len() - 4;
        if bytes.len() < FIXED_LEN + 4
            || u32::from_le_bytes(take(bytes, 12)) as usize != bytes.len()
            || u32::from_le_bytes(take(bytes, crc_at)) != crc32c::of(&bytes[..crc_at])
        {
            return damaged;
        }
        let number = |at: usize| u64::from_le_bytes(take(bytes, at));
        let pair = |at: usize| (number(at), number(at + 8));
        let segments = u32::from_le_bytes(take(bytes, PREFIX_LEN + 32)) as usize;
        let void = u32::from_le_bytes(take(bytes, PREFIX_LEN + 36)) as usize;
        let cancelled = u32::from_le_bytes(take(bytes, PREFIX_LEN + 40)) as usize;
        let flags = u32::from_le_bytes(take(bytes, PREFIX_LEN + 44));
        let void_at = FIXED_LEN + segments.saturating_mul(ENTRY_LEN);
        let cancelled_at = void_at.saturating_add(void.saturating_mul(8));
        let accepted_at = cancelled_at.saturating_add(cancelled.saturating_mul(16));
        // The rest of it.
        let accepted = match crc_at.checked_sub(accepted_at) {
            Some(len) if len % 16 == 0 => len / 16,
            _ => return damaged,
        };
        Ok(Self {
            store: take(bytes, 16),
            next_segment: number(PREFIX_LEN),
            durable_lsn: number(PREFIX_LEN + 8),
            next_lsn: number(PREFIX_LEN + 16),
            clean_end: number(PREFIX_LEN + 24),
            segments: (0..segments)
                .map(|i| {
                    let at = FIXED_LEN + i * ENTRY_LEN;
                    let packed = number(at + 40);
                    Listed {
                        id: number(at),
                        end: number(at + 8),
                        base_lsn: number(at + 16),
                        as_of_lsn: number(at + 24),
                        min_lsn: number(at + 32),
                        max_lsn_and_origin: (
                            packed & (u64::MAX >> 8),
                            Origin::from_byte(packed.to_le_bytes()[7]),
                        ),
                    }
                })
                .collect(),
            void: (0..void).map(|i| number(void_at + i * 8)).collect(),
            cancelled: (0..cancelled).map(|i| pair(cancelled_at + i * 16)).collect(),
            accepted: (0..accepted).map(|i| pair(accepted_at + i * 16)).collect(),
            rebuilt: flags & 1 != 0,
        })
    }

    /// Drops what was acknowledged of segments that are gone.
    pub(crate) fn forget_accepted(&mut self) {
        let segments = &self.segments;
        self.accepted.retain(|(id, _)| segments.iter().any(|listed| listed.id == *id));
        self.accepted.sort_unstable();
        self.accepted.dedup();
    }

    pub(crate) fn load(io: &dyn Io, dir: &Path) -> Result<Self, ManifestFault> {
        let file = match io.open(&dir.join(NAME), false) {
            Ok(file) => file,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {
                return Err(ManifestFault::Missing);
            }
            Err(error) => return Err(ManifestFault::Io(error)),
        };
        let size = file.size().map_err(ManifestFault::Io)?;
        if size > LEN_MAX {
            return Err(ManifestFault::Damaged);
        }
        let mut bytes = vec![0; usize::try_from(size).unwrap_or(0)];
        let read = read_full(&*file, &mut bytes, 0).map_err(ManifestFault::Io)?;
        bytes.truncate(read);
        Self::decode(&bytes)
    }

    /// Puts this manifest in the place of the present one, and makes that survive power loss.
    pub(crate) fn store(&self, io: &dyn Io, dir: &Path) -> Result<(), StoreFault> {
        let temporary: PathBuf = dir.join(TEMPORARY);
        let written = (|| {
            match io.unlink(&temporary) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
            let file = io.create(&temporary)?;
            write_all(&*file, &[&self.encode()], 0)?;
            file.sync()
        })();
        if let Err(error) = written {
            // Whatever is left of it is removed by the next attempt.
            let _ = io.unlink(&temporary);
            return Err(StoreFault::Unchanged(error));
        }
        io.replace(dir, TEMPORARY, NAME)
    }
}

fn push_u32(out: &mut Vec<u8>, number: usize) {
    out.extend_from_slice(&u32::try_from(number).unwrap_or(u32::MAX).to_le_bytes());
}

#[cfg(test)]
mod tests;
