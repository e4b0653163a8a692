//! Giving the space of dead records back.
//!
//! A segment without live records and without a delete that is still needed is retired as a whole:
//! the usual case, since what comes first mostly goes first. Otherwise the live records of a victim
//! are copied, keeping their positions, into a segment of their own. One replacement of the manifest
//! takes the copies in and the victims out; only then are files removed, one by one.

use std::io;
use std::sync::atomic::Ordering;
use std::sync::{MutexGuard, PoisonError};
use std::time::Duration;

use crate::clock;
use crate::damage::DamageKind;
use crate::segment::{self, Segment};
use crate::shared::Shared;
use crate::{Error, Outcome};

mod brake;
mod copy;
mod forget;
mod retire;
mod rewrite;
mod victims;

pub(crate) use brake::Brake;
pub use forget::Forgotten;
use rewrite::{RewriteFault, live_bytes};

/// How often the background thread looks without being asked.
const LOOK_EVERY: Duration = Duration::from_secs(5);

/// How often a compaction that waits for its rate looks whether it has to hurry.
const LOOK_AT_RATE: Duration = Duration::from_millis(50);

/// How much to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CompactMode {
    /// Rewrite every segment that holds dead bytes, except those being appended to afterwards.
    Full,
    /// What the background does by itself, as far as it is due: remove what is dead as a whole, and
    /// rewrite segments until the dead bytes are at most the live ones and two segments.
    Due,
    /// Remove what is dead as a whole, and rewrite the segments that gain most, up to one segment of
    /// copies, whether it is due or not. None that would give back less than is copied, unless the disk
    /// is short of room.
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

/// Whether to keep to the configured rate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Tempo {
    Paced,
    AtOnce,
}

impl Shared {
    /// Reclaims in the background until the log is shut down.
    pub(crate) fn run_compactor(&self) {
        while self.compactor.wait(LOOK_EVERY) {
            if self.is_closed() || !self.wants_compaction() {
                continue;
            }
            self.catching_up.store(true, Ordering::Relaxed);
            let done =
                self.compact(CompactMode::Due, Tempo::Paced, &mut || self.sync_from_outside());
            self.catching_up.store(false, Ordering::Relaxed);
            match done {
                Ok(_) | Err(Error::Closed) => {}
                Err(_) if self.is_closed() => {}
                Err(error) => tracing::warn!(%error, "cannot compact"),
            }
        }
    }

    /// `sync` makes everything durable that is visible when it is called.
    pub(crate) fn compact(
        &self,
        mode: CompactMode,
        tempo: Tempo,
        sync: Sync<'_>,
    ) -> Result<CompactReport, Error> {
        let _guard = self.await_compaction();
        self.check_writable()?;
        let mut report = CompactReport::default();
        let done = self.compact_in(mode, tempo, sync, &mut report);
        // What was lent for copies is taken back before anybody else gets it.
        self.manifest().hold_spare(&*self.io, &self.dir);
        done.map(|()| report)
    }

    fn compact_in(
        &self,
        mode: CompactMode,
        tempo: Tempo,
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        self.retire(&self.find_dead(), &[], sync, report)?;
        match mode {
            CompactMode::Full => self.compact_all(sync, report),
            CompactMode::Due => {
                while self.compact_some(mode, tempo, sync, report)? {}
                Ok(())
            }
            CompactMode::Step => self.compact_some(mode, tempo, sync, report).map(drop),
        }
    }

