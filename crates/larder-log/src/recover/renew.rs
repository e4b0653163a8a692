//! Going on after what was read: with the old tail, or with a segment of its own.

use std::path::Path;

use super::copier::Copier;
use super::sealed::Sealed;
use super::{Found, Loader, OpenTail, Opened, cut_file, listed_active, note_uncut};
use crate::OpenError;
use crate::footer::Hints;
use crate::group::{COMMIT_BYTES, abort_bytes};
use crate::io::{File, Io, cannot_allocate, write_all};
use crate::manifest::Manifest;
use crate::record;
use crate::recycle;
use crate::scan::Frame;
use crate::segment::{self, Cut, FRAMES_START, Origin, Segment, SegmentHeader};
use crate::tail::Tail;
use crate::writer::{Active, Start};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// The name of the new segment until what it starts with is durable. So a segment that is met under
/// its own name holds all that it was to take over, and what it says of the old tail is in force,
/// whether or not there is a manifest to confirm it.
pub(super) const TEMPORARY: &str = "RECOVERY.tmp";

impl Loader {
    /// After a clean shut-down: the tail is appended to as if nothing had happened.
    pub(super) fn go_on(
        mut self,
        dir: &Path,
        tail: &OpenTail,
        sealed: Vec<Sealed>,
        manifest: Manifest,
    ) -> Result<Opened, OpenError> {
        let (end, divided) = (manifest.clean_end, &tail.divided);
        let segment = self.new_segment(&tail.found, end, false);
        self.report_tail(&segment, divided);
        self.replay.apply(&segment, divided.below.iter());
        let mut hints = Hints::default();
        for frame in &divided.below {
            hints.push_frame(frame);
        }
        if !divided.corrupt.is_empty() {
            hints.give_up();
        }
        self.apply_sealed(sealed)
            .map_err(|error| OpenError::io("read a segment in", dir, error))?;
        self.recovery.clean = true;
        // Blocks that were left to deletes at the shut-down, or that the file had before.
        let allocated = tail.found.file.size().unwrap_or(end).max(end);
        let recycled = tail.found.header.recycled;
        let start = Start {
            active: Active { segment, offset: end, allocated, recycled, hints },
            next_lsn: self.max_lsn + 1,
            clean: true,
            aborts: manifest.cancelled.clone(),
        };
        Ok(self.finish(manifest, start))
    }

    /// After anything else: what lies above the mark is made durable in a new segment.
    pub(super) fn begin_anew(
        mut self,
        io: &dyn Io,
        dir: &Path,
        tail: Option<OpenTail>,
        sealed: Vec<Sealed>,
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
        // The copies keep their positions; what cancels, and the commit, get the next ones.
        let cancelled = std::mem::take(&mut manifest.cancelled);
        let takes_over = !divided.above.is_empty() || !cancelled.is_empty();
        let commit_lsn = self.max_lsn + 1 + u64::from(!cancelled.is_empty());
        let base_lsn = if takes_over { commit_lsn + 1 } else { commit_lsn };
        let id = manifest.next_segment;
        let header = SegmentHeader {
            store: manifest.store,
            id,
            base_lsn,
            as_of_lsn: 0,
            origin: if takes_over { Origin::Recovery } else { Origin::Log },
            recycled: false,
        };
        let short_id =
            u32::try_from(id).map_err(|_| failed(io::Error::other("segment ids are used up")))?;
        let temporary = dir.join(TEMPORARY);
        let mut free = std::mem::take(&mut self.free);
        let file =
            recycle::with_room(io, dir, &mut free, || io.create(&temporary)).map_err(failed)?;
        let copied_bytes: u64 = divided.above.iter().map(|frame| frame.header.frame_len()).sum();
        let bytes = copied_bytes + abort_bytes(cancelled.len());
        recycle::with_room(io, dir, &mut free, || reserve(&*file, bytes)).map_err(failed)?;
        self.free = free;
        let cut = old.as_ref().map(|(found, segment)| Cut {
            segment: found.header.id,
            end: segment.end.load(Ordering::Relaxed),
        });
        let mut block = header.encode();
        if let Some(cut) = cut {
            cut.put_into(&mut block);
        }
        write_all(&*file, &[&block], 0).map_err(failed)?;
        let mut taken =
            TakenOver { frames: Vec::new(), end: FRAMES_START, hints: Hints::default() };
        if takes_over {
            let output = Copier::new(&*file, record::seed(&manifest.store, id));
            let from = old.as_ref().map(|(found, _)| &*found.file);
            taken = take_over(output, from, &divided, &cancelled, commit_lsn).map_err(failed)?;
            self.max_lsn = commit_lsn;
        }
        let TakenOver { frames, end, hints } = taken;
        file.sync().map_err(failed)?;
        io.rename(&temporary, &segment::path(dir, id)).map_err(failed)?;
        io.sync_dir(dir).map_err(failed)?;
        let active = Arc::new(Segment::new(&header, short_id, file, end, false));
        if takes_over {
            active.cover(commit_lsn);
        }
        self.segments.insert(short_id, Arc::clone(&active));
        self.recovery.rewritten = divided.above.len() as u64;
        self.replay.apply(&active, frames.iter());
        if let Some((_, segment)) = &old {
            self.report_tail(segment, &divided);
            self.replay.apply(segment, divided.below.iter());
        }
        self.apply_sealed(sealed).map_err(failed)?;
        let retired = self
            .retire_tail(old.as_ref().map(|(found, segment)| (found, &**segment)), &mut manifest);
        manifest.segments.push(listed_active(&header));
        manifest.forget_accepted();
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
        if let Some((found, segment)) =
            old.filter(|(_, segment)| self.segments.contains_key(&segment.id))
        {
            note_uncut(
                found.header.id,
                cut_file(&*found.file, segment.end.load(Ordering::Relaxed)),
            );
        }
        let start = Start {
            active: Active { segment: active, offset: end, allocated: end, recycled: false, hints },
            next_lsn: self.max_lsn + 1,
            clean: false,
            aborts: Vec::new(),
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
}

/// What a new segment begins with.
struct TakenOver {
    frames: Vec<Frame>,
    end: u64,
    hints: Hints,
}

/// Copies what lies above the mark, and writes down what so far only the manifest says was cancelled:
/// the committer may not get to it.
fn take_over(
    mut output: Copier<'_>,
    from: Option<&dyn File>,
    divided: &Tail,
    cancelled: &[(u64, u64)],
    commit_lsn: u64,
) -> io::Result<TakenOver> {
    let mut frames = Vec::with_capacity(divided.above.len() + 1);
    if let Some(from) = from {
        for frame in &divided.above {
            frames.push(output.copy(from, frame)?);
        }
    }
    if !cancelled.is_empty() {
        frames.push(output.cancel(commit_lsn - 1, cancelled)?);
    }
    let (end, hints) = output.commit(commit_lsn, divided.durable_lsn, &frames)?;
    Ok(TakenOver { frames, end, hints })
}

/// Reserves what the header and copies of this size take.
fn reserve(file: &dyn File, copied_bytes: u64) -> io::Result<()> {
    match file.allocate(0, FRAMES_START + copied_bytes + COMMIT_BYTES) {
        Err(error) if cannot_allocate(&error) => Ok(()),
        reserved => reserved,
    }
}
