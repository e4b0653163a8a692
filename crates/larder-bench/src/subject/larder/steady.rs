//! larder's spool in steady state.

use std::collections::VecDeque;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use bytes::Bytes;
use larder::{Spool, SpoolId};
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;

use super::Larder;
use crate::error::Result;
use crate::payload::Source;
use crate::subject::{Sink, Store, Work};

/// Entries that are worth a call that removes them.
const REMOVED_AT_ONCE: usize = 512;
/// Bytes of them that are.
const REMOVED_BYTES: usize = 4 << 20;

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
    let mut arrived = Vec::new();
    while stored.recv_many(&mut arrived, 8 * REMOVED_AT_ONCE).await > 0 {
        for (id, size) in arrived.drain(..) {
            entries.push_back((id, size));
            bytes += size as u64;
        }
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
