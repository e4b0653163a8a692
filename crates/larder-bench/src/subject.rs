//! The ways to keep payloads that are compared.

mod bare;
mod files;
#[cfg(feature = "fjall")]
mod fjall;
mod larder;
#[cfg(feature = "rocksdb")]
mod rocksdb;

use std::path::Path;
use std::pin::Pin;
use std::sync::Arc;

use ::larder::SpoolId;
use bytes::Bytes;

pub(crate) use self::bare::BareLog;
pub(crate) use self::larder::{Larder, RecycledLarder, SteadyLarder};
use crate::error::Result;
use crate::plan::Workload;

/// What an asynchronous call of a subject answers; every subject pays for the same box.
pub(crate) type Work<'a, T> = Pin<Box<dyn Future<Output = Result<T>> + Send + 'a>>;

/// Something that stores payloads durably, called by tasks on the workers of a runtime.
pub(crate) trait Sink: Send + Sync + 'static {
    /// Stores `data`; Ok means that it survives the loss of power.
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()>;

    /// Ends it and waits for its threads.
    fn close(&self) -> Work<'_, ()> {
        Box::pin(std::future::ready(Ok(())))
    }
}

/// A sink that gives back what it took.
pub(crate) trait Store: Sink {
    /// Stores many payloads fast, durable some time later.
    fn fill(&self, entries: Vec<(SpoolId, Bytes)>) -> Work<'_, ()>;

    /// Reads the payload of `id`, which is there, into memory of the caller's; answers its length.
    fn load(&self, id: SpoolId) -> Work<'_, usize>;

    /// Removes `id`; durable some time later.
    fn remove(&self, id: SpoolId) -> Work<'_, ()>;

    /// Reads everything; answers the entries and bytes that came.
    fn enumerate(&self) -> Work<'_, (u64, u64)>;
}

/// The subjects by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Kind {
    /// One thread that writes a batch of as many payloads as there are clients, and waits: no
    /// client, no channel, no store. The limit of the disk
    Raw,
    /// Group commit into a prewritten file, without index and checksums: the ceiling of a log
    Bare,
    /// The same into a file that grows
    BareGrowing,
    /// larder's spool with files to write over, as the bare log has one. What was stored is removed
    /// between two measurements
    Larder,
    /// larder's spool with its defaults, while entries are removed as fast as they come
    LarderSteady,
    /// larder's spool in a fresh folder, with nothing to use again
    LarderFresh,
    /// larder's blocking call, a thread for each client
    LarderBlocking,
    /// fjall, insert and persist for each store on the worker
    FjallEach,
    /// fjall behind a thread that commits in groups
    FjallGroup,
    /// The same, with payloads kept apart from the keys: it writes less when they are large
    FjallSeparated,
    /// RocksDB, a synced write batch for each store on the worker
    Rocksdb,
    /// A file for each payload: temporary file, fdatasync, rename
    Files,
}

impl Kind {
    /// Every subject that this build has.
    pub(crate) fn all() -> Vec<Self> {
        let mut all = vec![
            Self::Raw,
            Self::Bare,
            Self::BareGrowing,
            Self::Larder,
            Self::LarderSteady,
            Self::LarderFresh,
            Self::LarderBlocking,
        ];
        if cfg!(feature = "fjall") {
            all.extend([Self::FjallEach, Self::FjallGroup, Self::FjallSeparated]);
        }
        if cfg!(feature = "rocksdb") {
            all.push(Self::Rocksdb);
        }
        all.push(Self::Files);
        all
    }

    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Raw => "raw append, one thread",
            Self::Bare => "bare log, prewritten",
            Self::BareGrowing => "bare log, growing",
            Self::Larder => "larder",
            Self::LarderSteady => "larder, store and remove",
            Self::LarderFresh => "larder, fresh folder",
            Self::LarderBlocking => "larder, blocking",
            Self::FjallEach => "fjall, persist each",
            Self::FjallGroup => "fjall, group thread",
            Self::FjallSeparated => "fjall, group thread, separated",
            Self::Rocksdb => "rocksdb",
            Self::Files => "file per payload",
        }
    }

    /// Whether `workload` has a place for it.
    pub(crate) fn takes_part(self, workload: Workload) -> bool {
        match workload {
            Workload::Store => self != Self::FjallSeparated,
            Workload::Load | Workload::Enumerate => {
                matches!(self, Self::Larder | Self::FjallGroup | Self::Rocksdb | Self::Files)
            }
            Workload::Queue => matches!(
                self,
                Self::Larder
                    | Self::FjallGroup
                    | Self::FjallSeparated
                    | Self::Rocksdb
                    | Self::Files
            ),
            Workload::Open | Workload::Memory | Workload::Calm => self == Self::Larder,
            Workload::Hit
            | Workload::Ratio
            | Workload::Far
            | Workload::Stampede
            | Workload::Outage
            | Workload::Swap
            | Workload::Head => false,
        }
    }

    /// Opens a fresh one in `folder`; `None` for those that are no sink.
    pub(crate) fn sink(self, folder: &Path) -> Result<Option<Arc<dyn Sink>>> {
        Ok(Some(match self {
            Self::BareGrowing => Arc::new(BareLog::growing(folder)?),
            Self::LarderFresh => Arc::new(Larder::open(folder)?),
            Self::Files => Arc::new(files::Files::open(folder)?),
            #[cfg(feature = "fjall")]
            Self::FjallEach => Arc::new(fjall::Fjall::open(folder)?),
            #[cfg(feature = "fjall")]
            Self::FjallGroup => Arc::new(fjall::FjallGroup::open(folder)?),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Arc::new(rocksdb::Rocks::open(folder)?),
            _ => return Ok(None),
        }))
    }

    /// Opens a fresh one in `folder`; `None` for those that do not give back what they took.
    pub(crate) fn store(self, folder: &Path) -> Result<Option<Arc<dyn Store>>> {
        Ok(Some(match self {
            Self::Larder => Arc::new(Larder::open(folder)?),
            Self::Files => Arc::new(files::Files::open(folder)?),
            #[cfg(feature = "fjall")]
            Self::FjallGroup => Arc::new(fjall::FjallGroup::open(folder)?),
            #[cfg(feature = "fjall")]
            Self::FjallSeparated => Arc::new(fjall::FjallGroup::open_separated(folder)?),
            #[cfg(feature = "rocksdb")]
            Self::Rocksdb => Arc::new(rocksdb::Rocks::open(folder)?),
            _ => return Ok(None),
        }))
    }
}

/// Runs what blocks on a thread that may.
async fn blocking<T: Send + 'static>(
    run: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(run).await?
}
