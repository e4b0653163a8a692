//! Loading without blocking a worker of the runtime.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use larder_core::{SpoolError, SpoolId};
use larder_log::{Log, Now, ReadError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::{slot, unreadable};
use crate::driver::log as driver;

/// Reads that may wait for the disk at the same time: enough to keep one busy, and a small part of
/// the runtime's blocking threads.
const READS_MAX: usize = 64;
/// Into how many reads at a time the cold part of a `load_many` is divided.
const LANES: usize = 8;
/// After so many loads in a row the other tasks of the worker get a turn: 50 microseconds or so.
const TURN: usize = 32;

type Loaded = Result<Bytes, SpoolError>;

/// Bounds how many reads wait for the disk at once.
#[derive(Clone, Debug)]
pub(super) struct Pool(Arc<Semaphore>);

impl Default for Pool {
    fn default() -> Self {
        Self(Arc::new(Semaphore::new(READS_MAX)))
    }
}

impl Pool {
    pub(super) async fn load(&self, log: &Log, id: SpoolId) -> Loaded {
        if let Some(loaded) = load_now(log, id) {
            return loaded;
        }
        let loaded = self.read(log, vec![id]).await;
        loaded.into_iter().next().unwrap_or(Err(SpoolError::NotFound { id }))
    }

    pub(super) async fn load_many(&self, log: &Log, ids: &[SpoolId]) -> Vec<Loaded> {
        let mut loaded = Vec::with_capacity(ids.len());
        for (n, id) in ids.iter().enumerate() {
            if n % TURN == TURN - 1 {
                tokio::task::yield_now().await;
            }
            loaded.push(load_now(log, *id));
        }
        let cold = ids.iter().zip(&loaded).filter(|(_, loaded)| loaded.is_none());
        let cold: Vec<SpoolId> = cold.map(|(id, _)| *id).collect();
        let lanes = cold.chunks(cold.len().div_ceil(LANES).max(1));
        let read = join_all(lanes.map(|lane| self.read(log, lane.to_vec()))).await;
        let mut read = read.into_iter().flatten();
        let pairs = loaded.into_iter().zip(ids);
        pairs
            .map(|(now, id)| {
                now.or_else(|| read.next()).unwrap_or(Err(SpoolError::NotFound { id: *id }))
            })
            .collect()
    }

    /// Reads on a thread that may wait; one answer for each id.
    async fn read(&self, log: &Log, ids: Vec<SpoolId>) -> Vec<Loaded> {
        let Ok(permit) = Arc::clone(&self.0).acquire_owned().await else {
            return ids.iter().map(|_| Err(super::shut_down())).collect();
        };
        let (log, all) = (log.clone(), ids.clone());
        let read = move || read_all(&log, &all, permit);
        match tokio::task::spawn_blocking(read).await {
            Ok(loaded) => loaded,
            Err(panicked) => {
                let what = panicked.to_string();
                let failed = || driver::harmless("load", std::io::Error::other(what.clone()));
                ids.iter().map(|_| Err(failed().into())).collect()
            }
        }
    }
}

/// Holds the permit until the reads have ended, whether anybody still waits for them or not.
fn read_all(log: &Log, ids: &[SpoolId], _permit: OwnedSemaphorePermit) -> Vec<Loaded> {
    ids.iter().map(|id| answer(*id, log.get(slot(*id)))).collect()
}

/// What needs no waiting.
fn load_now(log: &Log, id: SpoolId) -> Option<Loaded> {
    match log.get_now(slot(id)) {
        Ok(Now::WouldBlock) => None,
        Ok(Now::Ready(payload)) => Some(answer(id, Ok(payload))),
        Err(error) => Some(answer(id, Err(error))),
    }
}

fn answer(id: SpoolId, read: Result<Option<Bytes>, ReadError>) -> Loaded {
    match read {
        Ok(Some(payload)) => Ok(payload),
        Ok(None) => Err(SpoolError::NotFound { id }),
        Err(error) => Err(unreadable("load", Some(id), error)),
    }
}
