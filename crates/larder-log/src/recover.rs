//! Opening a log: from the files to an index, whatever happened before.
//!
//! Nothing is changed until everything was read. Then, unless the log was shut down cleanly, what
//! lies above the durable mark is copied into a new segment and synced, because bytes that were
//! read may so far exist in the page cache only; the manifest is replaced, and from then on the old
//! tail counts up to the mark. A crash anywhere in between leaves the old state, and the next open
//! does it all again.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::damage::{Damage, DamageKind};
use crate::group::COMMIT_BYTES;
use crate::index::{Index, Location};
use crate::io::{File, Io, cannot_allocate, read_full};
use crate::manifest::{self, Listed, Manifest, ManifestFault};
use crate::record::{self, HEADER_LEN, Header, Kind};
use crate::recycle::{self, FreeFile};
use crate::scan::{Body, Event, Frame, scan};
use crate::segment::{self, FRAMES_START, Origin, Segment, SegmentHeader};
use crate::spare;
use crate::tail::{self, Tail};
use crate::writer::{Active, Start, write_header};
use crate::{OpenError, Slot};

mod copier;
mod inventory;

use copier::Copier;
pub(crate) use inventory::{Found, Inventory};
pub(crate) use inventory::{LOCK, QUARANTINE};

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The log was shut down before, so nothing can be torn.
    pub clean: bool,
    /// The log did not exist and was created.
    pub created: bool,
    /// Segment files that were read.
    pub segments: u64,
    /// Records that were read: puts, deletes and what holds them together.
    pub records: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Bytes behind the last whole group that were cut: writes that nobody was promised.
    pub torn_bytes: u64,
    /// Records above the durable mark that were copied into a new segment.
    pub rewritten: u64,
    /// Damaged places of all kinds; [`Log::damaged`](crate::Log::damaged) has them one by one.
    pub corrupt: u64,
    /// Those of them that concern whole files.
    pub structural: u64,
    /// How long it took.
    pub duration: Duration,
}

/// Everything that the open log starts with.
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) manifest: Manifest,
    pub(crate) segments: HashMap<u32, Arc<Segment>>,
    pub(crate) index: Index,
    pub(crate) start: Start,
    pub(crate) damage: Vec<Damage>,
    pub(crate) free: Vec<FreeFile>,
    pub(crate) recovery: Recovery,
}

/// Reads the folder, which is locked, and brings it into a state to go on from.
pub(crate) fn open(io: &Arc<dyn Io>, dir: &Path) -> Result<Opened, OpenError> {
    let failed = |action| move |error| OpenError::io(action, dir, error);
    let inventory = Inventory::take(&**io, dir)?;
    let Some(mut inventory) = inventory else { return create(&**io, dir) };
    // The manifest may so far exist in the page cache only. It must be on the disk before anything
    // that follows from it is.
    io.sync_dir(dir).map_err(failed("sync"))?;
    // Leftovers mean nothing, and their names may be used again below.
    for name in &inventory.leftovers {
        io.unlink(&dir.join(name)).map_err(failed("tidy"))?;
    }
    if !inventory.leftovers.is_empty() {
        io.sync_dir(dir).map_err(failed("sync"))?;
    }
    inventory.manifest.void.clear();
    let mut loader = Loader {
        index: Index::new(u64::from_le_bytes(record::take(&inventory.manifest.store, 0))),
        segments: HashMap::new(),
        deletes: HashMap::new(),
        aborted: BTreeMap::new(),
        damage: inventory.damage.clone(),
        free: std::mem::take(&mut inventory.free),
        recovery: Recovery::default(),
        max_lsn: inventory.manifest.next_lsn.max(1) - 1,
    };
    // Copies first, then from the newest to the oldest: cancellings are met before what they cancel.
    let (copies, mut written): (Vec<_>, Vec<_>) =
        inventory.found.into_iter().partition(|found| found.header.origin == Origin::Compaction);
    for found in &copies {
        loader.load_sealed(found).map_err(failed("read a segment in"))?;
    }
    written.sort_by_key(|found| std::cmp::Reverse(found.header.id));
    let tail_at = written.iter().position(|found| found.is_tail);
    let tail = tail_at.map(|at| written.remove(at));
    let tail = match tail {
        Some(found) => Some(loader.read_tail(found, &inventory.manifest).map_err(failed("read"))?),
        None => None,
    };
    let manifest = inventory.manifest;
    match tail {
        Some(OpenTail { found, divided, clean: true }) => {
            loader.go_on(&found, &divided, &written, manifest)
        }
        tail => {
            spare::spend(&**io, dir);
            loader.begin_anew(&**io, dir, tail, &written, manifest)
        }
    }
}

