//! What lies in the folder, against what should.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::refuse_manifest;
use crate::OpenError;
use crate::damage::{Damage, DamageKind};
use crate::io::{DirEntry, File, Io, read_full};
use crate::manifest::{self, Listed, Manifest};
use crate::record;
use crate::recycle::{self, FreeFile};
use crate::scan::{Event, scan};
use crate::segment::{
    self, FORMAT_VERSION, FRAMES_START, HeaderFault, Origin, SegmentHeader, parse_name,
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
}

/// A segment file that counts.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) file: Arc<dyn File>,
    /// From the file, or put together from what else is known.
    pub(crate) header: SegmentHeader,
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
            Ok(manifest) => Self::sort_out(io, dir, &names, manifest, write).map(Some),
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
        if names.iter().any(|entry| entry.name == manifest::TEMPORARY) {
            inventory.leftovers.push(manifest::TEMPORARY.to_owned());
        }
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
        let header = match read_header(&*file).map_err(failed)? {
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
        match read_header(&*file).map_err(failed)? {
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

    /// The manifest is gone or unreadable: either there never was one, or it is put together again.
    fn without_manifest(
        io: &dyn Io,
        dir: &Path,
        names: &[DirEntry],
        write: bool,
    ) -> Result<Option<Self>, OpenError> {
        let failed = |error| OpenError::io("read", dir, error);
        let mut segments = Vec::new();
        for entry in names.iter().filter(|entry| entry.is_file) {
            let Some(id) = parse_name(&entry.name) else { continue };
            let path = dir.join(&entry.name);
            let file =
                io.open(&path, write).map_err(|error| OpenError::io("read", &path, error))?;
            match read_header(&*file).map_err(failed)? {
                Err(HeaderFault::Newer(found)) => return Err(newer(&path, found)),
                header => segments.push((id, file, header.ok(), entry.len)),
            }
        }
        let manifest_is_there = names.iter().any(|entry| entry.name == manifest::NAME);
        if !manifest_is_there && never_used(&segments).map_err(failed)? {
            return Ok(None);
        }
        let Some(store) = most_common_store(&segments) else {
            return Err(OpenError::Damaged {
                path: dir.to_path_buf(),
                what: "neither the manifest nor any segment header can be read",
            });
        };
        let mut inventory = Self {
            found: Vec::new(),
            damage: Vec::new(),
            leftovers: Vec::new(),
            free: Vec::new(),
            manifest: Manifest {
                store,
                next_segment: segments.iter().map(|(id, ..)| id + 1).max().unwrap_or(1),
                durable_lsn: 0,
                next_lsn: 1,
                clean_end: 0,
                segments: Vec::new(),
                void: Vec::new(),
                cancelled: Vec::new(),
            },
        };
        inventory.damage.push(damage(0, DamageKind::Manifest));
        segments.sort_by_key(|(id, ..)| *id);
        inventory.adopt(segments);
        inventory.sort_free(names);
        Ok(Some(inventory))
    }

    /// Lists every file of this store; the last one that was not made by compaction is the tail.
    fn adopt(&mut self, segments: Vec<RawSegment>) {
        let store = self.manifest.store;
        for (id, file, header, len) in segments {
            let header = match header {
                Some(header) if header.store != store => {
                    self.report(id, DamageKind::Foreign);
                    continue;
                }
                Some(header) if header.id != id => {
                    self.report(id, DamageKind::Misplaced);
                    continue;
                }
                _ if len < FRAMES_START => {
                    self.report(id, DamageKind::CutShort);
                    continue;
                }
                Some(header) => header,
                None => {
                    self.report(id, DamageKind::SegmentHeader);
                    SegmentHeader {
                        store,
                        id,
                        base_lsn: 0,
                        as_of_lsn: 0,
                        origin: Origin::Log,
                        recycled: false,
                    }
                }
            };
            self.found.push(Found {
                file,
                header,
                limit: len,
                limit_is_exact: false,
                is_tail: false,
                min_lsn: 0,
                max_lsn: 0,
            });
        }
        let tail = self
            .found
            .iter_mut()
            .filter(|found| found.header.origin != Origin::Compaction)
            .max_by_key(|found| found.header.id);
        if let Some(tail) = tail {
            tail.is_tail = true;
            tail.limit = u64::MAX;
        }
        self.manifest.segments = self
            .found
            .iter()
            .map(|found| Listed {
                id: found.header.id,
                end: if found.is_tail { 0 } else { found.limit },
                base_lsn: found.header.base_lsn,
                as_of_lsn: found.header.as_of_lsn,
                min_lsn: 0,
                max_lsn_and_origin: (0, found.header.origin),
            })
            .collect();
    }

    /// Finds the free files. One that was a segment whose id may be given out again must not be
    /// written again: its old frames would then pass for sound.
    fn sort_free(&mut self, names: &[DirEntry]) {
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

    fn report(&mut self, segment: u64, what: DamageKind) {
        self.damage.push(damage(segment, what));
    }
}

type RawSegment = (u64, Arc<dyn File>, Option<SegmentHeader>, u64);

fn damage(segment: u64, what: DamageKind) -> Damage {
    Damage { slot: None, segment, offset: 0, bytes: 0, what }
}

/// The folder of a log whose creation was interrupted: at most a first segment without records.
fn never_used(segments: &[RawSegment]) -> io::Result<bool> {
    match segments {
        [] => Ok(true),
        [(1, file, Some(header), _)] if header.id == 1 => {
            let seed = record::seed(&header.store, 1);
            let scan = scan(&**file, seed, FRAMES_START, u64::MAX)?;
            Ok(!scan.events.iter().any(|event| matches!(event, Event::Frame(_))))
        }
        // A header that never reached the disk: nothing can follow it, it is synced first.
        [(1, file, None, _)] => {
            let mut bytes = [0; 1];
            Ok(read_full(&**file, &mut bytes, FRAMES_START)? == 0)
        }
        _ => Ok(false),
    }
}

fn most_common_store(segments: &[RawSegment]) -> Option<[u8; 16]> {
    let mut votes: HashMap<[u8; 16], usize> = HashMap::new();
    for (.., header, _) in segments {
        if let Some(header) = header {
            *votes.entry(header.store).or_default() += 1;
        }
    }
    votes.into_iter().max_by_key(|(store, count)| (*count, *store)).map(|(store, _)| store)
}

fn read_header(file: &dyn File) -> io::Result<Result<SegmentHeader, HeaderFault>> {
    let mut bytes = [0; 64];
    let read = read_full(file, &mut bytes, 0)?;
    Ok(SegmentHeader::decode(&bytes[..read]))
}

fn newer(path: &Path, found: u32) -> OpenError {
    OpenError::Newer { path: path.to_path_buf(), found, supported: FORMAT_VERSION }
}
