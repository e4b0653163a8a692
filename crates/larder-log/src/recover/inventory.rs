//! What lies in the folder, against what should.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::{is_unfinished, refuse_manifest};
use crate::OpenError;
use crate::damage::{Damage, DamageKind};
use crate::io::{DirEntry, File, Io, read_full};
use crate::manifest::{Listed, Manifest};
use crate::recycle::{self, FreeFile};
use crate::segment::{
    self, Cut, FORMAT_VERSION, FRAMES_START, HeaderFault, Origin, START_LEN, SegmentHeader,
    parse_name,
};

/// Where damaged files are moved to.
pub(crate) const QUARANTINE: &str = "quarantine";
pub(crate) const LOCK: &str = "LOCK";

/// The folder, sorted out.
#[derive(Debug)]
pub(crate) struct Inventory {
    pub(crate) manifest: Manifest,
    /// The listed segments that can be read.
    pub(crate) found: Vec<Found>,
    pub(crate) damage: Vec<Damage>,
    /// Names that mean nothing: remains of interrupted work.
    pub(crate) leftovers: Vec<String>,
    /// Files that wait to be written again.
    pub(crate) free: Vec<FreeFile>,
    /// There was no manifest: this one was put together from the files.
    pub(crate) is_rebuilt: bool,
}

/// A segment file that counts.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: Arc<dyn File>,
    /// From the file, or put together from what else is known.
    pub(crate) header: SegmentHeader,
    /// Where the tail before it ended, if a recovery began it.
    pub(super) cut: Option<Cut>,
    /// Where its frames end; for the tail nobody knows.
    pub(crate) limit: u64,
    /// The limit is from the manifest, so that less is damage.
    pub(crate) limit_is_exact: bool,
    pub(crate) is_tail: bool,
    /// The lowest position that was ever in it; 0 where it is not known.
    pub(crate) min_lsn: u64,
    /// The highest position that was ever in it; 0 where it is not known.
    pub(crate) max_lsn: u64,
}

impl Found {
    /// The position before the first one, where positions ascend.
    pub(crate) fn last_before(&self) -> Option<u64> {
        match self.header.origin {
            Origin::Log => Some(self.header.base_lsn.saturating_sub(1)),
            // Copies come first, with gaps, under older positions.
            Origin::Recovery => Some(0),
            Origin::Compaction => None,
        }
    }
}

impl Inventory {
    /// `None`: there is no log here yet, and nothing that speaks against making one.
    pub(crate) fn take(io: &dyn Io, dir: &Path) -> Result<Option<Self>, OpenError> {
        Self::look(io, dir, true)
    }

    /// [`Self::take`] for somebody who may not be allowed to write.
    pub(crate) fn take_read_only(io: &dyn Io, dir: &Path) -> Result<Option<Self>, OpenError> {
        Self::look(io, dir, false)
    }

    fn look(io: &dyn Io, dir: &Path, write: bool) -> Result<Option<Self>, OpenError> {
        let failed = |error| OpenError::io("read", dir, error);
        let names = io.list(dir).map_err(failed)?;
        match Manifest::load(io, dir) {
            Ok(manifest) => {
                let mut inventory = Self::sort_out(io, dir, &names, manifest, write)?;
                if inventory.manifest.rebuilt {
                    inventory.report(0, DamageKind::Manifest);
                }
                Ok(Some(inventory))
            }
            Err(fault) => match refuse_manifest(fault, dir) {
                Some(error) => Err(error),
                None => Self::without_manifest(io, dir, &names, write),
            },
        }
    }

    fn sort_out(
        io: &dyn Io,
        dir: &Path,
        names: &[DirEntry],
        manifest: Manifest,
        write: bool,
    ) -> Result<Self, OpenError> {
        let mut inventory = Self {
            found: Vec::with_capacity(manifest.segments.len()),
            damage: Vec::new(),
            leftovers: Vec::new(),
            free: Vec::new(),
            is_rebuilt: false,
            manifest,
        };
        let present: HashMap<u64, &DirEntry> = names
            .iter()
            .filter(|entry| entry.is_file)
            .filter_map(|entry| Some((parse_name(&entry.name)?, entry)))
            .collect();
        for listed in inventory.manifest.segments.clone() {
            match present.get(&listed.id) {
                Some(_) => inventory.check_listed(io, dir, &listed, write)?,
                None => inventory.report(listed.id, DamageKind::Vanished),
            }
        }
        for (id, entry) in &present {
            if !inventory.manifest.segments.iter().any(|listed| listed.id == *id) {
                inventory.check_unlisted(io, dir, *id, &entry.name)?;
            }
        }
        // A strange file must not stand in the way of a new segment, nor be taken for one.
        let stays = |id: u64, leftovers: &[String]| {
            present.contains_key(&id) && !leftovers.contains(&segment::file_name(id))
        };
        while stays(inventory.manifest.next_segment, &inventory.leftovers) {
            inventory.manifest.next_segment += 1;
        }
        inventory.sort_free(names);
        inventory.sort_unfinished(names);
        Ok(inventory)
    }

