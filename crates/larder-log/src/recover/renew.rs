//! Going on after what was read: with the old tail, or with a segment of its own.

use std::path::Path;

use super::copier::Copier;
use super::sealed::Sealed;
use super::{Found, Loader, OpenTail, Opened, listed_active};
use crate::OpenError;
use crate::footer::Hints;
use crate::group::COMMIT_BYTES;
use crate::io::{File, Io, cannot_allocate};
use crate::manifest::Manifest;
use crate::record;
use crate::recycle;
use crate::segment::{self, FRAMES_START, Origin, Segment, SegmentHeader};
use crate::tail::Tail;
use crate::writer::{Active, Start, write_header};
use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

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
        let mut hints = Hints::default();
        if let Some((found, _)) = old.as_ref().filter(|_| copies) {
            let mut output = Copier::new(&*file, record::seed(&manifest.store, id));
            for frame in &divided.above {
                moved.push(output.copy(&*found.file, frame).map_err(failed)?);
            }
            (end, hints) =
                output.commit(commit_lsn, divided.durable_lsn, &moved).map_err(failed)?;
            file.sync().map_err(failed)?;
            self.max_lsn = commit_lsn;
        }
        io.sync_dir(dir).map_err(failed)?;
        let active = Arc::new(Segment::new(&header, short_id, file, end, false));
        if copies {
            active.cover(commit_lsn);
        }
        self.segments.insert(short_id, Arc::clone(&active));
        self.recovery.rewritten = moved.len() as u64;
        self.replay.apply(&active, moved.iter());
        if let Some((_, segment)) = &old {
            self.report_tail(segment, &divided);
            self.replay.apply(segment, divided.below.iter());
        }
        self.apply_sealed(sealed).map_err(failed)?;
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
            active: Active { segment: active, offset: end, allocated: end, recycled: false, hints },
            next_lsn: self.max_lsn + 1,
            clean: false,
            aborts: manifest.cancelled.clone(),
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

/// Reserves what the header and copies of this size take.
fn reserve(file: &dyn File, copied_bytes: u64) -> io::Result<()> {
    match file.allocate(0, FRAMES_START + copied_bytes + COMMIT_BYTES) {
        Err(error) if cannot_allocate(&error) => Ok(()),
        reserved => reserved,
    }
}
