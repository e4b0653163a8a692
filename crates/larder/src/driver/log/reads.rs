//! Reading without blocking a worker of the runtime.

use std::io;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use larder_log::{Log, Now, ReadError, Slot};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Reads that may wait for the disk at the same time: enough to keep one busy, and a small part of
/// the runtime's blocking threads.
const READS_MAX: usize = 64;
/// Into how many reads at a time the cold part of many is divided.
const LANES: usize = 8;
/// After so many reads in a row the other tasks of the worker get a turn: 50 microseconds or so.
const TURN: usize = 32;

/// What a slot holds.
pub(crate) type Read = Result<Option<Bytes>, ReadError>;

/// Bounds how many reads wait for the disk at once.
#[derive(Clone, Debug)]
pub(crate) struct Reads(Arc<Semaphore>);

impl Default for Reads {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READS_MAX)))
    }
}

impl Reads {
    /// What `slot` holds: at once where that needs no waiting, else on a thread that may wait.
    pub(crate) async fn get(&self, log: &Log, slot: Slot) -> Read {
        match Self::now(log, slot) {
            Some(read) => read,
            None => self.wait(log, vec![slot]).await.pop().unwrap_or(Ok(None)),
        }
    }

    /// [`Self::get`] for many, in their order.
    pub(crate) async fn get_many(&self, log: &Log, slots: &[Slot]) -> Vec<Read> {
        let mut reads = Vec::with_capacity(slots.len());
        for (n, slot) in slots.iter().enumerate() {
            if n % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            reads.push(Self::now(log, *slot));
        }
        let cold = slots.iter().zip(&reads).filter(|(_, read)| read.is_none());
        let cold: Vec<Slot> = cold.map(|(slot, _)| *slot).collect();
        let lanes = cold.chunks(cold.len().div_ceil(LANES).max(1));
        let waited = join_all(lanes.map(|lane| self.wait(log, lane.to_vec()))).await;
        let mut waited = waited.into_iter().flatten();
        reads.into_iter().map(|now| now.or_else(|| waited.next()).unwrap_or(Ok(None))).collect()
    }

    /// What needs no waiting.
    pub(crate) fn now(log: &Log, slot: Slot) -> Option<Read> {
        match log.get_now(slot) {
            Ok(Now::WouldBlock) => None,
            Ok(Now::Ready(payload)) => Some(Ok(payload)),
            Err(error) => Some(Err(error)),
        }
    }

    /// Reads on a thread that may wait; one answer for each slot.
    async fn wait(&self, log: &Log, slots: Vec<Slot>) -> Vec<Read> {
        let Ok(permit) = Arc::clone(&self.0).acquire_owned().await else {
            return slots.iter().map(|_| Err(ReadError::Closed)).collect();
        };
        let (log, all) = (log.clone(), slots.clone());
        match tokio::task::spawn_blocking(move || read_all(&log, &all, permit)).await {
            Ok(reads) => reads,
            Err(panicked) => {
                let what = panicked.to_string();
                let failed =
                    || ReadError::Io { segment: 0, source: io::Error::other(what.clone()) };
                slots.iter().map(|_| Err(failed())).collect()
            }
        }
    }
}

/// Holds the permit until the reads have ended, whether anybody still waits for them or not.
fn read_all(log: &Log, slots: &[Slot], _permit: OwnedSemaphorePermit) -> Vec<Read> {
    slots.iter().map(|slot| log.get(*slot)).collect()
}
