//! The lock that keeps a folder to one open log.
//!
//! An advisory lock on an open file: the system drops it when the owner dies, however it dies, so
//! there is no stale lock to clean up, and it also keeps out a second open in the same process.
//!
//! The folder itself is locked in the same way: whoever removes the lock file of a log in use, to be
//! rid of a "stale" lock, must not let a second process in. Where a system locks no folders, as on
//! some network file systems, the file alone keeps others out.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::Path;

use rustix::fs::{FlockOperation, flock};

use crate::io::Lock;

/// Why a lock was not taken.
#[derive(Debug)]
pub enum LockError {
    /// Somebody holds it; the process, where the file tells.
    Held(Option<u32>),
    /// The system refused.
    Io(io::Error),
}

impl From<io::Error> for LockError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

/// What a look at a lock shows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LockState {
    /// Nobody holds it.
    Free,
    /// Somebody holds it; the process, where the file tells.
    Held(Option<u32>),
}

/// Held for the locks, which end when the files are closed.
#[derive(Debug)]
#[expect(dead_code, reason = "held for its locks")]
struct FileLock {
    file: File,
    folder: Option<File>,
}

impl Lock for FileLock {}

/// Takes the lock at `path`, creating the file if needed.
pub(crate) fn take(path: &Path) -> Result<Box<dyn Lock>, LockError> {
    // Not truncated: a loser must leave the owner's process id in place.
    let mut file =
        File::options().read(true).write(true).create(true).truncate(false).open(path)?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => {}
        Err(rustix::io::Errno::WOULDBLOCK) => return Err(LockError::Held(read_pid(&mut file))),
        Err(error) => return Err(LockError::Io(error.into())),
    }
    let folder = match lock_folder(path, FlockOperation::NonBlockingLockExclusive) {
        FolderLock::Ours(folder) => Some(folder),
        // This lock file is not the owner's: it does not know who that is.
        FolderLock::Held => return Err(LockError::Held(None)),
        FolderLock::Unsupported => None,
    };
    file.set_len(0)?;
    file.seek(SeekFrom::Start(0))?;
    writeln!(file, "{}", std::process::id())?;
    Ok(Box::new(FileLock { file, folder }))
}

/// Looks at the lock at `path` and leaves it as it is.
pub(crate) fn owner(path: &Path) -> io::Result<LockState> {
    let mut file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(folder_owner(path)),
        Err(error) => return Err(error),
    };
    match flock(&file, FlockOperation::NonBlockingLockShared) {
        Ok(()) => Ok(folder_owner(path)),
        Err(rustix::io::Errno::WOULDBLOCK) => Ok(LockState::Held(read_pid(&mut file))),
        Err(error) => Err(error.into()),
    }
}

/// What came of the attempt to lock a folder.
enum FolderLock {
    Ours(File),
    Held,
    Unsupported,
}

/// Locks the folder that the lock file at `path` is in.
fn lock_folder(path: &Path, operation: FlockOperation) -> FolderLock {
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    let Ok(folder) = File::open(parent.unwrap_or(Path::new("."))) else {
        return FolderLock::Unsupported;
    };
    match flock(&folder, operation) {
        Ok(()) => FolderLock::Ours(folder),
        Err(rustix::io::Errno::WOULDBLOCK) => FolderLock::Held,
        Err(_) => FolderLock::Unsupported,
    }
}

/// Whether somebody holds the folder, whose lock file is not held or gone.
fn folder_owner(path: &Path) -> LockState {
    match lock_folder(path, FlockOperation::NonBlockingLockShared) {
        FolderLock::Held => LockState::Held(None),
        FolderLock::Ours(_) | FolderLock::Unsupported => LockState::Free,
    }
}

fn read_pid(file: &mut File) -> Option<u32> {
    let mut text = String::new();
    file.take(32).read_to_string(&mut text).ok()?;
    text.trim().parse().ok()
}