/// An empty log in an empty folder.
fn create(io: &dyn Io, dir: &Path) -> Result<Opened, OpenError> {
    let failed = |error| OpenError::io("create the log in", dir, error);
    let store = io.random().map_err(failed)?;
    let header = SegmentHeader {
        store,
        id: 1,
        base_lsn: 1,
        as_of_lsn: 0,
        origin: Origin::Log,
        recycled: false,
    };
    let path = segment::path(dir, 1);
    match io.unlink(&path) {
        Ok(()) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(failed(error)),
    }
    let file = io.create(&path).map_err(failed)?;
    write_header(&*file, &header).map_err(failed)?;
    io.sync_dir(dir).map_err(failed)?;
    let manifest = Manifest {
        store,
        next_segment: 2,
        durable_lsn: 0,
        next_lsn: 1,
        clean_end: 0,
        segments: vec![listed_active(&header)],
        void: Vec::new(),
    };
    manifest.store(io, dir).map_err(|fault| failed(fault.into_error()))?;
    let segment = Arc::new(Segment::new(&header, 1, file, FRAMES_START, false));
    Ok(Opened {
        manifest,
        segments: HashMap::from([(1, Arc::clone(&segment))]),
        index: Index::new(u64::from_le_bytes(record::take(&store, 0))),
        start: Start {
            active: Active {
                segment,
                offset: FRAMES_START,
                allocated: FRAMES_START,
                recycled: false,
            },
            next_lsn: 1,
            clean: false,
        },
        damage: Vec::new(),
        free: Vec::new(),
        recovery: Recovery { created: true, clean: true, segments: 1, ..Recovery::default() },
    })
}

/// The tail, read and divided.
struct OpenTail {
    found: Found,
    divided: Tail,
    clean: bool,
}

struct Loader {
    index: Index,
    segments: HashMap<u32, Arc<Segment>>,
    /// The highest delete of each slot that was met so far.
    deletes: HashMap<Slot, u64>,
    /// Ranges of positions that never happened, last by first. No two of them overlap, and there
    /// may be many: a disk that stalls has everybody give up.
    aborted: BTreeMap<u64, u64>,
    damage: Vec<Damage>,
    free: Vec<FreeFile>,
    recovery: Recovery,
    max_lsn: u64,
}

impl Loader {
    /// A segment that was synced as a whole: every sound record counts, all else is damage.
    fn load_sealed(&mut self, found: &Found) -> io::Result<()> {
        let segment = self.new_segment(found, found.limit, true);
        let scan = scan(&*found.file, segment.seed, FRAMES_START, found.limit)?;
        let mut frames = Vec::with_capacity(scan.events.len());
        let mut reached = FRAMES_START;
        for event in scan.events {
            reached = reached.max(event.end());
            match event {
                Event::Frame(frame) => frames.push(frame),
                Event::Damage { from, to } => self.report_range(&segment, from, to),
            }
        }
        if reached < found.limit && found.limit_is_exact {
            self.report_range(&segment, reached, found.limit);
        }
        self.apply(&segment, &frames);
        Ok(())
    }

    fn read_tail(&mut self, found: Found, manifest: &Manifest) -> io::Result<OpenTail> {
        let seed = record::seed(&manifest.store, found.header.id);
        let clean = is_clean(&found, manifest)?;
        let limit = if clean { manifest.clean_end } else { u64::MAX };
        let scan = scan(&*found.file, seed, FRAMES_START, limit)?;
        for event in &scan.events {
            if let Event::Frame(frame) = event {
                self.max_lsn = self.max_lsn.max(frame.header.lsn);
            }
        }
        let floor = if clean { manifest.next_lsn.saturating_sub(1) } else { manifest.durable_lsn };
        let divided = tail::divide(scan, &found.header, floor);
        Ok(OpenTail { found, divided, clean })
    }

