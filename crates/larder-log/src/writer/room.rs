//! Room on the disk: reserved ahead of the writes, and some of it left to deletes.

use super::{Committer, Fault};
use crate::error::is_no_space;
use crate::io::cannot_allocate;
use crate::recycle;
use crate::shared::Shared;
use crate::spare::Need;

/// Blocks are reserved this far ahead of the writes.
const ALLOCATE_STEP: u64 = 4 << 20;
/// Reserved blocks that puts leave to deletes, so that a full disk can be emptied.
const DELETE_RESERVE_MAX: u64 = 256 << 10;

impl Committer {
    /// Reserves blocks up to `end` and, for puts, some more that only deletes may use.
    pub(super) fn reserve(&mut self, end: u64, only_deletes: bool) -> Result<(), Fault> {
        if !self.shared.options.preallocate {
            self.active.allocated = u64::MAX;
        }
        let need = end + self.delete_reserve();
        if need <= self.active.allocated {
            return Ok(());
        }
        let full = self.shared.options.segment_bytes + self.delete_reserve();
        let mut to = need.max(full.min(self.active.allocated.saturating_add(ALLOCATE_STEP)));
        let from = self.active.allocated.max(self.active.offset);
        loop {
            match self.active.segment.file.allocate(from, to - from) {
                Ok(()) => self.active.allocated = to,
                // The last of the room is for puts, too, but not what the manifest needs.
                Err(error) if is_no_space(&error) && to > need && self.holds_spare() => {
                    to = need.max(from + (to - from) / 4);
                    continue;
                }
                Err(error) if is_no_space(&error) && only_deletes => {
                    if end > self.active.allocated {
                        // The very last of it is theirs.
                        if to <= end {
                            return Err(Fault::NoSpace);
                        }
                        to = end.max(from + (to - from) / 4);
                        continue;
                    }
                }
                Err(error) if is_no_space(&error) => return Err(Fault::NoSpace),
                Err(error) if cannot_allocate(&error) => self.active.allocated = u64::MAX,
                Err(error) => return Err(self.poison("reserve blocks in", error)),
            }
            return Ok(());
        }
    }

    /// Puts room by after a recovery, which had to spend it, or in a new log.
    pub(crate) fn put_room_by(&mut self) {
        let enough = self.active.offset + self.delete_reserve();
        self.holds_spare();
        self.reserve_for_deletes();
        if self.active.allocated < enough {
            // What was reserved behind the tails of those who died.
            for segment in self.shared.all_segments() {
                recycle::cut_tail(&segment);
            }
            self.holds_spare();
            self.reserve_for_deletes();
        }
    }

    /// Reserves what deletes may use, or as much of it as there is.
    fn reserve_for_deletes(&mut self) {
        let mut more = self.delete_reserve();
        while more >= 4096 && self.active.allocated < self.active.offset + more {
            let (offset, file) = (self.active.offset, &self.active.segment.file);
            if file.allocate(offset, more).is_ok() {
                self.active.allocated = offset + more;
            }
            more /= 2;
        }
    }

    pub(super) fn delete_reserve(&self) -> u64 {
        if !self.shared.options.preallocate {
            return 0;
        }
        DELETE_RESERVE_MAX.min(self.shared.options.segment_bytes / 16)
    }

    fn holds_spare(&self) -> bool {
        self.shared.manifest().hold_spare(&*self.shared.io, &self.shared.dir)
    }
}

impl Shared {
    /// Makes room on a full disk: the files that wait to be written again, then what is put by.
    /// Whether there was anything to give.
    pub(crate) fn make_room(&self, need: Need) -> bool {
        let mut manifest = self.manifest();
        let (io, dir) = (&*self.io, self.dir.as_path());
        manifest.free.release(io, dir) || manifest.lend_spare(io, dir, need)
    }
}
