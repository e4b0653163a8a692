//! Giving the space of dead records back.
//!
//! A segment without live records and without a delete that is still needed is retired as a whole:
//! the usual case, since what comes first mostly goes first. Otherwise the live records of a victim
//! are copied, keeping their positions, into a segment of their own. One replacement of the manifest
//! takes the copies in and the victims out; only then are files removed, one by one.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

use crate::damage::DamageKind;
use crate::index::Location;
use crate::manifest::{Listed, StoreFault};
use crate::record::Kind;
use crate::recover::QUARANTINE;
use crate::scan::{Body, Event, Frame, scan};
use crate::segment::{self, FRAMES_START, Origin, Segment, SegmentHeader};
use crate::shared::{Item, Shared};
use crate::writer::{create_segment, discard_segment};
use crate::{Error, Outcome};

mod copy;

use copy::{Move, copy_into, oldest_of};

/// How often the background thread looks without being asked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompactMode {
    /// Rewrite every segment that holds dead bytes, except those being appended to afterwards.
    Full,
    /// Remove what is dead as a whole, and rewrite at most the one segment that gains most.
    Step,
}

/// What was done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CompactReport {
    /// Segments that are gone.
    pub removed_segments: u64,
    /// Segments that were made.
    pub created_segments: u64,
    /// Bytes of records that were copied.
    pub copied_bytes: u64,
    /// Bytes by which the files have shrunk; negative if they grew.
    pub reclaimed_bytes: i64,
    /// Live entries that fail their checksums and were left where they are.
    pub corrupt_entries: u64,
}

impl Shared {
    /// Reclaims in the background until the log is shut down.
    pub(crate) fn run_compactor(&self) {
        while self.compactor.wait(LOOK_EVERY) {
            while !self.is_closed() && self.wants_compaction() {
                match self.compact(CompactMode::Step, &mut || self.sync_from_outside()) {
                    Ok(report) if report.removed_segments > 0 => {}
                    Ok(_) => break,
                    Err(error) => {
                        tracing::warn!(%error, "cannot compact");
                        break;
                    }
                }
            }
        }
    }

    /// `sync` makes everything durable that is visible when it is called.
    pub(crate) fn compact(
        &self,
        mode: CompactMode,
        sync: Sync<'_>,
    ) -> Result<CompactReport, Error> {
        let _guard = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        if self.is_closed() {
            return Err(Error::Closed);
        }
        if self.health.is_poisoned() {
            return Err(Error::Unhealthy(self.health.reason().unwrap_or_default()));
        }
        let mut report = CompactReport::default();
        self.retire(&self.find_dead(), Vec::new(), sync, &mut report)?;
        let mut first_corrupt = None;
        let mut victims = self.choose_victims(mode).into_iter().peekable();
        while victims.peek().is_some() && !self.is_closed() {
            let mut batch = Batch::default();
            // As many as fill one segment with what is left of them.
            while batch.kept_bytes < self.options.segment_bytes
                && let Some(victim) = victims.next()
            {
                let corrupt = self.gather(&victim, &mut batch)?;
                if corrupt > 0 {
                    report.corrupt_entries += corrupt;
                    first_corrupt = first_corrupt.or(Some(u64::from(victim.id)));
                }
            }
            self.rewrite(&batch, sync, &mut report)?;
        }
        if mode == CompactMode::Full {
            self.check_files()?;
        }
        match first_corrupt {
            Some(segment) if mode == CompactMode::Full => {
                let entries = usize::try_from(report.corrupt_entries).unwrap_or(usize::MAX);
                Err(Error::Corrupt { entries, segment })
            }
            _ => Ok(report),
        }
    }

    /// Has the committer sync. Only the committer does: a sync that fails elsewhere would hide the
    /// failure from it.
    pub(crate) fn sync_from_outside(&self) -> Result<(), Error> {
        match self.push_control(Item::Sync).wait(None) {
            Some(Outcome::Failed(error)) => Err(self.maintenance_error(&error)),
            _ => Ok(()),
        }
    }

    /// Whether the background has something to do: a dead segment, or more dead bytes than live
    /// ones and enough to be worth it. So at most half of what is written is ever copied again.
    pub(crate) fn wants_compaction(&self) -> bool {
        if !self.find_dead().is_empty() {
            return true;
        }
        let sealed = self.sealed();
        let dead: u64 = sealed.iter().map(|segment| dead_bytes(segment, &sealed)).sum();
        let live = self.counters.live_bytes.load(Ordering::Relaxed);
        dead > live.max(4 * self.options.segment_bytes)
            && !self.choose_victims(CompactMode::Step).is_empty()
    }

