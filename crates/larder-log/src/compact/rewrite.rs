//! Copying what is needed of some segments, frame by frame.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::copy::{CopyFault, Output, oldest};
use super::{CompactReport, Sync, Tempo};
use crate::Error;
use crate::index::Location;
use crate::pace::Asking;
use crate::record::Kind;
use crate::scan::{Event, Frame};
use crate::segment::{self, FRAMES_START, Segment};
use crate::shared::Shared;
use crate::spare::Need;
use crate::walk::Walk;

/// Why segments were not rewritten.
pub(super) enum RewriteFault {
    Failed(Error),
    /// So many entries of the segment are damaged and still needed: it has to stay.
    Damaged(Arc<Segment>, u64),
}

impl From<Error> for RewriteFault {
    fn from(error: Error) -> Self {
        Self::Failed(error)
    }
}

enum Verdict {
    Keep,
    Drop,
    Corrupt(Location),
}

impl Shared {
    /// Copies what is needed of the victims, and retires them: all of them or none.
    pub(super) fn rewrite(
        &self,
        victims: &[Arc<Segment>],
        tempo: Tempo,
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), RewriteFault> {
        match self.rewrite_with_room(victims, false, tempo, sync, report) {
            // The one with the least to copy may find room, and gives some to the next.
            Err(RewriteFault::Failed(Error::NoSpace)) if victims.len() > 1 => {
                let least = victims.iter().min_by_key(|victim| live_bytes(victim)).cloned();
                let least: Vec<_> = least.into_iter().collect();
                self.rewrite_with_room(&least, false, tempo, sync, report)
            }
            done => done,
        }
    }

    /// [`Self::rewrite`], unless a copy would be as large as its only victim.
    pub(super) fn rewrite_if_smaller(
        &self,
        victims: &[Arc<Segment>],
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), RewriteFault> {
        self.rewrite_with_room(victims, true, Tempo::AtOnce, sync, report)
    }

    /// On a full disk once more, with the room of the files that wait to be written again, and with
    /// what is put by.
    fn rewrite_with_room(
        &self,
        victims: &[Arc<Segment>],
        if_smaller: bool,
        tempo: Tempo,
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), RewriteFault> {
        let tried = self.try_rewrite(victims, if_smaller, tempo, sync, report);
        match tried {
            Err(RewriteFault::Failed(Error::NoSpace)) if self.make_room(Need::Copies) => {
                self.rewrite_with_room(victims, if_smaller, tempo, sync, report)
            }
            tried => tried,
        }
    }

    fn try_rewrite(
        &self,
        victims: &[Arc<Segment>],
        if_smaller: bool,
        tempo: Tempo,
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), RewriteFault> {
        let output = self.copy_all(victims, tempo)?;
        let held: u64 = victims.iter().map(|victim| victim.record_bytes()).sum();
        if if_smaller && victims.len() < 2 && output.copied_bytes >= held {
            return Ok(());
        }
        self.replace(victims, output, sync, report)
    }

