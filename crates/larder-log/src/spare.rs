//! A little room put by, for the one write that a full disk must not refuse: the manifest that lets
//! dead segments go.

use std::io;
use std::path::Path;

use crate::io::{Io, write_all};

pub(crate) const NAME: &str = "SPARE";
/// Room for the manifest of some thousand segments; less where there is no more.
const SIZES: [u64; 3] = [256 << 10, 128 << 10, 64 << 10];

/// Whether the room is there.
#[derive(Debug, Default)]
pub(crate) struct Spare {
    held: bool,
}

impl Spare {
    /// Puts the room by, if that has not been done; whether it is there. Not being able to is no
    /// failure.
    pub(crate) fn hold(&mut self, io: &dyn Io, dir: &Path) -> bool {
        if !self.held {
            self.held = SIZES.iter().any(|bytes| match make(io, dir, *bytes) {
                Ok(()) => true,
                Err(error) if error.kind() == io::ErrorKind::AlreadyExists => true,
                Err(_) => {
                    // A part of it would only take what little room there is.
                    let _ = io.unlink(&dir.join(NAME));
                    false
                }
            });
        }
        self.held
    }

    /// Gives the room up; whether that has helped.
    pub(crate) fn release(&mut self, io: &dyn Io, dir: &Path) -> bool {
        self.held = false;
        io.unlink(&dir.join(NAME)).is_ok()
    }
}

/// Gives the room up for a recovery, which has to write before it can free anything. The next
/// manifest puts it by again.
pub(crate) fn spend(io: &dyn Io, dir: &Path) {
    // Where there is none the recovery finds out by itself whether it has room.
    let _ = io.unlink(&dir.join(NAME));
}

fn make(io: &dyn Io, dir: &Path, bytes: u64) -> io::Result<()> {
    let file = io.create(&dir.join(NAME))?;
    match file.allocate(0, bytes) {
        // Where blocks cannot be reserved they are written.
        Err(error) if matches!(error.kind(), io::ErrorKind::Unsupported) => {
            let zeros = vec![0; usize::try_from(bytes).unwrap_or(0)];
            write_all(&*file, &[&zeros], 0)
        }
        made => made,
    }
}