    fn sealed(&self) -> Vec<Arc<Segment>> {
        let mut all = self.all_segments();
        all.retain(|segment| segment.is_sealed());
        all
    }

    /// Sealed segments that hold nothing that is needed.
    fn find_dead(&self) -> Vec<Arc<Segment>> {
        let all = self.all_segments();
        let mut dead = self.sealed();
        dead.retain(|segment| {
            segment.live_records.load(Ordering::Relaxed) == 0 && !needs_tombstones(segment, &all)
        });
        dead
    }

    fn choose_victims(&self, mode: CompactMode) -> Vec<Arc<Segment>> {
        let all = self.all_segments();
        let sealed = self.sealed();
        let small = |segment: &Segment| segment.data_bytes() < self.options.segment_bytes / 8;
        let many_small = sealed.iter().filter(|segment| small(segment)).count() > 1;
        let mut victims: Vec<(u64, Arc<Segment>)> = sealed
            .into_iter()
            .map(|segment| (dead_bytes(&segment, &all), segment))
            .filter(|(dead, segment)| match mode {
                CompactMode::Full => {
                    *dead > 0
                        || segment.tombstone_bytes.load(Ordering::Relaxed) > 0
                        || (many_small && small(segment))
                }
                CompactMode::Step => *dead > 0 && !segment.damaged.load(Ordering::Relaxed),
            })
            .collect();
        if mode == CompactMode::Step {
            victims.sort_by_key(|(dead, segment)| (std::cmp::Reverse(*dead), segment.id));
            victims.truncate(1);
        }
        victims.into_iter().map(|(_, segment)| segment).collect()
    }

    /// Finds out what of a segment has to be copied. One with live entries that are damaged is left
    /// out; returns how many these are.
    fn gather(&self, victim: &Arc<Segment>, batch: &mut Batch) -> Result<u64, Error> {
        let end = victim.end.load(Ordering::Acquire);
        let path = segment::path(&self.dir, u64::from(victim.id));
        // Whatever is cancelled up to here is seen as cancelled by the looks at the index below.
        let as_of_lsn = self.published_lsn.load(Ordering::Acquire);
        let scan = scan(&*victim.file, victim.seed, FRAMES_START, end)
            .map_err(|error| Error::io("read", &path, error))?;
        let (mut live, mut tombstones, mut corrupt) = (Vec::new(), Vec::new(), 0);
        let mut rotten_tombstones = 0;
        for event in scan.events {
            let Event::Frame(frame) = event else { continue };
            match frame.header.kind {
                Kind::Put => match self.judge_put(victim, &frame) {
                    Verdict::Keep => live.push(frame),
                    Verdict::Drop => {}
                    Verdict::Corrupt(location) => {
                        self.report_payload(frame.header.slot, &location, victim);
                        corrupt += 1;
                    }
                },
                // It may still have to cancel something and cannot be copied: like a damaged entry.
                Kind::Delete | Kind::Abort if !frame.payload_ok => rotten_tombstones += 1,
                Kind::Delete | Kind::Abort => tombstones.push(frame),
                Kind::Commit | Kind::Seal => {}
            }
        }
        // Live entries that the walk did not even meet: their headers are damaged now.
        let met = live.len() as u64 + corrupt;
        corrupt +=
            victim.live_records.load(Ordering::Relaxed).saturating_sub(met) + rotten_tombstones;
        if corrupt > 0 {
            victim.damaged.store(true, Ordering::Relaxed);
            return Ok(corrupt);
        }
        batch.as_of_lsn = batch.as_of_lsn.min(as_of_lsn);
        batch.kept_bytes += live.iter().map(|frame| frame.header.frame_len()).sum::<u64>();
        batch.victims.push(Gathered { segment: Arc::clone(victim), live, tombstones });
        Ok(0)
    }