    /// After a clean shut-down: the tail is appended to as if nothing had happened.
    fn go_on(
        mut self,
        found: &Found,
        divided: &Tail,
        written: &[Found],
        manifest: Manifest,
    ) -> Result<Opened, OpenError> {
        let end = manifest.clean_end;
        let segment = self.new_segment(found, end, false);
        self.report_tail(&segment, &divided.corrupt);
        self.apply(&segment, &divided.below);
        self.load_rest(written, found.dir())?;
        self.recovery.clean = true;
        // Blocks that were left to deletes at the shut-down, or that the file had before.
        let allocated = found.file.size().unwrap_or(end).max(end);
        let recycled = found.header.recycled;
        let start = Start {
            active: Active { segment, offset: end, allocated, recycled },
            next_lsn: self.max_lsn + 1,
            clean: true,
        };
        Ok(self.finish(manifest, start))
    }

    /// After anything else: what lies above the mark is made durable in a new segment.
    fn begin_anew(
        mut self,
        io: &dyn Io,
        dir: &Path,
        tail: Option<OpenTail>,
        written: &[Found],
        mut manifest: Manifest,
    ) -> Result<Opened, OpenError> {
        let failed = |error| OpenError::io("recover", dir, error);
        let mut divided = Tail { durable_lsn: manifest.durable_lsn, ..Tail::default() };
        let mut old = None;
        if let Some(OpenTail { found, divided: mut parts, .. }) = tail {
            std::mem::swap(&mut divided, &mut parts);
            // A payload may be cut off: it does not make the segment longer than its file.
            let end = divided.below_end.min(found.file.size().map_err(failed)?).max(FRAMES_START);
            let segment = self.new_segment(&found, end, true);
            self.recovery.torn_bytes = divided.torn_bytes;
            old = Some((found, segment));
        }
        // The copies keep their positions; their commit, if any, gets the next one.
        let commit_lsn = self.max_lsn + 1;
        let copies = !divided.above.is_empty();
        let base_lsn = if copies { commit_lsn + 1 } else { commit_lsn };
        let id = manifest.next_segment;
        let header = SegmentHeader {
            store: manifest.store,
            id,
            base_lsn,
            as_of_lsn: 0,
            origin: if copies { Origin::Recovery } else { Origin::Log },
            recycled: false,
        };
        let short_id =
            u32::try_from(id).map_err(|_| failed(io::Error::other("segment ids are used up")))?;
        let path = segment::path(dir, id);
        let mut free = std::mem::take(&mut self.free);
        let file = recycle::with_room(io, dir, &mut free, || io.create(&path)).map_err(failed)?;
        let copied_bytes: u64 = divided.above.iter().map(|frame| frame.header.frame_len()).sum();
        recycle::with_room(io, dir, &mut free, || reserve(&*file, copied_bytes)).map_err(failed)?;
        self.free = free;
        write_header(&*file, &header).map_err(failed)?;
        let mut moved = Vec::new();
        let mut end = FRAMES_START;
        if let Some((found, _)) = old.as_ref().filter(|_| copies) {
            let mut output = Copier::new(&*file, record::seed(&manifest.store, id));
            for frame in &divided.above {
                moved.push(output.copy(&*found.file, frame).map_err(failed)?);
            }
            end = output.commit(commit_lsn, divided.durable_lsn, &moved).map_err(failed)?;
            file.sync().map_err(failed)?;
            self.max_lsn = commit_lsn;
        }
        io.sync_dir(dir).map_err(failed)?;
        let active = Arc::new(Segment::new(&header, short_id, file, end, false));
        self.segments.insert(short_id, Arc::clone(&active));
        self.recovery.rewritten = moved.len() as u64;
        self.apply(&active, &moved);
        if let Some((_, segment)) = &old {
            self.report_tail(segment, &divided.corrupt);
            self.apply(segment, &divided.below);
        }
        self.load_rest(written, dir)?;
        let retired = self
            .retire_tail(old.as_ref().map(|(found, segment)| (found, &**segment)), &mut manifest);
        manifest.segments.push(listed_active(&header));
        manifest.next_segment = id + 1;
        manifest.durable_lsn = self.max_lsn;
        manifest.next_lsn = self.max_lsn + 1;
        manifest.clean_end = 0;
        manifest.store(io, dir).map_err(|fault| failed(fault.into_error()))?;
        for id in retired {
            let gone = io.unlink(&segment::path(dir, id)).and_then(|()| io.sync_dir(dir));
            if gone.is_ok() {
                manifest.void.retain(|void| *void != id);
            }
        }
        let start = Start {
            active: Active { segment: active, offset: end, allocated: end, recycled: false },
            next_lsn: self.max_lsn + 1,
            clean: false,
        };
        Ok(self.finish(manifest, start))
    }

