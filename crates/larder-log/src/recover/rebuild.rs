//! The set of segments, put together from the files where there is no manifest.
//!
//! Every file of the store counts. Segments that recovery began come under their names only once
//! they hold what they were to take over, and name the old tail and its end: that tail counts up to
//! there. A segment that is sealed ends with its seal. The last one that was not made by compaction
//! is the tail; but one that was begun when a segment was full, and got no record, was perhaps never
//! listed, and then the one before it need not have been synced: that is the tail.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;

use super::inventory::{Found, Inventory, damage, newer, read_block};
use crate::OpenError;
use crate::damage::DamageKind;
use crate::footer::read_seal;
use crate::io::{DirEntry, File, Io, read_full};
use crate::manifest::{self, Listed, Manifest};
use crate::record;
use crate::scan::{Body, Event, scan};
use crate::segment::{self, Cut, FRAMES_START, HeaderFault, Origin, SegmentHeader, parse_name};

/// A segment file as it is found.
struct RawSegment {
    id: u64,
    file: Arc<dyn File>,
    header: Option<SegmentHeader>,
    cut: Option<Cut>,
    len: u64,
}

impl Inventory {
    /// The manifest is gone or unreadable: either there never was one, or it is put together again.
    pub(super) fn without_manifest(
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
            let (header, cut) = read_block(&*file).map_err(failed)?;
            if let Err(HeaderFault::Newer(found)) = header {
                return Err(newer(&path, found));
            }
            segments.push(RawSegment { id, file, header: header.ok(), cut, len: entry.len });
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
            damage: vec![damage(0, DamageKind::Manifest)],
            leftovers: Vec::new(),
            free: Vec::new(),
            is_rebuilt: true,
            manifest: Manifest {
                store,
                next_segment: segments.iter().map(|segment| segment.id + 1).max().unwrap_or(1),
                durable_lsn: 0,
                next_lsn: 1,
                clean_end: 0,
                segments: Vec::new(),
                void: Vec::new(),
                cancelled: Vec::new(),
                accepted: Vec::new(),
                rebuilt: true,
            },
        };
        segments.sort_by_key(|segment| segment.id);
        inventory.adopt(segments).map_err(failed)?;
        inventory.cut_old_tails();
        inventory.choose_tail().map_err(failed)?;
        inventory.find_ends().map_err(failed)?;
        inventory.list();
        inventory.sort_free(names);
        inventory.sort_unfinished(names);
        Ok(Some(inventory))
    }

    /// Takes in every file of this store.
    fn adopt(&mut self, segments: Vec<RawSegment>) -> io::Result<()> {
        let store = self.manifest.store;
        let may_hold_records = |segment: &&RawSegment| {
            let header = segment.header.as_ref();
            header.is_some_and(|header| header.origin != Origin::Compaction)
                && segment.len >= FRAMES_START
        };
        let newest = segments.iter().rfind(may_hold_records);
        let newest = newest.map_or(0, |segment| segment.id);
        for RawSegment { id, file, header, cut, len } in segments {
            let is_blank = id > newest && (len < FRAMES_START || is_blank(&*file)?);
            let header = match header {
                Some(header) if header.store != store => {
                    self.report(id, DamageKind::Foreign);
                    continue;
                }
                Some(header) if header.id != id => {
                    self.report(id, DamageKind::Misplaced);
                    continue;
                }
                // Begun in vain: its block never reached the disk as a whole, so no record did.
                _ if is_blank => {
                    self.leftovers.push(segment::file_name(id));
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
                cut,
                limit: len,
                limit_is_exact: false,
                is_tail: false,
                min_lsn: 0,
                max_lsn: 0,
            });
        }
        Ok(())
    }

    /// Ends old tails where their recoveries ended them. Of some nothing was left.
    fn cut_old_tails(&mut self) {
        let cuts: HashMap<u64, u64> =
            self.found.iter().filter_map(|found| found.cut).map(|c| (c.segment, c.end)).collect();
        let mut short = Vec::new();
        self.found.retain_mut(|found| {
            let Some(end) = cuts.get(&found.header.id) else { return true };
            if *end <= FRAMES_START {
                self.leftovers.push(segment::file_name(found.header.id));
                return false;
            }
            if found.limit < *end {
                short.push(found.header.id);
            }
            found.limit = found.limit.min(*end);
            found.limit_is_exact = true;
            true
        });
        for id in short {
            self.report(id, DamageKind::CutShort);
        }
    }

    fn choose_tail(&mut self) -> io::Result<()> {
        let is_candidate =
            |found: &Found| found.header.origin != Origin::Compaction && !found.limit_is_exact;
        let mut candidates: Vec<usize> =
            (0..self.found.len()).filter(|at| is_candidate(&self.found[*at])).collect();
        while let Some(last) = candidates.pop() {
            let found = &self.found[last];
            let follows_a_full_one = !candidates.is_empty() && found.header.base_lsn > 0;
            if follows_a_full_one && found.cut.is_none() && is_empty(found)? {
                self.leftovers.push(segment::file_name(found.header.id));
                self.found.remove(last);
                continue;
            }
            let tail = &mut self.found[last];
            tail.is_tail = true;
            tail.limit = u64::MAX;
            // All that is older was durable before its first frame was written, and what a recovery
            // took over was before it got its name.
            self.manifest.durable_lsn = tail.header.base_lsn.saturating_sub(1);
            break;
        }
        Ok(())
    }

    /// Ends sealed segments with their seals, and others with what is there: their files may be longer.
    fn find_ends(&mut self) -> io::Result<()> {
        for found in self.found.iter_mut().filter(|found| !found.is_tail && !found.limit_is_exact) {
            (found.limit, found.limit_is_exact) = find_end(found)?;
        }
        Ok(())
    }

    fn list(&mut self) {
        let newest = self.found.iter().map(|found| found.header.base_lsn).max();
        self.manifest.next_lsn = newest.unwrap_or(0).max(1);
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
}

