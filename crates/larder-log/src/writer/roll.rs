//! Ending a segment, beginning the next, and shutting down.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{Active, Committer, Fault, Next};
use crate::group::control_frame;
use crate::io::{File, write_all};
use crate::manifest::{Listed, Manifest, StoreFault};
use crate::record::{HEADER_LEN, Kind, Seal};
use crate::segment::{self, FRAMES_START, Origin, Segment, SegmentHeader};
use crate::shared::Shared;

/// Bytes of a seal frame.
pub(crate) const SEAL_BYTES: u64 = (HEADER_LEN + Seal::LEN) as u64;

impl Committer {
    /// Seals the present segment and goes on in a new one. On `NoSpace` and `Refused` nothing has
    /// changed.
    pub(super) fn roll(&mut self, bytes_ahead: u64) -> Result<(), Fault> {
        self.announce_use()?;
        let header = SegmentHeader {
            store: self.shared.store,
            id: 0,
            // The seal takes one position.
            base_lsn: self.next_lsn + 1,
            as_of_lsn: 0,
            origin: Origin::Log,
        };
        let created = create_segment(&self.shared, header);
        let (segment, header) =
            created.map_err(|error| self.refused_or("create the successor of", error))?;
        let next =
            Active { segment: Arc::new(segment), offset: FRAMES_START, allocated: FRAMES_START };
        if let Err(fault) = self.seal() {
            discard_segment(&self.shared, next.segment.id);
            return Err(fault);
        }
        let (sealed, old_offset) = (Arc::clone(&self.active.segment), self.active.offset);
        let end = old_offset + SEAL_BYTES;
        let durable_lsn = self.next_lsn;
        let stored =
            self.shared.manifest().replace(&*self.shared.io, &self.shared.dir, |manifest| {
                list_sealed(manifest, &sealed, end);
                manifest.segments.push(Listed {
                    id: u64::from(next.segment.id),
                    end: 0,
                    base_lsn: header.base_lsn,
                    as_of_lsn: 0,
                    min_lsn: 0,
                    max_lsn_and_origin: (0, Origin::Log),
                });
                manifest.durable_lsn = durable_lsn;
                manifest.next_lsn = durable_lsn + 1;
            });
        match stored {
            Ok(()) => {}
            Err(StoreFault::Unchanged(error)) => {
                discard_segment(&self.shared, next.segment.id);
                let fault = self.refused_or("list the successor of", error);
                // The seal is taken back: the next group goes to its place.
                return match self.active.segment.file.truncate(old_offset) {
                    Ok(()) => Err(fault),
                    Err(error) => Err(self.poison("cut", error)),
                };
            }
            Err(StoreFault::Unknown(error)) => {
                return Err(self.poison("list the successor of", error));
            }
        }
        sealed.cover(self.next_lsn);
        sealed.end.store(end, Ordering::Release);
        sealed.sealed.store(true, Ordering::Release);
        self.written_lsn = self.next_lsn;
        self.durable_lsn = self.next_lsn;
        self.marked_lsn = self.next_lsn;
        self.data_lsn = self.next_lsn;
        self.next_lsn += 1;
        self.dirty_since = None;
        self.shared.add_segment(Arc::clone(&next.segment));
        self.active = next;
        self.shared.compactor.ring();
        tracing::debug!(sealed = sealed.id, active = self.active.segment.id, bytes_ahead, "rolled");
        Ok(())
    }