    /// Notes where the old tail ends now; one that holds nothing is retired at once.
    fn retire_tail(
        &mut self,
        old: Option<(&Found, &Segment)>,
        manifest: &mut Manifest,
    ) -> Vec<u64> {
        let mut retired = Vec::new();
        manifest.segments.retain_mut(|listed| {
            match old {
                Some((found, segment)) if found.header.id == listed.id => {
                    let end = segment.end.load(Ordering::Relaxed);
                    if end <= FRAMES_START {
                        self.segments.remove(&segment.id);
                        retired.push(listed.id);
                        return false;
                    }
                    let (min_lsn, max_lsn) = segment.lsn_range();
                    listed.end = end;
                    listed.min_lsn = min_lsn;
                    listed.max_lsn_and_origin = (max_lsn, found.header.origin);
                }
                // The tail's file is damaged as a whole: it stays listed until that is accepted.
                _ if listed.end == 0 => listed.end = FRAMES_START,
                _ => {}
            }
            true
        });
        manifest.void.extend(&retired);
        retired
    }

    fn load_rest(&mut self, written: &[Found], dir: &Path) -> Result<(), OpenError> {
        for found in written {
            self.load_sealed(found)
                .map_err(|error| OpenError::io("read a segment in", dir, error))?;
        }
        Ok(())
    }

    /// Brings the records of a segment into the index, the newest first.
    fn apply(&mut self, segment: &Segment, frames: &[Frame]) {
        self.recovery.records += frames.len() as u64;
        for frame in frames.iter().rev() {
            let (slot, lsn) = (frame.header.slot, frame.header.lsn);
            self.max_lsn = self.max_lsn.max(lsn);
            segment.cover(lsn);
            match frame.header.kind {
                Kind::Put => {
                    segment.put_bytes.fetch_add(frame.header.frame_len(), Ordering::Relaxed);
                    let dead = self.deletes.get(&slot).is_some_and(|delete| *delete > lsn);
                    if !dead && !self.is_aborted(segment, lsn) {
                        self.index.put_if_newer(slot, locate(segment, frame));
                    }
                }
                Kind::Delete => {
                    let oldest = if let Body::Delete(oldest) = frame.body { oldest } else { 0 };
                    segment.cover_tombstone(oldest, lsn, frame.header.frame_len());
                    if !self.is_aborted(segment, lsn) {
                        let newest = self.deletes.entry(slot).or_default();
                        *newest = lsn.max(*newest);
                        self.index.remove_if_older(&slot, lsn);
                    }
                }
                Kind::Abort => self.apply_abort(segment, frame),
                Kind::Commit | Kind::Seal => {}
            }
        }
    }

    fn apply_abort(&mut self, segment: &Segment, frame: &Frame) {
        let Body::Abort(ranges) = &frame.body else {
            self.report_range(segment, frame.offset, frame.end());
            return;
        };
        let oldest = ranges.iter().map(|(first, _)| *first).min().unwrap_or(0);
        segment.cover_abort(oldest, frame.header.lsn, frame.header.frame_len());
        self.aborted.extend(ranges.iter().copied());
    }

    /// Compaction never copies what was given up, so its copies are never meant.
    fn is_aborted(&self, segment: &Segment, lsn: u64) -> bool {
        segment.origin != Origin::Compaction
            && self.aborted.range(..=lsn).next_back().is_some_and(|(_, last)| lsn <= *last)
    }

    fn new_segment(&mut self, found: &Found, end: u64, sealed: bool) -> Arc<Segment> {
        let id = u32::try_from(found.header.id).unwrap_or(u32::MAX);
        let file = Arc::clone(&found.file);
        let segment = Arc::new(Segment::new(&found.header, id, file, end, sealed));
        if found.min_lsn != 0 {
            // Also what is unreadable now.
            segment.cover(found.min_lsn);
        }
        self.segments.insert(id, Arc::clone(&segment));
        segment
    }