    /// Copies what is needed of the gathered segments, and retires them.
    fn rewrite(
        &self,
        batch: &Batch,
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        let gone =
            |other: &Segment| batch.victims.iter().any(|victim| victim.segment.id == other.id);
        let mut others = self.all_segments();
        others.retain(|other| !gone(other));
        let (mut keep, mut kept_bytes, mut held_bytes) = (Vec::new(), 0, 0);
        for victim in &batch.victims {
            let needed = victim.tombstones.iter().filter(|frame| self.needs(frame, &others));
            for frame in victim.live.iter().chain(needed) {
                kept_bytes += frame.header.frame_len();
                keep.push((&*victim.segment, frame));
            }
            held_bytes += victim.segment.put_bytes.load(Ordering::Relaxed)
                + victim.segment.tombstone_bytes.load(Ordering::Relaxed);
        }
        if batch.victims.is_empty() || (kept_bytes >= held_bytes && batch.victims.len() < 2) {
            return Ok(());
        }
        let mut outputs = Vec::new();
        if !keep.is_empty() {
            let copied = self.copy(&keep, batch.as_of_lsn);
            outputs.push(copied.map_err(|error| Error::io("copy in", &self.dir, error))?);
        }
        let victims: Vec<_> =
            batch.victims.iter().map(|victim| Arc::clone(&victim.segment)).collect();
        self.retire(&victims, outputs, sync, report)?;
        report.copied_bytes += kept_bytes;
        self.counters.compacted_bytes.fetch_add(kept_bytes, Ordering::Relaxed);
        Ok(())
    }

    fn judge_put(&self, victim: &Segment, frame: &Frame) -> Verdict {
        let header = &frame.header;
        let here = Location::new(victim.id, frame.offset, header.payload_len, header.lsn);
        match self.index.get(&header.slot) {
            Some(now) if !now.same_place(&here) => Verdict::Drop,
            Some(_) if frame.payload_ok => Verdict::Keep,
            Some(now) => Verdict::Corrupt(now),
            None => Verdict::Drop,
        }
    }

    /// Whether a delete or abort may still have to cancel something in `others`.
    fn needs(&self, frame: &Frame, others: &[Arc<Segment>]) -> bool {
        let lsn = frame.header.lsn;
        let oldest = match &frame.body {
            Body::Delete(oldest) => *oldest,
            Body::Abort(ranges) => oldest_of(ranges),
            _ => 0,
        };
        // An older version that is live was not deleted by this: the delete was given up.
        let given_up = frame.header.kind == Kind::Delete
            && self.index.get(&frame.header.slot).is_some_and(|now| now.lsn() < lsn);
        !given_up && others.iter().any(|other| other.may_hold(oldest, lsn))
    }

    /// Writes a segment of copies, synced and sealed, not listed yet.
    fn copy(
        &self,
        keep: &[(&Segment, &Frame)],
        as_of_lsn: u64,
    ) -> io::Result<(Arc<Segment>, Vec<Move>)> {
        let header = SegmentHeader {
            store: self.store,
            id: 0,
            base_lsn: 0,
            as_of_lsn,
            origin: Origin::Compaction,
        };
        let (segment, _) = create_segment(self, header)?;
        match copy_into(&segment, keep) {
            Ok(moves) => Ok((Arc::new(segment), moves)),
            Err(error) => {
                discard_segment(self, segment.id);
                Err(error)
            }
        }
    }

    /// Takes segments off the list and copies onto it, then removes the files.
    fn retire(
        &self,
        victims: &[Arc<Segment>],
        outputs: Vec<(Arc<Segment>, Vec<Move>)>,
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        if victims.is_empty() {
            return Ok(());
        }
        // What made the records dead must be as durable as their end will be: a replacement that is
        // only in the page cache would take both versions with it when the power fails.
        if let Err(error) = sync() {
            for (output, _) in &outputs {
                discard_segment(self, output.id);
            }
            return Err(error);
        }
        let stored = self.manifest().replace(&*self.io, &self.dir, |manifest| {
            let gone = |id: u64| victims.iter().any(|victim| u64::from(victim.id) == id);
            manifest.segments.retain(|listed| !gone(listed.id));
            manifest.void.extend(victims.iter().map(|victim| u64::from(victim.id)));
            manifest.segments.extend(outputs.iter().map(|(output, _)| list(output)));
        });
        match stored {
            Ok(()) => {}
            Err(StoreFault::Unchanged(error)) => {
                for (output, _) in &outputs {
                    discard_segment(self, output.id);
                }
                return Err(Error::io("list the segments of", &self.dir, error));
            }
            Err(StoreFault::Unknown(error)) => {
                // Old or new may come back after a crash, so both sets of files must stay.
                self.health.poison();
                return Err(Error::io("list the segments of", &self.dir, error));
            }
        }
        for (output, moves) in outputs {
            report.created_segments += 1;
            report.reclaimed_bytes -= signed(output.end.load(Ordering::Relaxed));
            self.add_segment(Arc::clone(&output));
            for Move { slot, from, to } in moves {
                self.count_live(&to);
                let gone = if self.index.relocate(&slot, &from, to) { from } else { to };
                self.count_dead(&gone);
            }
        }
        for victim in victims {
            self.remove_segment(victim.id);
            report.removed_segments += 1;
            report.reclaimed_bytes += signed(victim.end.load(Ordering::Relaxed));
            // Its bytes mean nothing any more: what cannot be removed now is removed at the next open.
            if let Err(error) = self.remove_file(victim) {
                tracing::warn!(%error, segment = victim.id, "cannot remove a retired segment");
            }
        }
        Ok(())
    }

