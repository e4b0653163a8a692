//! Opening a log: from the files to an index, whatever happened before.
//!
//! Nothing is changed until everything was read. Then, unless the log was shut down cleanly, what
//! lies above the durable mark is copied into a new segment and synced, because bytes that were
//! read may so far exist in the page cache only; the manifest is replaced, and from then on the old
//! tail counts up to the mark. A crash anywhere in between leaves the old state, and the next open
//! does it all again.

use std::collections::HashMap;
use std::io;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::OpenError;
use crate::damage::{Damage, DamageKind};
use crate::footer::{self, Hints};
use crate::index::Index;
use crate::io::{File, Io, read_full};
use crate::manifest::{self, Listed, Manifest, ManifestFault};
use crate::mend::{self, Mended};
use crate::record::{self, HEADER_LEN, Header, Kind};
use crate::recycle::{self, FreeFile};
use crate::scan::{Event, Frame, scan};
use crate::segment::{self, FRAMES_START, Origin, Segment, SegmentHeader};
use crate::spare;
use crate::tail::{self, Tail};
use crate::writer::{Active, Start, write_header};

mod copier;
mod inventory;
mod rebuild;
mod renew;
mod replay;
mod sealed;

pub(crate) use inventory::{Found, Inventory};
pub(crate) use inventory::{LOCK, QUARANTINE};
use replay::Replay;

/// What opening found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Recovery {
    /// The log was shut down before, so nothing can be torn.
    pub clean: bool,
    /// The log did not exist and was created.
    pub created: bool,
    /// Segment files that are there.
    pub segments: u64,
    /// Those of them whose footers were read instead of them.
    pub footers: u64,
    /// Those that were complete and had to be read as a whole nevertheless: the process died while
    /// they were appended to, or their footers cannot be believed.
    pub walked: u64,
    /// Records that were read: puts, deletes and what holds them together.
    pub records: u64,
    /// Entries that are there.
    pub entries: u64,
    /// Bytes behind the last whole group that were cut: writes that nobody was promised.
    pub torn_bytes: u64,
    /// Records above the durable mark that were copied into a new segment.
    pub rewritten: u64,
    /// Records whose headers had one rotten byte, which was put right: nothing is lost.
    pub mended: u64,
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

