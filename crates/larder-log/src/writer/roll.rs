//! Ending a segment, beginning the next, and shutting down.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::create::{begin_segment, discard_segment};
use super::{Active, Committer, Fault, Next};
use crate::WriteError;
use crate::footer::Hints;
use crate::group::control_frame;
use crate::manifest::{Listed, Manifest, StoreFault};
use crate::record::Kind;
use crate::recycle;
use crate::segment::{FRAMES_START, Origin, Segment, SegmentHeader};
use crate::spare::Need;

/// Less room for deletes than this is none.
const ROOM_MIN: u64 = 16 << 10;

impl Committer {
    /// [`Self::roll`] for a compaction, which gives more than it takes: on a full disk with what is put
    /// by, and less room for deletes than usual.
    pub(super) fn roll_to_compact(&mut self) -> Result<(), Fault> {
        let mut room = self.delete_reserve();
        loop {
            match self.roll(room) {
                Err(Fault::NoSpace) if self.shared.make_room(Need::Copies) => {}
                Err(Fault::NoSpace) if room > ROOM_MIN => room /= 4,
                rolled => return rolled,
            }
        }
    }

    /// Seals the present segment and goes on in a new one with at least `room` bytes of blocks. On
    /// `NoSpace` and `Refused` nothing has changed.
    pub(super) fn roll(&mut self, room: u64) -> Result<(), Fault> {
        self.announce_use()?;
        let header = SegmentHeader {
            store: self.shared.store,
            id: 0,
            // Footer and seal take one position each.
            base_lsn: self.next_lsn + 2,
            as_of_lsn: 0,
            origin: Origin::Log,
            recycled: false,
        };
        let begun = begin_segment(&self.shared, header, room)
            .map_err(|error| self.refused_or("create the successor of", error))?;
        let recycled = begun.header.recycled;
        if !recycled && room >= self.delete_reserve() {
            self.shared.manifest().free.disk_has_room();
        }
        let next = Active {
            segment: Arc::new(begun.segment),
            offset: FRAMES_START,
            allocated: begun.allocated,
            recycled,
            hints: Hints::default(),
        };
        let end = match self.seal() {
            Ok(end) => end,
            Err(fault) => {
                discard_segment(&self.shared, next.segment.id);
                return Err(fault);
            }
        };
        let (sealed, old_offset) = (Arc::clone(&self.active.segment), self.active.offset);
        let durable_lsn = self.next_lsn + 1;
        // The records that cancel others so far are durable now; the rest has none yet.
        let cancelled = self.aborts.clone();
        let stored =
            self.shared.manifest().replace(&*self.shared.io, &self.shared.dir, |manifest| {
                list_sealed(manifest, &sealed, end);
                manifest.segments.push(Listed {
                    id: u64::from(next.segment.id),
                    end: 0,
                    base_lsn: begun.header.base_lsn,
                    as_of_lsn: 0,
                    min_lsn: 0,
                    max_lsn_and_origin: (0, Origin::Log),
                });
                manifest.durable_lsn = durable_lsn;
                manifest.next_lsn = durable_lsn + 1;
                manifest.cancelled = cancelled;
            });
        match stored {
            Ok(()) => {}
            Err(StoreFault::Unchanged(error)) => {
                discard_segment(&self.shared, next.segment.id);
                let fault = self.refused_or("list the successor of", error);
                // The seal is taken back: the next group goes to its place.
                self.active.allocated = self.active.allocated.min(old_offset);
                return match self.active.segment.file.truncate(old_offset) {
                    Ok(()) => Err(fault),
                    Err(error) => Err(self.poison("cut", error)),
                };
            }
            Err(StoreFault::Unknown(error)) => {
                return Err(self.poison("list the successor of", error));
            }
        }
        sealed.tail_bytes.store(end - old_offset, Ordering::Relaxed);
        sealed.end.store(end, Ordering::Release);
        sealed.sealed.store(true, Ordering::Release);
        self.written_lsn = durable_lsn;
        self.durable_lsn = durable_lsn;
        self.marked_lsn = durable_lsn;
        self.data_lsn = durable_lsn;
        self.next_lsn = durable_lsn + 1;
        self.dirty_since = None;
        self.shared.add_segment(Arc::clone(&next.segment));
        self.active = next;
        let counters = &self.shared.counters;
        counters.recycled_segments.fetch_add(u64::from(recycled), Ordering::Relaxed);
        self.shared.compactor.ring();
        let active = self.active.segment.id;
        tracing::debug!(sealed = sealed.id, active, recycled, "rolled");
        Ok(())
    }

    /// Writes and syncs footer and seal; says where they end. Gives many unused blocks back, keeps a few
    /// for the next time the file is written.
    fn seal(&mut self) -> Result<u64, Fault> {
        let end = match self.write_seal() {
            // The seal alone has the room that deletes have; a segment without footer is walked.
            Err(Fault::NoSpace) if self.active.hints.payload().is_some() => {
                self.active.hints.give_up();
                self.write_seal()?
            }
            written => written?,
        };
        let segment = Arc::clone(&self.active.segment);
        // Where nothing is live, the file is about to be written again, or removed.
        let dead = segment.live_records.load(Ordering::Relaxed) == 0;
        let recyclable = dead && self.shared.options.recycle_bytes > 0;
        let synced = segment.file.size().and_then(|len| {
            let needed = self.shared.manifest().free.is_disk_full();
            let keeps = recyclable || recycle::keeps_slack(len, end, &self.shared.options);
            if needed || !keeps {
                segment.file.truncate(end)?;
                self.active.allocated = end;
            }
            segment.file.sync()
        });
        synced.map_err(|error| self.poison("seal", error))?;
        self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(end)
    }