    fn copy_all(&self, victims: &[Arc<Segment>], tempo: Tempo) -> Result<Output<'_>, RewriteFault> {
        let mut others = self.all_segments();
        others.retain(|other| !victims.iter().any(|victim| victim.id == other.id));
        // Whatever is cancelled up to here is seen as cancelled by the looks at the index below.
        let as_of_lsn = self.published_lsn.load(Ordering::Acquire);
        let mut output = Output::new(self, as_of_lsn, tempo);
        for victim in victims {
            self.copy_needed(victim, &others, &mut output)?;
        }
        Ok(output)
    }

    fn replace(
        &self,
        victims: &[Arc<Segment>],
        output: Output<'_>,
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), RewriteFault> {
        let copied_bytes = output.copied_bytes;
        let outputs = output.finish();
        let outputs = outputs.map_err(|error| Error::io("copy in", &self.dir, error))?;
        self.retire(victims, &outputs, sync, report)?;
        let written = outputs.iter().map(|output| output.end.load(Ordering::Relaxed)).sum();
        report.copied_bytes += copied_bytes;
        self.counters.compacted_bytes.fetch_add(written, Ordering::Relaxed);
        Ok(())
    }

    fn copy_needed(
        &self,
        victim: &Arc<Segment>,
        others: &[Arc<Segment>],
        output: &mut Output<'_>,
    ) -> Result<(), RewriteFault> {
        let path = segment::path(&self.dir, u64::from(victim.id));
        let unreadable = |error| Error::io("read", &path, error);
        let end = victim.end.load(Ordering::Acquire);
        let records_end = FRAMES_START + victim.record_bytes();
        let tempo = output.tempo;
        let ask = |bytes| self.ask_compactor(bytes, tempo);
        let file = Asking { file: &*victim.file, ask: &ask, forget: false };
        let mut walk = Walk::new(&file, victim.seed, FRAMES_START, end).map_err(unreadable)?;
        let (mut reached, mut corrupt) = (FRAMES_START, 0);
        let mut mended_to = FRAMES_START;
        while let Some(event) = walk.step().map_err(unreadable)? {
            reached = event.end();
            let frame = match event {
                Event::Frame(frame) => frame,
                // Footer and seal are made anew.
                Event::Damage { from, .. } if from >= records_end => continue,
                Event::Damage { from, to }
                    if to > mended_to && self.mend_stretch(victim, (from, to)) =>
                {
                    mended_to = to;
                    walk.read_again(from);
                    continue;
                }
                Event::Damage { from, to } => {
                    corrupt += self.report_stretch(victim, (from, to)).max(1);
                    continue;
                }
            };
            let needed = match frame.header.kind {
                Kind::Put => match self.judge_put(victim, &frame) {
                    Verdict::Keep => true,
                    Verdict::Drop => false,
                    Verdict::Corrupt(location) => {
                        self.report_payload(frame.header.slot, &location, victim);
                        corrupt += 1;
                        false
                    }
                },
                // It may still have to cancel something and cannot be copied: like a damaged entry.
                Kind::Delete | Kind::Abort if !frame.payload_ok => {
                    corrupt += 1;
                    false
                }
                Kind::Delete | Kind::Abort => self.needs(&frame, others),
                Kind::Commit | Kind::Footer | Kind::Seal => false,
            };
            // Once there is damage nothing will come of the copies, but all of it is to be found.
            if !needed || corrupt > 0 {
                continue;
            }
            match output.push(victim, &frame) {
                Ok(()) => {}
                Err(CopyFault::Io(error)) => {
                    return Err(Error::io("copy in", &self.dir, error).into());
                }
                Err(CopyFault::Rotten) => {
                    let here = location(victim, &frame);
                    self.report_payload(frame.header.slot, &here, victim);
                    corrupt += 1;
                }
            }
        }
        if reached < records_end {
            corrupt += self.report_stretch(victim, (reached, records_end)).max(1);
        }
        if corrupt > 0 {
            victim.damaged.store(true, Ordering::Relaxed);
            return Err(RewriteFault::Damaged(Arc::clone(victim), corrupt));
        }
        Ok(())
    }

    fn judge_put(&self, victim: &Segment, frame: &Frame) -> Verdict {
        match self.index.get(&frame.header.slot) {
            Some(now) if !now.same_place(&location(victim, frame)) => Verdict::Drop,
            Some(now) if !frame.payload_ok || now.corrupt() => Verdict::Corrupt(now),
            Some(_) => Verdict::Keep,
            None => Verdict::Drop,
        }
    }

    /// Whether a delete or abort may still have to cancel something in `others`.
    fn needs(&self, frame: &Frame, others: &[Arc<Segment>]) -> bool {
        let (lsn, oldest) = (frame.header.lsn, oldest(&frame.body));
        if frame.header.kind == Kind::Abort {
            return others.iter().any(|other| other.may_hold_aborted(oldest, lsn));
        }
        // An older version that is live was not deleted by this: the delete was given up.
        let given_up = self.index.get(&frame.header.slot).is_some_and(|now| now.lsn() < lsn);
        !given_up && others.iter().any(|other| other.may_hold(oldest, lsn))
    }
}

pub(super) fn live_bytes(segment: &Segment) -> u64 {
    segment.live_bytes.load(Ordering::Relaxed)
}

fn location(segment: &Segment, frame: &Frame) -> Location {
    Location::new(segment.id, frame.offset, frame.header.payload_len, frame.header.lsn)
}