/// Reads the folder, which is locked, and brings it into a state to go on from. `full`: reads every
/// byte of it.
pub(crate) fn open(io: &Arc<dyn Io>, dir: &Path, full: bool) -> Result<Opened, OpenError> {
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
    // Without a manifest nobody knows which segments were synced as a whole.
    let full = full || inventory.is_rebuilt;
    let mut loader = Loader {
        replay: Replay::new(u64::from_le_bytes(record::take(&inventory.manifest.store, 0))),
        segments: HashMap::new(),
        damage: inventory.damage.clone(),
        free: std::mem::take(&mut inventory.free),
        recovery: Recovery::default(),
        max_lsn: inventory.manifest.next_lsn.max(1) - 1,
        mended: Vec::new(),
        accepted: inventory.manifest.accepted.clone(),
    };
    let (mut tails, sealed): (Vec<_>, Vec<_>) =
        inventory.found.into_iter().partition(|found| found.is_tail);
    let manifest = inventory.manifest;
    loader.replay.note_cancelled(&manifest.cancelled);
    cut_old_tails(&**io, dir, &sealed).map_err(failed("read a segment in"))?;
    let sealed = loader.read_sealed(&sealed, full).map_err(failed("read a segment in"))?;
    let tail = match tails.pop() {
        Some(found) => Some(loader.read_tail(found, &manifest).map_err(failed("read"))?),
        None => None,
    };
    loader.write_mended(&**io, dir, &manifest.store);
    match tail {
        Some(tail) if tail.clean => loader.go_on(dir, &tail, sealed, manifest),
        tail => {
            spare::spend(&**io, dir);
            loader.begin_anew(&**io, dir, tail, sealed, manifest)
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
        cancelled: Vec::new(),
        accepted: Vec::new(),
        rebuilt: false,
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
                hints: Hints::default(),
            },
            next_lsn: 1,
            clean: false,
            aborts: Vec::new(),
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

/// A log that is being opened.
struct Loader {
    replay: Replay,
    segments: HashMap<u32, Arc<Segment>>,
    damage: Vec<Damage>,
    free: Vec<FreeFile>,
    recovery: Recovery,
    max_lsn: u64,
    /// Headers that were put right so far in memory only, by segment.
    mended: Vec<(u64, Vec<(u64, Header)>)>,
    /// Unreadable stretches that were acknowledged.
    accepted: Vec<(u64, u64)>,
}

impl Loader {
    fn note_mended(&mut self, segment: u64, headers: Vec<(u64, Header)>) {
        if !headers.is_empty() {
            self.recovery.mended += headers.len() as u64;
            self.mended.push((segment, headers));
        }
    }

    /// Writes what was put right to where it was rotten: everything that reads it later, and a
    /// second rotten byte, find it sound. Not being able to is no failure: it is put right again.
    fn write_mended(&mut self, io: &dyn Io, dir: &Path, store: &[u8; 16]) {
        for (id, headers) in std::mem::take(&mut self.mended) {
            let path = segment::path(dir, id);
            let written = io
                .open(&path, true)
                .and_then(|file| mend::write(&*file, record::seed(store, id), &headers));
            match written {
                Ok(()) => tracing::warn!(segment = id, records = headers.len(), "mended headers"),
                Err(error) => tracing::warn!(%error, segment = id, "cannot mend headers"),
            }
        }
    }

    fn read_tail(&mut self, found: Found, manifest: &Manifest) -> io::Result<OpenTail> {
        let seed = record::seed(&manifest.store, found.header.id);
        let clean = is_clean(&found, manifest)?;
        let limit = if clean { manifest.clean_end } else { u64::MAX };
        let scan = scan(&*found.file, seed, FRAMES_START, limit)?;
        let Mended { scan, headers } =
            mend::scan(&*found.file, seed, scan, found.last_before(), limit)?;
        self.note_mended(found.header.id, headers);
        for event in &scan.events {
            if let Event::Frame(frame) = event {
                self.max_lsn = self.max_lsn.max(frame.header.lsn);
            }
        }
        let floor = if clean { manifest.next_lsn.saturating_sub(1) } else { manifest.durable_lsn };
        let divided = tail::divide(scan, &found.header, floor);
        self.replay.note_aborts(divided.below.iter().chain(&divided.above));
        Ok(OpenTail { found, divided, clean })
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

    fn report_tail(&mut self, segment: &Segment, divided: &Tail) {
        for (from, to) in &divided.corrupt {
            self.report_range(segment, *from, *to);
        }
        let is_lost = |frame: &&Frame| frame.header.kind == Kind::Abort && !frame.payload_ok;
        for frame in divided.below.iter().filter(is_lost) {
            self.report_range(segment, frame.offset, frame.end());
        }
    }

    fn report_range(&mut self, segment: &Segment, from: u64, to: u64) {
        let accepted = self.accepted.contains(&(u64::from(segment.id), from));
        let what = if accepted { DamageKind::Accepted } else { DamageKind::Unidentified };
        self.report(segment, (from, to), what);
    }

    fn report(&mut self, segment: &Segment, (from, to): (u64, u64), what: DamageKind) {
        segment.damaged.store(true, Ordering::Relaxed);
        let (segment, bytes) = (u64::from(segment.id), to - from);
        self.damage.push(Damage { slot: None, segment, offset: from, bytes, what });
    }

    /// Counts what the index points to, and reports those entries of it that are damaged.
    fn finish(mut self, manifest: Manifest, start: Start) -> Opened {
        let damage = &mut self.damage;
        let index = self.replay.index;
        index.for_each(|slot, location| {
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
        self.recovery.records = self.replay.records.into_inner();
        self.recovery.entries = index.len();
        self.recovery.corrupt = damage.len() as u64;
        self.recovery.structural = structural as u64;
        Opened {
            manifest,
            segments: self.segments,
            index,
            start,
            damage: self.damage,
            free: self.free,
            recovery: self.recovery,
        }
    }
}

/// Cuts the files of old tails to where recoveries ended them, should that be left to do. As long as
/// the segment that names the end is there, the cut is as good as done; but that may go first.
fn cut_old_tails(io: &dyn Io, dir: &Path, sealed: &[Found]) -> io::Result<()> {
    // One that ends before its first frame was not there when it was ended: it may be restored.
    let ended = |found: &&Found| found.limit_is_exact && found.limit > FRAMES_START;
    for found in sealed.iter().filter(ended) {
        let seed = record::seed(&found.header.store, found.header.id);
        if footer::read_seal(&*found.file, seed, found.limit)?.is_some() {
            continue;
        }
        let path = segment::path(dir, found.header.id);
        let cut = io.open(&path, true).and_then(|file| cut_file(&*file, found.limit));
        note_uncut(found.header.id, cut);
    }
    Ok(())
}

/// Cuts what is behind the end of an old tail: it was copied, or promised to nobody. One that is short
/// already may be so in the page cache only.
fn cut_file(file: &dyn File, end: u64) -> io::Result<()> {
    if file.size()? > end {
        file.truncate(end)?;
    }
    file.sync()
}

/// The next open tries again.
fn note_uncut(segment: u64, cut: io::Result<()>) {
    if let Err(error) = cut {
        tracing::warn!(%error, segment, "cannot cut an old tail");
    }
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
        || is_unfinished(name)
        || name == spare::NAME
        || recycle::parse_name(name).is_some()
        || name == "lost+found"
        || name.starts_with('.')
}

/// Whether a file has this name only while it is being written.
fn is_unfinished(name: &str) -> bool {
    name == manifest::TEMPORARY || name == renew::TEMPORARY
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
