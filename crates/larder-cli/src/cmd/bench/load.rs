//! What one worker of a benchmark repeats.

use std::collections::VecDeque;

use bytes::Bytes;
use larder::clock::random_u64;
use larder::{
    CaSResult, CacheValue, Condition, Consensus, Key, SeqNo, SharedConsensus, SharedSpool,
    SharedTier, Spool, SpoolId, SystemClock, Tier, VersionedData,
};

use crate::args::{BenchArgs, ContractName, Operation};
use crate::exit::Exit;
use crate::stores;

/// Entries that are there before reads are measured.
const READABLE: usize = 4_096;
/// Entries that a worker of a queue keeps before it removes the oldest.
const QUEUE_DEPTH: usize = 16;
/// Keys of a cache that writes go to.
const CACHE_KEYS: u64 = 16_384;

/// An open store with what its workers need.
#[derive(Clone, Debug)]
pub(crate) enum Load {
    Spool { spool: SharedSpool, operation: Operation, ids: Vec<SpoolId>, sync: bool },
    Consensus { store: SharedConsensus, operation: Operation },
    Cache { tier: SharedTier<Bytes>, operation: Operation },
}

/// The state of one worker.
#[derive(Debug)]
pub(crate) struct Worker {
    load: Load,
    payload: Bytes,
    key: String,
    head: Option<SeqNo>,
    stored: VecDeque<SpoolId>,
}

impl Load {
    /// Opens the store at `uri` and fills it as far as the operation needs it.
    pub(crate) async fn open(uri: &str, args: &BenchArgs, payload: &Bytes) -> Result<Self, Exit> {
        let operation = args.operation()?;
        match args.contract {
            ContractName::Spool => {
                let spool = stores::open_spool(uri).await?;
                let mut ids = Vec::new();
                if operation == Operation::Load {
                    for _ in 0..READABLE {
                        let id = SpoolId::new(&SystemClock);
                        spool.store(id, payload.clone(), false, None).await?;
                        ids.push(id);
                    }
                }
                Ok(Self::Spool { spool, operation, ids, sync: !args.no_sync })
            }
            ContractName::Consensus => {
                let store = stores::open_consensus(uri).await?;
                if operation == Operation::Head {
                    let version = VersionedData { seqno: SeqNo::MIN, data: payload.clone() };
                    store.compare_and_set("head", None, version).await?;
                }
                Ok(Self::Consensus { store, operation })
            }
            ContractName::Cache => {
                let tier = stores::open_cache(uri).await?;
                if operation == Operation::Get {
                    for number in 0..CACHE_KEYS {
                        let key = Key::new(number.to_string())?;
                        let value = CacheValue::new(payload.clone());
                        tier.write(key.as_ref(), value, Condition::Always).await?;
                    }
                }
                Ok(Self::Cache { tier, operation })
            }
        }
    }

    pub(crate) fn worker(&self, number: usize, payload: &Bytes) -> Worker {
        Worker {
            load: self.clone(),
            payload: payload.clone(),
            key: format!("worker-{number}"),
            head: None,
            stored: VecDeque::new(),
        }
    }

    /// Closes the store.
    pub(crate) async fn close(self) -> Result<(), Exit> {
        match self {
            Self::Spool { spool, .. } => Ok(spool.shutdown().await?),
            Self::Consensus { .. } | Self::Cache { .. } => Ok(()),
        }
    }
}

impl Worker {
    /// Does the operation once.
    pub(crate) async fn step(&mut self) -> Result<(), Exit> {
        match &self.load {
            Load::Spool { spool, operation: Operation::Load, ids, .. } => {
                let Some(id) = ids.get(below(ids.len())) else { return Ok(()) };
                spool.load(*id).await?;
            }
            Load::Spool { spool, operation, sync, .. } => {
                let id = SpoolId::new(&SystemClock);
                spool.store(id, self.payload.clone(), *sync, None).await?;
                if *operation == Operation::Queue {
                    self.stored.push_back(id);
                    if self.stored.len() > QUEUE_DEPTH
                        && let Some(oldest) = self.stored.pop_front()
                    {
                        spool.remove(oldest).await?;
                    }
                }
            }
            Load::Consensus { store, operation: Operation::Head } => {
                store.head("head").await?;
            }
            Load::Consensus { store, .. } => {
                let seqno = self.head.and_then(SeqNo::next).unwrap_or(SeqNo::MIN);
                let new = VersionedData { seqno, data: self.payload.clone() };
                match store.compare_and_set(&self.key, self.head, new).await? {
                    CaSResult::Committed => self.head = Some(seqno),
                    CaSResult::ExpectationMismatch { current } => {
                        self.head = current;
                        return Err(Exit::failed("a compare-and-set on a key of its own lost"));
                    }
                }
            }
            Load::Cache { tier, operation } => {
                let key = Key::new((random_u64() % CACHE_KEYS).to_string())?;
                if *operation == Operation::Get {
                    tier.read(key.as_ref()).await?;
                } else {
                    let value = CacheValue::new(self.payload.clone());
                    tier.write(key.as_ref(), value, Condition::Always).await?;
                }
            }
        }
        Ok(())
    }
}

fn below(len: usize) -> usize {
    let len = u64::try_from(len).unwrap_or(u64::MAX).max(1);
    usize::try_from(random_u64() % len).unwrap_or_default()
}
