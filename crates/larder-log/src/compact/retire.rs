//! Taking segments off the list and their files off the disk.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::{CompactReport, Sync};
use crate::Error;
use crate::index::Location;
use crate::manifest::{Listed, StoreFault};
use crate::record::Kind;
use crate::recover::QUARANTINE;
use crate::recycle;
use crate::scan::Event;
use crate::segment::{self, FRAMES_START, Segment};
use crate::shared::Shared;
use crate::walk::Walk;
use crate::writer::discard_segment;

impl Shared {
    /// Takes segments off the list and copies onto it, then removes the files.
    pub(super) fn retire(
        &self,
        victims: &[Arc<Segment>],
        outputs: &[Arc<Segment>],
        sync: Sync<'_>,
        report: &mut CompactReport,
    ) -> Result<(), Error> {
        if victims.is_empty() {
            return Ok(());
        }
        // What made the records dead must be as durable as their end will be: a replacement that is
        // only in the page cache would take both versions with it when the power fails.
        if let Err(error) = sync() {
            self.discard(outputs);
            return Err(error);
        }
        let stored = self.manifest().replace(&*self.io, &self.dir, |manifest| {
            let gone = |id: u64| victims.iter().any(|victim| u64::from(victim.id) == id);
            manifest.segments.retain(|listed| !gone(listed.id));
            manifest.void.extend(victims.iter().map(|victim| u64::from(victim.id)));
            manifest.segments.extend(outputs.iter().map(|output| list(output)));
        });
        match stored {
            Ok(()) => {}
            Err(StoreFault::Unchanged(error)) => {
                self.discard(outputs);
                return Err(Error::io("list the segments of", &self.dir, error));
            }
            Err(StoreFault::Unknown(error)) => {
                // Old or new may come back after a crash, so both sets of files must stay.
                self.health.poison();
                return Err(Error::io("list the segments of", &self.dir, error));
            }
        }
        for output in outputs {
            report.created_segments += 1;
            report.reclaimed_bytes -= signed(output.end.load(Ordering::Relaxed));
            self.add_segment(Arc::clone(output));
            let path = segment::path(&self.dir, u64::from(output.id));
            // If that fails the originals go on to serve, and are copied again.
            self.point_to(output).map_err(|error| Error::io("read", &path, error))?;
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

    /// Lets the index point to the copies, as they are read back: so no list of them is needed, and
    /// what was not written well is never pointed to.
    fn point_to(&self, output: &Segment) -> io::Result<()> {
        let end = output.end.load(Ordering::Acquire);
        let mut walk = Walk::new(&*output.file, output.seed, FRAMES_START, end)?;
        let mut reached = FRAMES_START;
        while let Some(event) = walk.step()? {
            reached = event.end();
            let frame = match event {
                Event::Frame(frame) if frame.payload_ok => frame,
                _ => return Err(io::Error::other("a copy is not what was written")),
            };
            if frame.header.kind != Kind::Put {
                continue;
            }
            let header = &frame.header;
            let copy = Location::new(output.id, frame.offset, header.payload_len, header.lsn);
            // Counted first, so that a delete in this very moment finds something to take away.
            self.count_live(&copy);
            let dead = self.index.relocate(&header.slot, copy).unwrap_or(copy);
            self.count_dead(&dead);
        }
        if reached < end {
            return Err(io::Error::other("a copy is shorter than what was written"));
        }
        Ok(())
    }

    /// Removes copies that were never listed.
    pub(super) fn discard(&self, outputs: &[Arc<Segment>]) {
        for output in outputs {
            discard_segment(self, output.id);
        }
    }

    /// Disposes of the file of a retired segment: it is kept to be written again where that is worth
    /// it, else removed; one with damage in it is kept aside.
    fn remove_file(&self, victim: &Arc<Segment>) -> io::Result<()> {
        if !victim.damaged.load(Ordering::Relaxed) {
            return self.give_file_back(victim);
        }
        let path = segment::path(&self.dir, u64::from(victim.id));
        let aside = self.dir.join(QUARANTINE);
        self.io.create_dir(&aside)?;
        self.io.rename(&path, &segment::path(&aside, u64::from(victim.id)))?;
        self.io.sync_dir(&aside)?;
        self.io.sync_dir(&self.dir)?;
        self.manifest().forget_void(victim.id);
        Ok(())
    }

    /// Keeps the file of a segment that is off the list to be written again, or removes it.
    pub(super) fn give_file_back(&self, victim: &Arc<Segment>) -> io::Result<()> {
        let path = segment::path(&self.dir, u64::from(victim.id));
        if let Some(len) = self.worth_keeping(victim) {
            self.io.rename(&path, &recycle::path(&self.dir, u64::from(victim.id)))?;
            self.io.sync_dir(&self.dir)?;
            let mut manifest = self.manifest();
            manifest.forget_void(victim.id);
            manifest.free.add(victim, len);
            return Ok(());
        }
        match self.io.unlink(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        self.io.sync_dir(&self.dir)?;
        self.manifest().forget_void(victim.id);
        Ok(())
    }

    /// The length of the file, where it is suitable and there is room for it.
    fn worth_keeping(&self, victim: &Segment) -> Option<u64> {
        if victim.damaged.load(Ordering::Relaxed) {
            return None;
        }
        let len =
            victim.file.size().ok().filter(|len| recycle::is_suitable(*len, &self.options))?;
        self.manifest().free.make_room(&*self.io, &self.dir, len).then_some(len)
    }
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
