//! Checking a folder from outside. Changes nothing, and reads every byte.

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use crate::damage::{Damage, DamageKind};
use crate::io::{DiskIo, Io, PathKind};
use crate::lock::LockState;
use crate::manifest::Manifest;
use crate::mend;
use crate::record::{self, Kind};
use crate::recover::{self, Found, Inventory, LOCK};
use crate::scan::{Body, Event, Frame, frame_at};
use crate::segment::{FORMAT_VERSION, FRAMES_START, Origin, SEGMENT_ID_MAX};
use crate::tail;
use crate::walk::Walk;
use crate::{OpenError, Slot};

mod footer;

/// What a check found.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// The folder.
    pub path: PathBuf,
    /// The version of the format.
    pub format_version: u32,
    /// The log was shut down, so nothing in it can be torn.
    pub clean: bool,
    /// Segments that were read.
    pub segments: Vec<SegmentReport>,
    /// Sound records, dead ones and those that hold others together included.
    pub records: u64,
    /// Entries that opening the log would show, damaged ones included.
    pub entries: u64,
    /// Bytes behind the last whole group: writes that nobody was promised. No damage.
    pub torn_bytes: u64,
    /// Records whose headers have one rotten byte, which opening the log will put right. No damage.
    pub mended: u64,
    /// Damaged places, records that nobody needs any more included.
    pub damage: Vec<Damage>,
    /// Entries that are lost for sure: the newest version of their slot is damaged.
    pub lost_entries: u64,
}

/// One segment of a [`VerifyReport`].
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct SegmentReport {
    /// Its number (the digits in the file name).
    pub id: u64,
    /// The part of the file that was read.
    pub bytes: u64,
    /// Sound records in it.
    pub records: u64,
    /// It is complete; otherwise it is the one that was appended to last.
    pub sealed: bool,
    /// It was made by compaction.
    pub compacted: bool,
}

impl VerifyReport {
    /// No damage of any kind.
    pub fn is_sound(&self) -> bool {
        self.damage.is_empty()
    }
}

/// Checks the log in the folder `path`: every segment, every checksum.
///
/// # Errors
/// [`OpenError::NotFound`] when there is no log, [`OpenError::Locked`] when it is open,
/// [`OpenError::Newer`], and what the system refuses. Damage is not an error but in the report.
pub fn verify(path: &Path) -> Result<VerifyReport, OpenError> {
    verify_with(&DiskIo, path)
}

/// [`verify`] on another disk.
///
/// # Errors
/// As [`verify`].
pub fn verify_with(io: &dyn Io, path: &Path) -> Result<VerifyReport, OpenError> {
    let mut checker = Checker {
        report: VerifyReport {
            path: path.to_path_buf(),
            format_version: FORMAT_VERSION,
            clean: false,
            segments: Vec::new(),
            records: 0,
            entries: 0,
            torn_bytes: 0,
            mended: 0,
            damage: Vec::new(),
            lost_entries: 0,
        },
        changes: Vec::new(),
        aborted: Vec::new(),
        accepted: Vec::new(),
    };
    let clean = visit(io, path, |visit| checker.take(visit))?;
    checker.report.clean = clean;
    Ok(checker.finish())
}

/// One step of [`visit`].
pub(crate) enum Visit {
    Damage(Damage),
    /// A segment begins: id, bytes, sealed, origin.
    Segment(u64, u64, bool, Origin),
    /// A record that counts.
    Frame(u64, Frame),
    /// Positions that were given up, by the word of the manifest: first and last.
    Cancelled(u64, u64),
    Torn(u64),
    /// An unreadable stretch at this offset of this segment was acknowledged.
    Accepted(u64, u64),
    /// So many records whose headers had to be put right.
    Mended(u64),
}

/// Walks a folder that nobody has open; returns whether it was shut down cleanly.
pub(crate) fn visit(
    io: &dyn Io,
    path: &Path,
    mut take: impl FnMut(Visit),
) -> Result<bool, OpenError> {
    let failed = |error| OpenError::io("read", path, error);
    match io.kind(path).map_err(failed)? {
        PathKind::Folder => {}
        PathKind::Other => return Err(OpenError::NotAFolder { path: path.to_path_buf() }),
        PathKind::Missing => return Err(OpenError::NotFound { path: path.to_path_buf() }),
    }
    if let LockState::Held(pid) = io.lock_owner(&path.join(LOCK)).map_err(failed)? {
        return Err(OpenError::Locked { path: path.to_path_buf(), pid });
    }
    let Some(inventory) = Inventory::take_read_only(io, path)? else {
        return Err(OpenError::NotFound { path: path.to_path_buf() });
    };
    inventory.damage.iter().cloned().for_each(|damage| take(Visit::Damage(damage)));
    for (segment, offset) in &inventory.manifest.accepted {
        take(Visit::Accepted(*segment, *offset));
    }
    for (first, last) in &inventory.manifest.cancelled {
        take(Visit::Cancelled(*first, *last));
    }
    let mut clean = false;
    let mut found: Vec<&Found> = inventory.found.iter().collect();
    found.sort_by_key(|found| found.header.id);
    for found in found {
        let was_clean = visit_segment(found, &inventory.manifest, &mut take).map_err(failed)?;
        clean |= was_clean;
    }
    Ok(clean)
}

