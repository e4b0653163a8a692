//! A little room put by for what a full disk must not refuse: the manifest that lets dead segments
//! go, the deletes that make them dead, and copies of the few records that are still live in them.

use std::io;
use std::path::Path;

use crate::io::{File, Io, cannot_allocate, write_all};

pub(crate) const NAME: &str = "SPARE";
/// What is put by, or less in steps where there is no more: even the least opens a log after a crash.
const BYTES: u64 = 256 << 10;
const STEP: u64 = 16 << 10;
/// Room for the manifest of more than a thousand segments, which is lent to nobody else.
const MANIFEST: u64 = 64 << 10;

/// For whom room is made on a full disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Need {
    /// Puts: they get nothing of what is put by.
    Puts,
    /// Deletes, and what cancels batches: what they take, compaction gives back.
    Deletes,
    /// Compaction: what is left of it then.
    Copies,
}

impl Need {
    /// What is not lent.
    const fn leaves(self) -> u64 {
        match self {
            Self::Puts => u64::MAX,
            Self::Deletes => 160 << 10,
            Self::Copies => MANIFEST,
        }
    }
}

/// How much is put by, as far as is known.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    bytes: u64,
}

impl Spare {
    /// Puts as much by as there is room for; whether it is enough for the manifest. Not being able to
    /// is no failure.
    pub(crate) fn hold(&mut self, io: &dyn Io, dir: &Path) -> bool {
        if self.bytes < BYTES {
            self.bytes = self.grow(io, dir);
        }
        self.bytes >= MANIFEST
    }

    /// Gives up a part; whether that has helped. The next [`Self::hold`] takes it back.
    pub(crate) fn lend(&mut self, io: &dyn Io, dir: &Path, need: Need) -> bool {
        if need == Need::Puts {
            return false;
        }
        let path = dir.join(NAME);
        let lent = io.open(&path, true).and_then(|file| {
            let more = file.size()? > need.leaves();
            if more {
                file.truncate(need.leaves())?;
            }
            Ok(more)
        });
        let lent = lent.unwrap_or(false);
        if lent {
            self.bytes = need.leaves();
        }
        lent
    }

    /// Gives all of it up; whether that has helped.
    pub(crate) fn release(&mut self, io: &dyn Io, dir: &Path) -> bool {
        self.bytes = 0;
        io.unlink(&dir.join(NAME)).is_ok()
    }

    fn grow(&self, io: &dyn Io, dir: &Path) -> u64 {
        let path = dir.join(NAME);
        let file = match io.open(&path, true) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => io.create(&path),
            opened => opened,
        };
        let Ok(file) = file else { return self.bytes };
        // The length says nothing about blocks: a crash may have left a part of it.
        let before = file.size().unwrap_or(0);
        // A file system takes its time to find out that it is full.
        let free = io.space(dir).ok().flatten().map_or(BYTES, |space| space.free_bytes);
        let most = BYTES.min(before.saturating_add(free)) / STEP;
        for bytes in (1..=most).rev().map(|steps| steps * STEP).take_while(|b| *b > self.bytes) {
            if reserve(&*file, bytes).is_ok() {
                return bytes;
            }
            // A part of it would only take what little room there is.
            let _ = file.truncate(before.min(bytes));
        }
        if self.bytes == 0 {
            let _ = io.unlink(&path);
        }
        self.bytes
    }
}

/// Gives the room up for a recovery, which has to write before it can free anything.
pub(crate) fn spend(io: &dyn Io, dir: &Path) {
    // Where there is none the recovery finds out by itself whether it has room.
    let _ = io.unlink(&dir.join(NAME));
}

fn reserve(file: &dyn File, bytes: u64) -> io::Result<()> {
    match file.allocate(0, bytes) {
        // Where blocks cannot be reserved they are written.
        Err(error) if cannot_allocate(&error) => {
            let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
            write_all(file, &[&zeros], 0)
        }
        made => made,
    }
}

#[cfg(test)]
mod tests;
