//! larder's spool over the embedded engine, with its defaults.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use larder::spool::{LogSpool, LogSpoolOptions};
use larder::{Clock, Spool, SpoolEntry, SpoolId, SystemClock};
use larder_log::{Batch, Durability, Log, LogOptions, Outcome, Slot};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::{Sink, Store, Work};
use crate::error::Result;
use crate::payload::Source;

/// What the spool calls its records in the engine.
const SPOOL: u16 = 1;
/// Entries on their way through a channel.
const CHANNEL: usize = 1024;
/// Entries, or bytes of them, that are removed with one call.
const REMOVED_AT_ONCE: usize = 512;
const REMOVED_BYTES: usize = 4 << 20;

/// The spool as it is opened, and the engine below it.
#[derive(Clone)]
pub(crate) struct Larder {
    pub(crate) spool: LogSpool,
    pub(crate) log: Log,
}

impl Larder {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, LogOptions::default())
    }

    pub(crate) fn open_with(folder: &Path, options: LogOptions) -> Result<Self> {
        let log = Log::open(folder, options)?;
        let spool = LogSpool::with_log(log.clone(), LogSpoolOptions::default().store_deadline);
        Ok(Self { spool, log })
    }
}

impl Sink for Larder {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        Box::pin(async move { Ok(self.spool.store(id, data, true, None).await?) })
    }

    fn close(&self) -> Work<'_, ()> {
        Box::pin(async { Ok(self.spool.shutdown().await?) })
    }
}

impl Store for Larder {
    fn fill(&self, entries: Vec<(SpoolId, Bytes)>) -> Work<'_, ()> {
        Box::pin(async move { Ok(self.spool.store_many(entries, false, None).await?) })
    }

    fn load(&self, id: SpoolId) -> Work<'_, usize> {
        Box::pin(async move { Ok(self.spool.load(id).await?.len()) })
    }

    fn remove(&self, id: SpoolId) -> Work<'_, ()> {
        Box::pin(async move { Ok(self.spool.remove(id).await?) })
    }

    fn enumerate(&self) -> Work<'_, (u64, u64)> {
        Box::pin(async {
            let (sender, mut receiver) = larder::channel::channel(CHANNEL);
            let handle = self.spool.enumerate(sender, SystemClock.now())?;
            let (mut entries, mut bytes) = (0, 0);
            while let Some(entry) = receiver.recv().await {
                match entry {
                    SpoolEntry::Item { data, .. } => bytes += data.len() as u64,
                    SpoolEntry::Corrupt { error, .. } => return Err(error.into()),
                }
                entries += 1;
            }
            handle.await?;
            Ok((entries, bytes))
        })
    }
}

/// A spool that entries leave as fast as they come, so that the engine finds dead segments to write
/// over: what it holds stays at a bound.
///
/// A task of its own removes the oldest entries, many with one call. Their processor time and bytes
/// are counted as part of the stores; peers are spared this.
pub(crate) struct SteadyLarder {
    larder: Larder,
    stored: Mutex<Option<UnboundedSender<(SpoolId, usize)>>>,
    remover: Mutex<Option<JoinHandle<Result<()>>>>,
}

impl SteadyLarder {
    /// Opens a spool in `folder` that keeps about `live` bytes, and turns it over twice.
    pub(crate) async fn open(folder: &Path, live: u64, mut source: Source) -> Result<Self> {
        let larder = Larder::open(folder)?;
        let (stored, removable) = unbounded_channel();
        let remover = tokio::spawn(remove_oldest(larder.clone(), removable, live));
        let steady =
            Self { larder, stored: Mutex::new(Some(stored)), remover: Mutex::new(Some(remover)) };
        let mut bytes = 0;
        while bytes < 3 * live {
            let entries: Vec<_> = (0..64).map(|_| (source.id(), source.payload())).collect();
            let sizes: Vec<_> = entries.iter().map(|(id, data)| (*id, data.len())).collect();
            steady.larder.fill(entries).await?;
            for (id, size) in sizes {
                bytes += size as u64;
                steady.tell(id, size);
            }
        }
        Ok(steady)
    }

    /// Stores on this thread, which waits for the disk itself.
    pub(crate) fn store_blocking(&self, id: SpoolId, data: Bytes) -> Result<()> {
        let size = data.len();
        let mut batch = Batch::new();
        batch.put(Slot { namespace: SPOOL, id: *id.as_bytes() }, data);
        match self.larder.log.submit(batch, Durability::Power)?.wait(None) {
            Some(Outcome::Done { .. }) => self.tell(id, size),
            other => return Err(format!("a blocking store ended as {other:?}").into()),
        }
        Ok(())
    }

    fn tell(&self, id: SpoolId, size: usize) {
        if let Some(stored) = &*self.stored.lock().unwrap_or_else(PoisonError::into_inner) {
            // A remover that failed tells it at the end.
            let _ = stored.send((id, size));
        }
    }
}

async fn remove_oldest(
    larder: Larder,
    mut stored: UnboundedReceiver<(SpoolId, usize)>,
    live: u64,
) -> Result<()> {
    let (mut entries, mut bytes) = (VecDeque::new(), 0);
    let (mut gone, mut gone_bytes) = (Vec::new(), 0);
    while let Some((id, size)) = stored.recv().await {
        entries.push_back((id, size));
        bytes += size as u64;
        while bytes > live
            && let Some((id, size)) = entries.pop_front()
        {
            bytes -= size as u64;
            gone.push(id);
            gone_bytes += size;
        }
        if gone.len() >= REMOVED_AT_ONCE || gone_bytes >= REMOVED_BYTES {
            larder.spool.remove_many(std::mem::take(&mut gone), false).await?;
            gone_bytes = 0;
        }
    }
    Ok(())
}

impl Sink for SteadyLarder {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        Box::pin(async move {
            let size = data.len();
            self.larder.spool.store(id, data, true, None).await?;
            self.tell(id, size);
            Ok(())
        })
    }

    fn close(&self) -> Work<'_, ()> {
        Box::pin(async {
            self.stored.lock().unwrap_or_else(PoisonError::into_inner).take();
            let remover = self.remover.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(remover) = remover {
                remover.await??;
            }
            self.larder.close().await
        })
    }
}
