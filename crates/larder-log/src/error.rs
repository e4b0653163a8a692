//! What can go wrong, and what it means for the data.

use std::io;
use std::path::{Path, PathBuf};

use crate::Slot;

/// What a failed call means for the data.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Effect {
    /// It did not happen and will not happen.
    NotApplied,
    /// It may have happened, and may be seen after the log is opened again.
    Unknown,
}

/// Why a log could not be opened. Nothing was changed in any of these cases, except where `Io` and
/// `NoSpace` interrupt a recovery, which the next open repeats.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// Another open log holds the folder, in this process or another one.
    #[error("{} is in use by {}: close that log first", path.display(), owner(*pid))]
    Locked {
        /// The folder.
        path: PathBuf,
        /// The process that holds it, where the lock file tells.
        pid: Option<u32>,
    },
    /// There is no such folder and the options forbid to create it.
    #[error("{} does not exist: create the log first", path.display())]
    NotFound {
        /// The folder.
        path: PathBuf,
    },
    /// The path names something that is not a folder.
    #[error("{} is not a folder: name a folder for the log", path.display())]
    NotAFolder {
        /// The path.
        path: PathBuf,
    },
    /// The folder cannot be written.
    #[error("{} cannot be written by this user: check its owner, mode and mount", path.display())]
    ReadOnly {
        /// The folder.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The folder holds other files and no log.
    #[error("{} is not a log but holds {name:?}: name an empty folder", path.display())]
    Foreign {
        /// The folder.
        path: PathBuf,
        /// One of the files found there.
        name: String,
    },
    /// A newer version of this software wrote the log.
    #[error(
        "{} has format version {found}, this program reads up to {supported}: use a newer one",
        path.display()
    )]
    Newer {
        /// The file that says so.
        path: PathBuf,
        /// Its format version.
        found: u32,
        /// The newest version that this program reads.
        supported: u32,
    },
    /// Neither the manifest nor any segment header can be read, so no record can be told from noise.
    #[error("{}: {what}: restore it from a backup", path.display())]
    Damaged {
        /// The folder.
        path: PathBuf,
        /// What was found.
        what: &'static str,
    },
    /// The disk is full and recovery needs to write.
    #[error("{}: no space left to finish the recovery: free some and open again", path.display())]
    NoSpace {
        /// The folder.
        path: PathBuf,
    },
    /// The process, or the machine, has no file descriptors or memory left for it.
    #[error("cannot {action} {} at the moment: free some and open again", path.display())]
    OutOfResources {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system refused an operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl OpenError {
    /// Classifies what the system said about `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        let path = path.to_path_buf();
        match source.kind() {
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem => {
                Self::ReadOnly { path, source }
            }
            io::ErrorKind::NotADirectory => Self::NotAFolder { path },
            _ if is_no_space(&source) => Self::NoSpace { path },
            _ if is_out_of_resources(&source) => Self::OutOfResources { action, path, source },
            _ => Self::Io { action, path, source },
        }
    }
}

/// Why a read gave no payload.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ReadError {
    /// The stored bytes fail their checksum: this one entry is damaged. The bytes are kept on disk.
    #[error("the stored bytes of {slot} fail their checksum")]
    Corrupt {
        /// Whose bytes.
        slot: Slot,
    },
    /// The system could not read. The entry may be sound: try again.
    #[error("cannot read segment {segment}")]
    Io {
        /// The segment.
        segment: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The log was shut down.
    #[error("the log is closed")]
    Closed,
}