    fn write_seal(&mut self) -> Result<u64, Fault> {
        let Active { segment, offset, hints, .. } = &self.active;
        let seal = hints.seal(*offset, segment.lsn_range());
        let mut lsn = self.next_lsn;
        let mut tail = Vec::new();
        if let Some(payload) = hints.payload() {
            tail = control_frame(Kind::Footer, lsn, payload, segment.seed);
            lsn += 1;
        }
        tail.extend(control_frame(Kind::Seal, lsn, &seal.encode(), segment.seed));
        let end = offset + tail.len() as u64;
        self.write_at_end(&[&tail], true)?;
        Ok(end)
    }

    /// Before the first append: the manifest must no longer say that the log was shut down.
    pub(super) fn announce_use(&mut self) -> Result<(), Fault> {
        if !self.clean {
            return Ok(());
        }
        let (io, dir) = (&*self.shared.io, &self.shared.dir);
        let stored = self.shared.manifest().replace(io, dir, |manifest| manifest.clean_end = 0);
        match stored {
            Ok(()) => {
                self.clean = false;
                Ok(())
            }
            Err(StoreFault::Unchanged(error)) => Err(self.refused_or("begin to use", error)),
            Err(StoreFault::Unknown(error)) => Err(self.poison("begin to use", error)),
        }
    }

    /// Ends the log: everything durable, the manifest says so, the lock free.
    pub(super) fn finish(&mut self) -> Next {
        self.shared.closed.store(true, Ordering::Release);
        self.shared.compactor.stop();
        self.shared.watch.stop();
        self.shared.scrubber.stop();
        // A compaction that is under way ends first; the next one sees that the log is closed.
        drop(self.shared.compacting.lock());
        let ended = self.sync().and_then(|()| self.note_end());
        self.shared.budget.close();
        self.shared.release_lock();
        let shutdown = {
            let mut queue = self.shared.queue();
            queue.gone = true;
            queue.shutdown.take()
        };
        if let Some((_, ticket)) = shutdown {
            match ended {
                Ok(()) => {
                    ticket.finish(|| self.durable_lsn);
                }
                Err(error) => ticket.fail(&error),
            }
        }
        Next::Closed
    }

    /// Says in the manifest that all is well, and what was given up without a record that says so:
    /// a full disk may have had no room for that, and there is some put by for the manifest.
    fn note_end(&mut self) -> Result<(), Arc<WriteError>> {
        if self.clean {
            return Ok(());
        }
        let cut = self.cut_at_end();
        // Failing to say that all is well is no loss: the next open checks the tail then.
        if let Err(error) = &cut {
            tracing::warn!(%error, "cannot cut the last segment at shut-down");
        }
        let end = if cut.is_ok() { self.active.offset } else { 0 };
        let (durable_lsn, next_lsn) = (self.durable_lsn, self.next_lsn);
        let (io, dir) = (&*self.shared.io, &self.shared.dir);
        let cancelled = self.aborts.clone();
        let stored = self.shared.manifest().replace(io, dir, |manifest| {
            manifest.clean_end = end;
            manifest.durable_lsn = durable_lsn;
            manifest.next_lsn = next_lsn;
            manifest.cancelled = cancelled;
        });
        let Err(fault) = stored else {
            self.clean = end != 0;
            return Ok(());
        };
        let source = fault.into_error();
        tracing::warn!(error = %source, batches = self.aborts.len(), "cannot note the shut-down");
        match self.aborts.len() {
            0 => Ok(()),
            batches => Err(Arc::new(WriteError::NotCancelled { batches, source })),
        }
    }

    /// Cuts the last segment at its end, but for what is worth keeping.
    fn cut_at_end(&self) -> io::Result<()> {
        let (file, end) = (&self.active.segment.file, self.active.offset);
        // Blocks that were written before are worth keeping; those of a new file are only reserved.
        // What deletes may use on a full disk stays theirs: the disk may be full at the next open.
        let kept = match self.active.allocated {
            _ if self.active.recycled && self.shared.options.recycle_bytes > 0 => return Ok(()),
            u64::MAX => 0,
            allocated => allocated.saturating_sub(end).min(self.delete_reserve()),
        };
        file.truncate(end + kept).and_then(|()| file.sync())
    }
}

/// Notes in the manifest that a segment has ended.
pub(crate) fn list_sealed(manifest: &mut Manifest, segment: &Segment, end: u64) {
    let (min_lsn, max_lsn) = segment.lsn_range();
    for listed in &mut manifest.segments {
        if listed.id == u64::from(segment.id) {
            listed.end = end;
            listed.min_lsn = min_lsn;
            listed.max_lsn_and_origin = (max_lsn, segment.origin);
        }
    }
}