    /// Writes and syncs the last frame of the segment, and gives reserved blocks back.
    fn seal(&mut self) -> Result<(), Fault> {
        let segment = Arc::clone(&self.active.segment);
        let (min_lsn, max_lsn) = segment.lsn_range();
        let offset = self.active.offset;
        let seal = Seal { offset, frames: 0, min_lsn, max_lsn };
        let frame = control_frame(Kind::Seal, self.next_lsn, &seal.encode(), segment.seed);
        self.write_at_end(&[&frame])?;
        self.active.allocated = offset;
        let end = offset + SEAL_BYTES;
        let synced = segment.file.truncate(end).and_then(|()| segment.file.sync());
        synced.map_err(|error| self.poison("seal", error))?;
        self.shared.counters.syncs.fetch_add(1, Ordering::Relaxed);
        Ok(())
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
        // A compaction that is under way ends first; the next one sees that the log is closed.
        drop(self.shared.compacting.lock());
        let flushed = self.sync();
        if flushed.is_ok() && !self.clean {
            self.store_clean_mark();
        }
        self.shared.budget.close();
        self.shared.release_lock();
        let shutdown = {
            let mut queue = self.shared.queue();
            queue.gone = true;
            queue.shutdown.take()
        };
        if let Some((_, ticket)) = shutdown {
            match flushed {
                Ok(()) => {
                    ticket.finish(|| self.durable_lsn);
                }
                Err(error) => ticket.fail(&error),
            }
        }
        Next::Closed
    }

    /// Failing to say that all is well is no loss: the next open checks the tail then.
    fn store_clean_mark(&mut self) {
        let (file, end) = (&self.active.segment.file, self.active.offset);
        // What deletes may use on a full disk stays theirs: the disk may be full at the next open.
        let kept = match self.active.allocated {
            u64::MAX => 0,
            allocated => allocated.saturating_sub(end).min(self.delete_reserve()),
        };
        let cut = file.truncate(end + kept).and_then(|()| file.sync());
        if let Err(error) = cut {
            tracing::warn!(%error, "cannot cut the last segment at shut-down");
            return;
        }
        let (durable_lsn, next_lsn) = (self.durable_lsn, self.next_lsn);
        let (io, dir) = (&*self.shared.io, &self.shared.dir);
        let stored = self.shared.manifest().replace(io, dir, |manifest| {
            manifest.clean_end = end;
            manifest.durable_lsn = durable_lsn;
            manifest.next_lsn = next_lsn;
        });
        match stored {
            Ok(()) => self.clean = true,
            Err(error) => tracing::warn!(?error, "cannot note the shut-down"),
        }
    }
}

/// Makes a segment file with a fresh id, durable under its name, not listed yet.
pub(crate) fn create_segment(
    shared: &Shared,
    header: SegmentHeader,
) -> std::io::Result<(Segment, SegmentHeader)> {
    let (id, file) = create_file(shared)?;
    let header = SegmentHeader { id: u64::from(id), ..header };
    let created = (|| {
        write_header(&*file, &header)?;
        shared.io.sync_dir(&shared.dir)?;
        Ok(file)
    })();
    match created {
        Ok(file) => Ok((Segment::new(&header, id, file, FRAMES_START, false), header)),
        Err(error) => {
            discard_segment(shared, id);
            Err(error)
        }
    }
}

/// Makes an empty file with a fresh id. A strange file that has the name keeps it.
fn create_file(shared: &Shared) -> std::io::Result<(u32, Arc<dyn File>)> {
    loop {
        let Some(id) = shared.manifest().allocate() else {
            return Err(std::io::Error::other("segment ids are used up"));
        };
        match shared.io.create(&segment::path(&shared.dir, u64::from(id))) {
            Ok(file) => return Ok((id, file)),
            Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
                shared.manifest().forget(id);
            }
            Err(error) => {
                discard_segment(shared, id);
                return Err(error);
            }
        }
    }
}

/// Removes a segment file that was never listed. If that fails, the next open does it.
pub(crate) fn discard_segment(shared: &Shared, id: u32) {
    match shared.io.unlink(&segment::path(&shared.dir, u64::from(id))) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {}
        _ => shared.manifest().discard(id),
    }
}

pub(crate) fn write_header(file: &dyn File, header: &SegmentHeader) -> std::io::Result<()> {
    write_all(file, &[&header.encode()], 0)?;
    file.sync()
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