    /// Rewrites the best victims; whether there were any.
    fn compact_some(
        &self,
        mode: CompactMode,
        tempo: Tempo,
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<bool, Error> {
        let victims = self.choose_victims(mode);
        if victims.is_empty() {
            return Ok(false);
        }
        if self.is_closed() {
            return Err(Error::Closed);
        }
        match self.rewrite(&victims, tempo, sync, report) {
            Ok(()) => self.retire(&self.find_dead(), &[], sync, report)?,
            // It is known as damaged now, and is not chosen again.
            Err(RewriteFault::Damaged(_, entries)) => report.corrupt_entries += entries,
            Err(RewriteFault::Failed(error)) => return Err(error),
        }
        Ok(true)
    }

    fn compact_all(&self, sync: Sync<'_>, report: &mut CompactReport) -> Result<(), Error> {
        let mut first_corrupt = None;
        let mut victims = self.choose_victims(CompactMode::Full).into_iter().peekable();
        while let Some(victim) = victims.next() {
            let damaged = |segment: &Segment| segment.damaged.load(Ordering::Relaxed);
            let mut live = live_bytes(&victim);
            let mut batch = vec![victim];
            // As many as fill one segment with what is left of them; what is damaged goes alone.
            while !damaged(&batch[0])
                && live < self.options.segment_bytes
                && let Some(next) = victims.next_if(|next| !damaged(next))
            {
                live += live_bytes(&next);
                batch.push(next);
            }
            while !batch.is_empty() {
                if self.is_closed() {
                    return Err(Error::Closed);
                }
                match self.rewrite_if_smaller(&batch, sync, report) {
                    Ok(()) => break,
                    Err(RewriteFault::Failed(Error::NoSpace)) => {
                        self.compact_in_need(sync, report)?;
                        break;
                    }
                    Err(RewriteFault::Failed(error)) => return Err(error),
                    Err(RewriteFault::Damaged(segment, entries)) => {
                        report.corrupt_entries += entries;
                        first_corrupt = first_corrupt.or(Some(u64::from(segment.id)));
                        batch.retain(|victim| victim.id != segment.id);
                    }
                }
            }
        }
        self.check_files()?;
        match first_corrupt {
            Some(segment) => {
                let entries = usize::try_from(report.corrupt_entries).unwrap_or(usize::MAX);
                Err(Error::Corrupt { entries, segment })
            }
            None => Ok(()),
        }
    }

    /// On a disk without room for a whole segment of copies: one segment at a time, the one with the
    /// least to copy first. Each gives room to the next.
    fn compact_in_need(&self, sync: Sync<'_>, report: &mut CompactReport) -> Result<(), Error> {
        let mut victims = self.choose_victims(CompactMode::Full);
        victims.retain(|victim| !victim.damaged.load(Ordering::Relaxed));
        victims.sort_by_key(|victim| live_bytes(victim));
        for victim in victims {
            match self.rewrite_if_smaller(std::slice::from_ref(&victim), sync, report) {
                Ok(()) => {}
                Err(RewriteFault::Damaged(_, entries)) => report.corrupt_entries += entries,
                Err(RewriteFault::Failed(Error::NoSpace)) => {
                    let (segment, live_bytes) = (u64::from(victim.id), live_bytes(&victim));
                    return Err(Error::NoRoomToCopy { segment, live_bytes });
                }
                Err(RewriteFault::Failed(error)) => return Err(error),
            }
        }
        Ok(())
    }

    /// Whether the set of segments may change at all.
    pub(crate) fn check_writable(&self) -> Result<(), Error> {
        if self.is_closed() {
            return Err(Error::Closed);
        }
        if self.health.is_poisoned() {
            return Err(Error::Unhealthy(self.health.text().unwrap_or_default()));
        }
        Ok(())
    }

    /// Waits for the compaction that is under way, and keeps the next one away. Nobody waits for the
    /// rate of the background here: it hurries meanwhile.
    pub(crate) fn await_compaction(&self) -> MutexGuard<'_, ()> {
        self.compaction_awaited.fetch_add(1, Ordering::Relaxed);
        let guard = self.compacting.lock().unwrap_or_else(PoisonError::into_inner);
        self.compaction_awaited.fetch_sub(1, Ordering::Relaxed);
        guard
    }

    /// Waits until compaction may read or write some bytes; an error once the log is closed.
    pub(crate) fn ask_compactor(&self, bytes: u64, tempo: Tempo) -> io::Result<()> {
        let begun = clock::now();
        let wait = match tempo {
            Tempo::AtOnce => Duration::ZERO,
            Tempo::Paced => self.compact_pace.book(self.cost(bytes), begun),
        };
        let due = begun.saturating_add(wait);
        let mut now = begun;
        while now < due && !self.is_closed() {
            let hurry = self.cost(bytes) == 0;
            if hurry || self.compaction_awaited.load(Ordering::Relaxed) > 0 {
                self.compact_pace.forgive(now);
                break;
            }
            self.compactor.pause(due.saturating_sub(now).min(LOOK_AT_RATE));
            now = clock::now();
        }
        if self.is_closed() { Err(io::Error::other("the log is closed")) } else { Ok(()) }
    }

    /// Has the committer sync. Only the committer does: a sync that fails elsewhere would hide the
    /// failure from it.
    pub(crate) fn sync_from_outside(&self) -> Result<(), Error> {
        self.syncs_awaited.fetch_add(1, Ordering::Relaxed);
        let outcome = self.push_sync_first().wait(None);
        self.syncs_awaited.fetch_sub(1, Ordering::Relaxed);
        match outcome {
            Some(Outcome::Failed(error)) => Err(self.maintenance_error(&error)),
            _ => Ok(()),
        }
    }

    /// Compares the folder with the list: a file that vanished under a running log is found here.
    fn check_files(&self) -> Result<(), Error> {
        // The ends first: a segment that is begun or appended to meanwhile is no damage.
        let all = self.all_segments();
        let ends: Vec<u64> =
            all.iter().map(|segment| segment.end.load(Ordering::Acquire)).collect();
        let names = self.io.list(&self.dir).map_err(|e| Error::io("read", &self.dir, e))?;
        let total = all.len();
        for (segment, end) in all.iter().zip(ends) {
            let name = segment::file_name(u64::from(segment.id));
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