fn visit_segment(
    found: &Found,
    manifest: &Manifest,
    take: &mut impl FnMut(Visit),
) -> std::io::Result<bool> {
    let id = found.header.id;
    let seed = record::seed(&manifest.store, id);
    let clean = found.is_tail && recover::is_clean(found, manifest)?;
    let limit = if clean { manifest.clean_end } else { found.limit };
    let mut scan = Walk::new(&*found.file, seed, FRAMES_START, limit)?.all()?;
    if found.limit_is_exact {
        scan.extend_to(limit);
    }
    let (mut lost, told) = read_footer(&scan.events, seed);
    let told = told.filter(|_| found.limit_is_exact);
    if told.is_none() {
        let mended = mend::scan(&*found.file, seed, scan, found.last_before(), limit)?;
        take(Visit::Mended(mended.headers.len() as u64));
        scan = mended.scan;
    }
    let range = |from: u64, to: u64| {
        let what = DamageKind::Unidentified;
        Visit::Damage(Damage { slot: None, segment: id, offset: from, bytes: to - from, what })
    };
    let mut bytes = scan.events.last().map_or(scan.end, Event::end);
    if found.is_tail {
        let floor = if clean { manifest.next_lsn.saturating_sub(1) } else { manifest.durable_lsn };
        let parts = tail::divide(scan, &found.header, floor);
        take(Visit::Segment(id, bytes, false, found.header.origin));
        parts.corrupt.iter().for_each(|(from, to)| take(range(*from, *to)));
        take(Visit::Torn(parts.torn_bytes));
        parts.below.into_iter().chain(parts.above).for_each(|frame| take(Visit::Frame(id, frame)));
        return Ok(clean);
    }
    bytes = bytes.max(if found.limit_is_exact { limit } else { 0 });
    take(Visit::Segment(id, bytes, true, found.header.origin));
    let reached = scan.events.last().map_or(scan.end, Event::end);
    let data_end = end_of_records(&scan.events, found);
    for event in scan.events {
        match event {
            Event::Damage { from, .. } if data_end.is_some_and(|end| from >= end) => lost = true,
            // The footer tells whose records were there.
            Event::Damage { from, to } => match &told {
                None => take(range(from, to)),
                Some(told) => {
                    let inside = told.iter().filter(|frame| (from..to).contains(&frame.offset));
                    for frame in inside {
                        let there =
                            frame_at(&*found.file, seed, frame.offset, frame.header, limit)?;
                        take(Visit::Mended(u64::from(there.payload_ok)));
                        take(Visit::Frame(id, Frame { body: frame.body.clone(), ..there }));
                    }
                }
            },
            Event::Frame(frame) if !frame.payload_ok && !is_record(&frame) => lost = true,
            Event::Frame(mut frame) => {
                let same =
                    |told: &Frame| told.offset == frame.offset && told.header == frame.header;
                if let Some(told) = told.as_ref().filter(|_| is_record(&frame)) {
                    let at = told.binary_search_by_key(&frame.offset, |told| told.offset);
                    match at.ok().map(|at| &told[at]).filter(|told| same(told)) {
                        Some(told) if !frame.payload_ok => frame.body = told.body.clone(),
                        Some(_) => {}
                        None => lost = true,
                    }
                }
                take(Visit::Frame(id, frame));
            }
        }
    }
    if found.limit_is_exact && reached < limit {
        if data_end.is_some_and(|end| reached >= end) {
            lost = true;
        } else {
            take(range(reached, limit));
        }
    }
    if lost {
        let what = DamageKind::Footer;
        take(Visit::Damage(Damage { slot: None, segment: id, offset: 0, bytes: 0, what }));
    }
    Ok(false)
}

/// Where footer or seal begin in a sealed segment, where that is certain.
fn end_of_records(events: &[Event], found: &Found) -> Option<u64> {
    let frames = || events.iter().filter_map(Event::frame);
    let seal = frames().find_map(|frame| match &frame.body {
        Body::Seal(seal) if seal.footer == 0 => Some(seal.offset),
        Body::Seal(seal) => Some(seal.footer),
        _ => None,
    });
    let footer = frames().find(|frame| frame.header.kind == Kind::Footer);
    seal.or(footer.map(|frame| frame.offset)).or_else(|| {
        let last = frames().rfind(|frame| is_record(frame))?;
        let ascending = found.header.origin != Origin::Compaction;
        (ascending && found.max_lsn == last.header.lsn).then(|| last.end())
    })
}