    /// Removes the file of a retired segment; one with damage in it is kept aside.
    fn remove_file(&self, victim: &Segment) -> io::Result<()> {
        let path = segment::path(&self.dir, u64::from(victim.id));
        if victim.damaged.load(Ordering::Relaxed) {
            let aside = self.dir.join(QUARANTINE);
            self.io.create_dir(&aside)?;
            self.io.rename(&path, &segment::path(&aside, u64::from(victim.id)))?;
            self.io.sync_dir(&aside)?;
        } else {
            match self.io.unlink(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.io.sync_dir(&self.dir)?;
        self.manifest().forget_void(victim.id);
        Ok(())
    }

    /// Compares the folder with the list: a file that vanished under a running log is found here.
    fn check_files(&self) -> Result<(), Error> {
        let names = self.io.list(&self.dir).map_err(|e| Error::io("read", &self.dir, e))?;
        let total = self.all_segments().len();
        for segment in self.all_segments() {
            let name = segment::file_name(u64::from(segment.id));
            let end = segment.end.load(Ordering::Acquire);
            let what = match names.iter().find(|entry| entry.name == name) {
                // Retired between the two looks, or really gone.
                None if self.segment(segment.id).is_none() => continue,
                None => DamageKind::Vanished,
                Some(entry) if entry.len < end => DamageKind::CutShort,
                Some(_) => continue,
            };
            self.report_structural(u64::from(segment.id), what);
        }
        let structural = self.damage.structural();
        match structural.first() {
            None => Ok(()),
            Some(first) => Err(Error::Structural {
                segments: structural.len(),
                total,
                first: first.to_string(),
            }),
        }
    }
}

/// Makes everything durable that is visible now.
pub(crate) type Sync<'a> = &'a mut dyn FnMut() -> Result<(), Error>;

/// Segments that are rewritten together.
struct Batch {
    victims: Vec<Gathered>,
    kept_bytes: u64,
    as_of_lsn: u64,
}

impl Default for Batch {
    fn default() -> Self {
        Self { victims: Vec::new(), kept_bytes: 0, as_of_lsn: u64::MAX }
    }
}

/// A segment, and what of it may have to be copied.
struct Gathered {
    segment: Arc<Segment>,
    live: Vec<Frame>,
    tombstones: Vec<Frame>,
}

enum Verdict {
    Keep,
    Drop,
    Corrupt(Location),
}

/// Bytes that rewriting would give back. Deletes count as needed when any of them may be.
fn dead_bytes(segment: &Segment, all: &[Arc<Segment>]) -> u64 {
    let live = segment.live_bytes.load(Ordering::Relaxed);
    let dead = segment.put_bytes.load(Ordering::Relaxed).saturating_sub(live);
    let tombstones = segment.tombstone_bytes.load(Ordering::Relaxed);
    dead + if needs_tombstones(segment, all) { 0 } else { tombstones }
}

/// Whether a delete or abort in `segment` may still have to cancel something elsewhere.
fn needs_tombstones(segment: &Segment, all: &[Arc<Segment>]) -> bool {
    let newest = segment.tombstone_newest.load(Ordering::Relaxed);
    let oldest = segment.tombstone_oldest.load(Ordering::Relaxed);
    newest > 0 && all.iter().any(|other| other.id != segment.id && other.may_hold(oldest, newest))
}

fn list(segment: &Segment) -> Listed {
    let (min_lsn, max_lsn) = segment.lsn_range();
    Listed {
        id: u64::from(segment.id),
        end: segment.end.load(Ordering::Relaxed),
        base_lsn: 0,
        as_of_lsn: segment.as_of_lsn,
        min_lsn,
        max_lsn_and_origin: (max_lsn, segment.origin),
    }
}

fn signed(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}
