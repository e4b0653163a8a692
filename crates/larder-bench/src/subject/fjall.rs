//! fjall, with and without a thread that commits in groups.

use std::path::Path;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Mutex, PoisonError};
use std::thread::JoinHandle;

use bytes::Bytes;
use fjall::config::CompressionPolicy;
use fjall::{
    CompressionType, Database, Keyspace, KeyspaceCreateOptions, KvSeparationOptions, PersistMode,
};
use larder::SpoolId;
use tokio::sync::oneshot;

use super::{Sink, Store, Work, blocking};
use crate::error::Result;

/// Block cache: all that is loaded fits, as its manual recommends where it can.
const CACHE_BYTES: u64 = 1 << 30;

/// A store is an insert and a persist, both on the caller's thread.
///
/// Its defaults, but for: no compression (there is nothing to compress in the payloads), and a cache
/// that holds the data.
#[derive(Clone)]
pub(crate) struct Fjall {
    database: Database,
    keyspace: Keyspace,
}

impl Fjall {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Self::open_with(folder, None)
    }

    fn open_with(folder: &Path, separation: Option<KvSeparationOptions>) -> Result<Self> {
        let database = Database::builder(folder)
            .cache_size(CACHE_BYTES)
            .journal_compression(CompressionType::None)
            .open()?;
        let keyspace = database.keyspace("spool", || {
            KeyspaceCreateOptions::default()
                .data_block_compression_policy(CompressionPolicy::disabled())
                .with_kv_separation(separation)
        })?;
        Ok(Self { database, keyspace })
    }

    fn commit(&self, entries: Vec<(SpoolId, Bytes)>, durable: bool) -> Result<()> {
        let mut batch = self.database.batch().durability(durable.then_some(PersistMode::SyncData));
        for (id, data) in entries {
            batch.insert(&self.keyspace, id.as_bytes(), &data[..]);
        }
        Ok(batch.commit()?)
    }

    fn read_all(&self) -> Result<(u64, u64)> {
        let (mut entries, mut bytes) = (0, 0);
        for item in self.keyspace.iter() {
            let (_, value) = item.into_inner()?;
            entries += 1;
            bytes += value.len() as u64;
        }
        Ok((entries, bytes))
    }
}

impl Sink for Fjall {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        Box::pin(async move {
            self.keyspace.insert(id.as_bytes(), &data[..])?;
            Ok(self.database.persist(PersistMode::SyncData)?)
        })
    }
}

impl Store for Fjall {
    fn fill(&self, entries: Vec<(SpoolId, Bytes)>) -> Work<'_, ()> {
        let fjall = self.clone();
        Box::pin(blocking(move || fjall.commit(entries, false)))
    }

    fn load(&self, id: SpoolId) -> Work<'_, usize> {
        Box::pin(async move {
            let value = self.keyspace.get(id.as_bytes())?;
            Ok(value.ok_or("an entry is missing")?.len())
        })
    }

    fn remove(&self, id: SpoolId) -> Work<'_, ()> {
        Box::pin(async move { Ok(self.keyspace.remove(id.as_bytes())?) })
    }

    fn enumerate(&self) -> Work<'_, (u64, u64)> {
        let fjall = self.clone();
        Box::pin(blocking(move || fjall.read_all()))
    }
}

/// The same behind a thread: what arrived during the last commit is the next one, with one persist.
pub(crate) struct FjallGroup {
    fjall: Fjall,
    queue: Mutex<Option<Sender<Request>>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

type Request = (SpoolId, Bytes, oneshot::Sender<Result<()>>);

impl FjallGroup {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Ok(Self::new(Fjall::open(folder)?))
    }

    /// One that keeps payloads apart from the keys, which writes less when they are large.
    pub(crate) fn open_separated(folder: &Path) -> Result<Self> {
        let separation = KvSeparationOptions::default().compression(CompressionType::None);
        Ok(Self::new(Fjall::open_with(folder, Some(separation))?))
    }

    fn new(fjall: Fjall) -> Self {
        let (queue, requests) = channel();
        let committing = fjall.clone();
        let thread = std::thread::spawn(move || commit(&requests, &committing));
        Self { fjall, queue: Mutex::new(Some(queue)), thread: Mutex::new(Some(thread)) }
    }
}

fn commit(requests: &Receiver<Request>, fjall: &Fjall) {
    while let Ok(first) = requests.recv() {
        let (mut entries, mut answers) = (Vec::new(), Vec::new());
        for (id, data, answer) in std::iter::once(first).chain(requests.try_iter()) {
            entries.push((id, data));
            answers.push(answer);
        }
        let done = fjall.commit(entries, true).map_err(|error| error.to_string());
        for answer in answers {
            // Somebody who stopped waiting needs no answer.
            let _ = answer.send(done.clone().map_err(Into::into));
        }
    }
}

impl Sink for FjallGroup {
    fn store(&self, id: SpoolId, data: Bytes) -> Work<'_, ()> {
        Box::pin(async move {
            let (answer, answered) = oneshot::channel();
            if let Some(queue) = &*self.queue.lock().unwrap_or_else(PoisonError::into_inner) {
                queue.send((id, data, answer)).map_err(|_| "the committing thread is gone")?;
            }
            answered.await?
        })
    }

    fn close(&self) -> Work<'_, ()> {
        Box::pin(async {
            self.queue.lock().unwrap_or_else(PoisonError::into_inner).take();
            let thread = self.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
            match thread.map(JoinHandle::join) {
                Some(Err(_)) => Err("the committing thread panicked".into()),
                _ => Ok(()),
            }
        })
    }
}

impl Store for FjallGroup {
    fn fill(&self, entries: Vec<(SpoolId, Bytes)>) -> Work<'_, ()> {
        self.fjall.fill(entries)
    }

    fn load(&self, id: SpoolId) -> Work<'_, usize> {
        self.fjall.load(id)
    }

    fn remove(&self, id: SpoolId) -> Work<'_, ()> {
        self.fjall.remove(id)
    }

    fn enumerate(&self) -> Work<'_, (u64, u64)> {
        self.fjall.enumerate()
    }
}