/// Why a batch was not accepted. Nothing was written, in every case.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SubmitError {
    /// The byte budget is used up: wait with [`Log::admission`](crate::Log::admission).
    #[error("the write budget is used up")]
    Full,
    /// The log was shut down.
    #[error("the log is closed")]
    Closed,
    /// The gate is closed; the text says why and is safe to show to strangers.
    #[error("the log takes no writes: {0}")]
    Unhealthy(&'static str),
    /// The disk is full, or less of it is free than the options demand.
    #[error("no space is left for it: {0}")]
    NoSpace(&'static str),
    /// A payload is longer than the limit.
    #[error("payload is too large: limit_bytes={limit}")]
    TooLarge {
        /// The limit, inclusive.
        limit: u64,
    },
    /// The log holds as many entries as the options allow.
    #[error("the log is full: limit_entries={limit}")]
    TooManyEntries {
        /// The limit.
        limit: u64,
    },
    /// The log holds as many bytes as the options allow.
    #[error("the log is full: limit_bytes={limit}")]
    TooManyBytes {
        /// The limit.
        limit: u64,
    },
}

/// Why an accepted batch failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum WriteError {
    /// The disk is full. Nothing of the batch remains. Try again when there is room.
    #[error("no space left on the disk")]
    NoSpace,
    /// The log was shut down, or its committer is gone, before the batch was written.
    #[error("the log is closed")]
    Closed,
    /// An earlier write or sync failed, and this batch was not tried.
    #[error("the log takes no writes: {0}")]
    Unhealthy(&'static str),
    /// The committer died in the middle of this batch. It may be there after the next open.
    #[error("the log died while it wrote this")]
    Interrupted,
    /// The system lacked what has to be there before the write, such as a file descriptor for the
    /// next segment. Nothing of the batch was written. Try again later.
    #[error("cannot {action} segment {segment} at the moment")]
    OutOfResources {
        /// What was tried.
        action: &'static str,
        /// The segment.
        segment: u64,
        /// What the system said.
        source: io::Error,
    },
    /// The log was shut down, but batches that were given up could not be marked so, for want of room:
    /// the next open may show what they did.
    #[error(
        "the log is closed, but {batches} writes that were given up may take effect at the next \
         open, for there was no room to cancel them: look for them then"
    )]
    NotCancelled {
        /// How many.
        batches: usize,
        /// What the system said.
        source: io::Error,
    },
    /// The write or the sync of this batch failed. It may be there after the next open.
    #[error("cannot {action} segment {segment}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The segment.
        segment: u64,
        /// What the system said.
        source: io::Error,
    },
}

impl WriteError {
    /// What the failure means for the batch.
    pub fn effect(&self) -> Effect {
        match self {
            Self::NoSpace | Self::Closed | Self::Unhealthy(_) | Self::OutOfResources { .. } => {
                Effect::NotApplied
            }
            Self::Interrupted | Self::NotCancelled { .. } | Self::Io { .. } => Effect::Unknown,
        }
    }
}

/// Why a maintenance call failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The log was shut down.
    #[error("the log is closed")]
    Closed,
    /// An earlier write or sync failed: open the log again.
    #[error("the log takes no writes: {0}")]
    Unhealthy(&'static str),
    /// The disk is full. Nothing was lost.
    #[error("no space left on the disk")]
    NoSpace,
    /// The disk is full, and what is put by does not hold the live records of any segment that could be
    /// given back. Nothing was lost.
    #[error(
        "no room to copy the {live_bytes} live bytes of segment {segment}, which has the fewest: \
         free that much on the disk, or delete more, and compact again"
    )]
    NoRoomToCopy {
        /// The segment.
        segment: u64,
        /// What is live in it.
        live_bytes: u64,
    },
    /// The log is closed, but batches that were given up could not be marked so, for want of room:
    /// the next open may show what they did.
    #[error(
        "the log is closed, but {batches} writes that were given up may take effect at the next \
         open, for there was no room to cancel them: look for them then"
    )]
    NotCancelled {
        /// How many.
        batches: usize,
        /// What the system said.
        source: io::Error,
    },
    /// Segment files are missing, foreign or cut short.
    #[error("{} of {} segment files are damaged, first {first}", segments, total)]
    Structural {
        /// How many.
        segments: usize,
        /// Of how many.
        total: usize,
        /// The first of them, in words.
        first: String,
    },
    /// Live entries fail their checksums. Their bytes are kept where they are.
    #[error("{entries} entries fail their checksums, first in segment {segment}")]
    Corrupt {
        /// How many.
        entries: usize,
        /// Where the first one is.
        segment: u64,
    },
    /// The system refused an operation.
    #[error("cannot {action} {}", path.display())]
    Io {
        /// What was tried.
        action: &'static str,
        /// On what.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

impl Error {
    /// Classifies what the system said about `path`.
    pub(crate) fn io(action: &'static str, path: &Path, source: io::Error) -> Self {
        if is_no_space(&source) {
            Self::NoSpace
        } else {
            Self::Io { action, path: path.to_path_buf(), source }
        }
    }
}

/// The same once more, for another one who is told.
pub(crate) fn again(error: &io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Whether the system said that the disk, or the quota, is full.
pub(crate) fn is_no_space(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

/// Whether the system lacked file descriptors or memory: nothing was tried, and it passes.
pub(crate) fn is_out_of_resources(error: &io::Error) -> bool {
    use rustix::io::Errno;
    matches!(Errno::from_io_error(error), Some(Errno::MFILE | Errno::NFILE | Errno::NOMEM))
}

fn owner(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