    fn check_listed(
        &mut self,
        io: &dyn Io,
        dir: &Path,
        listed: &Listed,
        write: bool,
    ) -> Result<(), OpenError> {
        let path = segment::path(dir, listed.id);
        let failed = |error| OpenError::io("read", &path, error);
        let is_tail = listed.end == 0;
        let file = io.open(&path, is_tail && write).map_err(failed)?;
        let size = file.size().map_err(failed)?;
        if size < FRAMES_START {
            self.report(listed.id, DamageKind::CutShort);
            return Ok(());
        }
        let (max_lsn, origin) = listed.max_lsn_and_origin;
        let known = SegmentHeader {
            store: self.manifest.store,
            id: listed.id,
            base_lsn: listed.base_lsn,
            as_of_lsn: listed.as_of_lsn,
            origin,
            recycled: false,
        };
        let (header, cut) = read_block(&*file).map_err(failed)?;
        let header = match header {
            Ok(header) if header.store != known.store => {
                self.report(listed.id, DamageKind::Foreign);
                return Ok(());
            }
            Ok(header) if header.id != known.id => {
                self.report(listed.id, DamageKind::Misplaced);
                return Ok(());
            }
            Ok(header) => header,
            Err(HeaderFault::Newer(found)) => return Err(newer(&path, found)),
            Err(HeaderFault::Damaged) => {
                self.report(listed.id, DamageKind::SegmentHeader);
                known
            }
        };
        if size < listed.end {
            self.report(listed.id, DamageKind::CutShort);
        }
        self.found.push(Found {
            file,
            header,
            cut,
            limit: if is_tail { u64::MAX } else { listed.end.min(size) },
            limit_is_exact: !is_tail,
            is_tail,
            min_lsn: if max_lsn == 0 { 0 } else { listed.min_lsn },
            max_lsn,
        });
        Ok(())
    }

    fn check_unlisted(
        &mut self,
        io: &dyn Io,
        dir: &Path,
        id: u64,
        name: &str,
    ) -> Result<(), OpenError> {
        let path = dir.join(name);
        let failed = |error| OpenError::io("read", &path, error);
        let file = io.open(&path, false).map_err(failed)?;
        let unfinished = id >= self.manifest.next_segment || self.manifest.void.contains(&id);
        match read_block(&*file).map_err(failed)?.0 {
            Ok(header) if header.store != self.manifest.store => {
                self.report(id, DamageKind::Foreign);
            }
            Ok(header) if header.id != id => self.report(id, DamageKind::Misplaced),
            Err(HeaderFault::Newer(found)) => return Err(newer(&path, found)),
            _ if unfinished => self.leftovers.push(name.to_owned()),
            _ => self.report(id, DamageKind::Unlisted),
        }
        Ok(())
    }

    /// Finds the free files. One that was a segment whose id may be given out again must not be
    /// written again: its old frames would then pass for sound.
    pub(super) fn sort_free(&mut self, names: &[DirEntry]) {
        for entry in names.iter().filter(|entry| entry.is_file) {
            match recycle::parse_name(&entry.name) {
                Some(id) if id < self.manifest.next_segment => {
                    self.free.push(FreeFile::found(id, entry.len));
                }
                Some(_) => self.leftovers.push(entry.name.clone()),
                None => {}
            }
        }
    }

    /// Finds what was being written under a name of its own.
    pub(super) fn sort_unfinished(&mut self, names: &[DirEntry]) {
        let unfinished = names.iter().filter(|entry| is_unfinished(&entry.name));
        self.leftovers.extend(unfinished.map(|entry| entry.name.clone()));
    }

    pub(super) fn report(&mut self, segment: u64, what: DamageKind) {
        self.damage.push(damage(segment, what));
    }
}

pub(super) fn damage(segment: u64, what: DamageKind) -> Damage {
    Damage { slot: None, segment, offset: 0, bytes: 0, what }
}

/// The header in a file, and the cut that it tells of.
pub(super) fn read_block(
    file: &dyn File,
) -> io::Result<(Result<SegmentHeader, HeaderFault>, Option<Cut>)> {
    let mut bytes = [0; START_LEN];
    let read = read_full(file, &mut bytes, 0)?;
    Ok((SegmentHeader::decode(&bytes[..read]), Cut::decode(&bytes[..read])))
}

pub(super) fn newer(path: &Path, found: u32) -> OpenError {
    OpenError::Newer { path: path.to_path_buf(), found, supported: FORMAT_VERSION }
}