fn is_blank(file: &dyn File) -> io::Result<bool> {
    let mut bytes = vec![0; 1 << 16];
    let mut at = 0;
    loop {
        match read_full(file, &mut bytes, at)? {
            0 => return Ok(true),
            read if bytes[..read].iter().any(|byte| *byte != 0) => return Ok(false),
            read => at += read as u64,
        }
    }
}

fn is_empty(found: &Found) -> io::Result<bool> {
    let seed = record::seed(&found.header.store, found.header.id);
    has_no_frames(&*found.file, seed)
}

fn has_no_frames(file: &dyn File, seed: u32) -> io::Result<bool> {
    let scan = scan(file, seed, FRAMES_START, u64::MAX)?;
    Ok(!scan.events.iter().any(|event| matches!(event, Event::Frame(_))))
}

/// Where the frames of a file end, and whether a seal says so.
fn find_end(found: &Found) -> io::Result<(u64, bool)> {
    let (file, seed) = (&*found.file, record::seed(&found.header.store, found.header.id));
    if read_seal(file, seed, found.limit)?.is_some() {
        return Ok((found.limit, true));
    }
    let events = scan(file, seed, FRAMES_START, found.limit)?.events;
    let sealed = events.iter().filter_map(Event::frame).find_map(|frame| match &frame.body {
        Body::Seal(seal) if seal.offset == frame.offset => Some(frame.end()),
        _ => None,
    });
    let met = events.last().map_or(FRAMES_START, Event::end).min(found.limit);
    Ok(sealed.map_or((met, false), |end| (end, true)))
}

/// The folder of a log whose creation was interrupted: at most a first segment without records.
fn never_used(segments: &[RawSegment]) -> io::Result<bool> {
    match segments {
        [] => Ok(true),
        [RawSegment { id: 1, file, header: Some(header), .. }] if header.id == 1 => {
            has_no_frames(&**file, record::seed(&header.store, 1))
        }
        // A header that never reached the disk: nothing can follow it, it is synced first.
        [RawSegment { id: 1, file, header: None, .. }] => {
            let mut bytes = [0; 1];
            Ok(read_full(&**file, &mut bytes, FRAMES_START)? == 0)
        }
        _ => Ok(false),
    }
}

fn most_common_store(segments: &[RawSegment]) -> Option<[u8; 16]> {
    let mut votes: HashMap<[u8; 16], usize> = HashMap::new();
    for header in segments.iter().filter_map(|segment| segment.header.as_ref()) {
        *votes.entry(header.store).or_default() += 1;
    }
    votes.into_iter().max_by_key(|(store, count)| (*count, *store)).map(|(store, _)| store)
}