/// Whether there is a footer that does not fit its seal, and the frames of one that does.
fn read_footer(events: &[Event], seed: u32) -> (bool, Option<Vec<Frame>>) {
    let find = |kind| events.iter().filter_map(Event::frame).find(|f| f.header.kind == kind);
    match (find(Kind::Footer), find(Kind::Seal).map(|seal| &seal.body)) {
        (Some(frame), Some(Body::Seal(seal))) => {
            let told = match &frame.body {
                Body::Footer(payload) if frame.end() == seal.offset => {
                    footer::read(payload, seal, seed)
                }
                _ => None,
            };
            (told.is_none(), told)
        }
        (None, Some(Body::Seal(seal))) => (seal.footer != 0, None),
        (footer, _) => (footer.is_some(), None),
    }
}

fn is_record(frame: &Frame) -> bool {
    !matches!(frame.header.kind, Kind::Footer | Kind::Seal)
}

struct Checker {
    report: VerifyReport,
    changes: Vec<SlotChange>,
    aborted: Vec<(u64, u64)>,
    accepted: Vec<(u64, u64)>,
}

struct SlotChange {
    slot: Slot,
    lsn: u64,
    put: bool,
    sound: bool,
    compacted: bool,
}

impl Checker {
    fn take(&mut self, visit: Visit) {
        match visit {
            Visit::Damage(damage) => self.report.damage.push(damage),
            Visit::Accepted(segment, offset) => self.accepted.push((segment, offset)),
            Visit::Mended(records) => self.report.mended += records,
            Visit::Torn(bytes) => self.report.torn_bytes += bytes,
            Visit::Cancelled(first, last) => self.aborted.push((first, last)),
            Visit::Segment(id, bytes, sealed, origin) => {
                debug_assert!(id <= SEGMENT_ID_MAX);
                let compacted = origin == Origin::Compaction;
                self.report.segments.push(SegmentReport {
                    id,
                    bytes,
                    records: 0,
                    sealed,
                    compacted,
                });
            }
            Visit::Frame(segment, frame) => self.take_frame(segment, frame),
        }
    }

    fn take_frame(&mut self, segment: u64, frame: Frame) {
        let header = frame.header;
        let slotted = matches!(header.kind, Kind::Put | Kind::Delete);
        if frame.payload_ok {
            self.report.records += 1;
            if let Some(last) = self.report.segments.last_mut() {
                last.records += 1;
            }
        } else {
            // What a cancelling record cancelled is unknown.
            let unknown = header.kind == Kind::Abort && matches!(frame.body, Body::None);
            let what = if unknown { DamageKind::Unidentified } else { DamageKind::Payload };
            self.report.damage.push(Damage {
                slot: slotted.then_some(header.slot),
                segment,
                offset: frame.offset,
                bytes: header.frame_len(),
                what,
            });
        }
        if slotted {
            self.changes.push(SlotChange {
                slot: header.slot,
                lsn: header.lsn,
                put: header.kind == Kind::Put,
                sound: frame.payload_ok,
                compacted: self.report.segments.last().is_some_and(|last| last.compacted),
            });
        }
        if let Body::Abort(ranges) = frame.body {
            self.aborted.extend_from_slice(&ranges);
        }
    }

    fn finish(mut self) -> VerifyReport {
        // Each batch has positions of its own, so the ranges that were given up never overlap.
        self.aborted.sort_unstable();
        let is_aborted = |lsn: u64| {
            let after = self.aborted.partition_point(|(first, _)| *first <= lsn);
            let before = after.checked_sub(1).and_then(|at| self.aborted.get(at));
            before.is_some_and(|(_, last)| lsn <= *last)
        };
        let mut newest: HashMap<Slot, &SlotChange> = HashMap::new();
        for change in &self.changes {
            let given_up = !change.compacted && is_aborted(change.lsn);
            // Of two copies of one version the sound one counts.
            let rank = |change: &SlotChange| (change.lsn, change.sound);
            let newer = newest.get(&change.slot).is_none_or(|known| rank(known) < rank(change));
            if !given_up && newer {
                newest.insert(change.slot, change);
            }
        }
        let entries = newest.values().filter(|change| change.put);
        self.report.entries = entries.clone().count() as u64;
        self.report.lost_entries = entries.filter(|change| !change.sound).count() as u64;
        for damage in &mut self.report.damage {
            let accepted = self.accepted.contains(&(damage.segment, damage.offset));
            if accepted && damage.what == DamageKind::Unidentified {
                damage.what = DamageKind::Accepted;
            }
        }
        self.report.damage.sort_by_key(|damage| (damage.segment, damage.offset));
        self.report
    }
}