    fn report_tail(&mut self, segment: &Segment, corrupt: &[(u64, u64)]) {
        for (from, to) in corrupt {
            self.report_range(segment, *from, *to);
        }
    }

    fn report_range(&mut self, segment: &Segment, from: u64, to: u64) {
        segment.damaged.store(true, Ordering::Relaxed);
        self.damage.push(Damage {
            slot: None,
            segment: u64::from(segment.id),
            offset: from,
            bytes: to - from,
            what: DamageKind::Unidentified,
        });
    }

    /// Counts what the index points to, and reports those entries of it that are damaged.
    fn finish(mut self, manifest: Manifest, start: Start) -> Opened {
        let damage = &mut self.damage;
        self.index.for_each(|slot, location| {
            let Some(segment) = self.segments.get(&location.segment()) else { return };
            segment.live_bytes.fetch_add(location.frame_len(), Ordering::Relaxed);
            segment.live_records.fetch_add(1, Ordering::Relaxed);
            if location.corrupt() {
                segment.damaged.store(true, Ordering::Relaxed);
                damage.push(Damage {
                    slot: Some(*slot),
                    segment: u64::from(location.segment()),
                    offset: location.offset(),
                    bytes: location.frame_len(),
                    what: DamageKind::Payload,
                });
            }
        });
        damage.sort_by_key(|damage| (damage.segment, damage.offset));
        let structural = damage.iter().filter(|damage| damage.what.is_structural()).count();
        self.recovery.segments = self.segments.len() as u64;
        self.recovery.entries = self.index.len();
        self.recovery.corrupt = damage.len() as u64;
        self.recovery.structural = structural as u64;
        Opened {
            manifest,
            segments: self.segments,
            index: self.index,
            start,
            damage: self.damage,
            free: self.free,
            recovery: self.recovery,
        }
    }
}

/// Reserves what the header and copies of this size take.
fn reserve(file: &dyn File, copied_bytes: u64) -> io::Result<()> {
    match file.allocate(0, FRAMES_START + copied_bytes + COMMIT_BYTES) {
        Err(error) if cannot_allocate(&error) => Ok(()),
        reserved => reserved,
    }
}

fn locate(segment: &Segment, frame: &Frame) -> Location {
    let header = &frame.header;
    Location::new(segment.id, frame.offset, header.payload_len, header.lsn)
        .with_pre_open(true)
        .with_replaced(header.flags & record::FLAG_REPLACES != 0)
        .with_corrupt(!frame.payload_ok)
}

fn listed_active(header: &SegmentHeader) -> Listed {
    Listed {
        id: header.id,
        end: 0,
        base_lsn: header.base_lsn,
        as_of_lsn: header.as_of_lsn,
        min_lsn: 0,
        max_lsn_and_origin: (0, header.origin),
    }
}

/// Whether the log was shut down, and not used since.
pub(crate) fn is_clean(tail: &Found, manifest: &Manifest) -> io::Result<bool> {
    let end = manifest.clean_end;
    if end == 0 || end > tail.file.size()? {
        return Ok(false);
    }
    // A record behind the end means that the log was used after all.
    let mut bytes = [0; HEADER_LEN];
    let read = read_full(&*tail.file, &mut bytes, end)?;
    let seed = record::seed(&manifest.store, tail.header.id);
    Ok(Header::decode(&bytes[..read], seed).is_none())
}

/// Whether a name in a folder says that there is a log.
pub(crate) fn is_ours(name: &str) -> bool {
    name == LOCK || name == manifest::NAME || segment::parse_name(name).is_some()
}

/// Whether a name does not speak against making a log in its folder.
pub(crate) fn is_harmless(name: &str) -> bool {
    is_ours(name)
        || name == manifest::TEMPORARY
        || name == spare::NAME
        || recycle::parse_name(name).is_some()
        || name == "lost+found"
        || name.starts_with('.')
}

/// What a manifest fault means for an open.
pub(crate) fn refuse_manifest(fault: ManifestFault, dir: &Path) -> Option<OpenError> {
    let path = dir.join(manifest::NAME);
    match fault {
        ManifestFault::Missing | ManifestFault::Damaged => None,
        ManifestFault::Newer(found) => {
            Some(OpenError::Newer { path, found, supported: segment::FORMAT_VERSION })
        }
        ManifestFault::Io(error) => Some(OpenError::io("read", &path, error)),
    }
}
