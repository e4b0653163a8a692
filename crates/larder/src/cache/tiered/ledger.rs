//! What layers owe, in a spool.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use larder_core::channel::channel;
use larder_core::error::chain;
use larder_core::{
    Clock as _, Effect, EnumerateAborted, Failure, Key, KeyError, Retry, SharedSpool, Spool as _,
    SpoolEntry, SpoolError, SpoolId, SystemClock, Timestamp,
};
use metrics::{Gauge, gauge};
use tokio::runtime::Handle;
use tokio::sync::Mutex as Turns;
use tokio::time::timeout;

mod record;

pub(super) use record::{Owes, Record};
use record::{Unreadable, parse};

use crate::compose::CompositionLayer;

/// How long the spool may take for what a call has to write down, waiting for others included.
const WRITE_LIMIT: Duration = Duration::from_secs(2);
/// How many entries of the spool wait to be read.
const READ_AHEAD: usize = 256;

/// What the layers of a [`Tiered`](super::Tiered) cache owe, in a spool, so that it outlives the process.
///
/// A cache in memory forgets with its process what a far tier has missed: a value that was removed while
/// that tier was away comes back when the process starts again. With a ledger it does not. Give it to
/// [`TieredBuilder::debts`](super::TieredBuilder::debts) of one composite; several may have one spool
/// in common, each under a name of its own.
///
/// # Guarantees
/// - When a write or remove returns, what a layer has missed of it is as durable as a store of the spool
///   with `force_sync`. If the spool does not take it, the call succeeds or fails as without a ledger; the
///   debt stays in memory and is written down as soon as possible, which `larder_cache_unwritten_debts`
///   (labels `composition`, `layer`) and a warning tell.
/// - A call waits for the spool for two seconds at most, for both layers together and with everybody
///   who waits before it; of tiers in tiers, each composite that has missed something takes as long.
///   (Outside a tokio runtime nobody tells the time, and the limits of the spool alone count.)
/// - One entry for each key and layer that owes, the newest; at most one more than 16,384 for each layer.
/// - An entry that cannot be read may be of any key: the layers count as empty until they were cleared.
///
/// # Cost
/// Nothing as long as nothing is owed. While a layer is away, a durable store of the spool for each
/// write and remove.
///
/// ```
/// use larder::cache::{DebtLedger, MemoryCache, Tiered};
/// use bytes::Bytes;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // In a service: "log:./data/debts".
/// let spool = larder::open_spool("memory:").await?;
/// let ledger = DebtLedger::open(spool, "products").await?;
/// let near: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).build();
/// # let far: MemoryCache<Bytes> = MemoryCache::builder(64 << 20).build();
/// let tier = Tiered::builder(near, far).debts(ledger).build();
/// assert_eq!(tier.debts()[1].owed, 0);
/// # Ok(()) }
/// ```
pub struct DebtLedger {
    spool: SharedSpool,
    name: Key,
    found: Vec<(SpoolId, Record)>,
}

/// Why a [`DebtLedger`] could not be opened. Nothing in the spool was changed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LedgerError {
    /// The name is no key. Effect `NotApplied`, retry `Never`.
    #[error("the name of the ledger does not fit")]
    Name(#[from] KeyError),
    /// The spool has what no ledger wrote. Effect `NotApplied`, retry `Never`.
    #[error(
        "the spool holds other things than debts, such as {id}: give the ledger a spool of its own"
    )]
    Foreign {
        /// One of them.
        id: SpoolId,
    },
    /// The spool could not be read to its end. Effect `NotApplied`.
    #[error("the spool of the ledger could not be read")]
    Aborted(#[from] EnumerateAborted),
    /// The spool could not be asked, or did not take what has to be in it. As the error says.
    #[error(transparent)]
    Spool(#[from] SpoolError),
}

impl Failure for LedgerError {
    fn effect(&self) -> Effect {
        match self {
            Self::Name(_) | Self::Foreign { .. } | Self::Aborted(_) => Effect::NotApplied,
            Self::Spool(error) => error.effect(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Name(_) | Self::Foreign { .. } => Retry::Never,
            Self::Aborted(error) => error.cause.as_ref().map_or(Retry::Later, Failure::retry),
            Self::Spool(error) => error.retry(),
        }
    }
}

impl DebtLedger {
    /// Reads what is owed under `name` in `spool`.
    ///
    /// # Errors
    /// [`LedgerError`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn open(spool: SharedSpool, name: impl AsRef<str>) -> Result<Self, LedgerError> {
        let name = Key::new(name.as_ref())?;
        let (sender, mut entries) = channel(READ_AHEAD);
        let handle = spool.enumerate(sender, Timestamp::MAX)?;
        let (mut found, mut unreadable) = (Vec::new(), Vec::new());
        while let Some(entry) = entries.recv().await {
            match entry {
                SpoolEntry::Item { id, data } => match parse(&data) {
                    Ok((of, record)) if of == name => found.push((id, record)),
                    Ok(_) => {}
                    Err(Unreadable::Foreign) => return Err(LedgerError::Foreign { id }),
                    Err(Unreadable::Damaged) => unreadable.push(Some(id)),
                },
                SpoolEntry::Corrupt { id, .. } => unreadable.push(id),
            }
        }
        handle.await?;
        let mut ledger = Self { spool, name, found };
        if !unreadable.is_empty() {
            ledger.distrust(unreadable).await?;
        }
        Ok(ledger)
    }

    /// Whose debts were lost nobody knows, so both layers owe everything.
    async fn distrust(&mut self, unreadable: Vec<Option<SpoolId>>) -> Result<(), SpoolError> {
        tracing::warn!(
            target: "larder::cache", ledger = self.name.as_str(), entries = unreadable.len(),
            "debts cannot be read: the tiers that may owe them will be cleared"
        );
        let mut entries = Vec::new();
        for layer in [CompositionLayer::L1, CompositionLayer::L2] {
            let record = Record { layer, key: None, owes: Owes::EVERYTHING };
            let id = SpoolId::new(&SystemClock);
            entries.push((id, record.encode(&self.name)));
            self.found.push((id, record));
        }
        self.spool.store_many(entries, true, None).await?;
        self.spool.remove_many(unreadable.into_iter().flatten().collect(), true).await
    }

    /// The part of one layer, and what it owes.
    pub(super) fn of(
        &self,
        layer: CompositionLayer,
        composition: &str,
    ) -> (Ledger, Vec<(Option<Key>, Owes)>) {
        let (mut entries, mut owed, mut twice) = (HashMap::new(), Vec::new(), HashSet::new());
        for (id, record) in self.found.iter().filter(|(_, record)| record.layer == layer) {
            owed.push((record.key.clone(), record.owes));
            let ids: &mut Vec<SpoolId> = entries.entry(record.key.clone()).or_default();
            ids.push(*id);
            if ids.len() > 1 {
                // Written anew as one.
                twice.insert(record.key.clone());
            }
        }
        let ledger = Ledger {
            spool: self.spool.clone(),
            name: self.name.clone(),
            layer,
            entries: Turns::new(entries),
            touched: Mutex::new(Touched { keys: twice, taken: 0 }),
            unwritten: gauge!(
                "larder_cache_unwritten_debts",
                "composition" => composition.to_owned(), "layer" => layer.as_str()
            ),
        };
        (ledger, owed)
    }
}

impl fmt::Debug for DebtLedger {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DebtLedger")
            .field("spool", &self.spool)
            .field("name", &self.name.as_str())
            .finish_non_exhaustive()
    }
}

/// The debts of one layer in the spool. `None` in place of a key is the layer as a whole.
#[derive(Debug)]
pub(super) struct Ledger {
    spool: SharedSpool,
    name: Key,
    layer: CompositionLayer,
    /// Where each debt is. Held while entries are written, so that they are written in order.
    entries: Turns<HashMap<Option<Key>, Vec<SpoolId>>>,
    touched: Mutex<Touched>,
    unwritten: Gauge,
}

/// What has changed since it was written.
#[derive(Debug, Default)]
struct Touched {
    keys: HashSet<Option<Key>>,
    /// How many more are being written.
    taken: usize,
}

impl Ledger {
    /// Notes that what is owed of `key` has changed.
    pub(super) fn touch(&self, key: Option<Key>) {
        self.touched().keys.insert(key);
    }

    /// How many changes of what is owed are not written down yet.
    pub(super) fn unwritten(&self) -> u64 {
        let touched = self.touched();
        u64::try_from(touched.keys.len() + touched.taken).unwrap_or(u64::MAX)
    }

    /// Writes down what has changed, as `owes` says now. Whoever calls it after a change waits for others
    /// who are at it, so when it returns that change is written, if the spool takes it in time.
    pub(super) async fn write(&self, owes: impl Fn(Option<&Key>) -> Option<Owes>) {
        // With nothing to write there may still be somebody who is writing it.
        if self.touched().keys.is_empty() && self.entries.try_lock().is_ok() {
            return;
        }
        let Err(error) = limited(self.write_touched(owes)).await else { return };
        self.unwritten.set(f64::from(u32::try_from(self.unwritten()).unwrap_or(u32::MAX)));
        let (ledger, layer) = (self.name.as_str(), self.layer.as_str());
        tracing::warn!(
            target: "larder::cache", ledger, layer, error,
            "what a tier owes is not written down yet"
        );
    }

    /// Dropped half-way, what is not written is left to the next one.
    async fn write_touched(
        &self,
        owes: impl Fn(Option<&Key>) -> Option<Owes>,
    ) -> Result<(), SpoolError> {
        let mut entries = self.entries.lock().await;
        let mut taken = Taken::of(self);
        let (mut stores, mut removes, mut kept) = (Vec::new(), Vec::new(), HashSet::new());
        for key in &taken.keys {
            let Some(owes) = owes(key.as_ref()) else {
                removes.extend(entries.get(key).into_iter().flatten().copied());
                continue;
            };
            let ids =
                entries.entry(key.clone()).or_insert_with(|| vec![SpoolId::new(&SystemClock)]);
            let record = Record { layer: self.layer, key: key.clone(), owes };
            stores.extend(ids.first().map(|id| (*id, record.encode(&self.name))));
            removes.extend(ids.iter().skip(1).copied());
            kept.insert(key.clone());
        }
        // In this order: a crash in between leaves a debt too many, which harms nobody.
        self.store(stores).await?;
        self.remove(removes).await?;
        for key in taken.keys.drain() {
            match entries.get_mut(&key) {
                Some(ids) if kept.contains(&key) => ids.truncate(1),
                _ => drop(entries.remove(&key)),
            }
        }
        self.unwritten.set(0.0);
        Ok(())
    }

    async fn store(&self, entries: Vec<(SpoolId, Bytes)>) -> Result<(), SpoolError> {
        if entries.is_empty() {
            return Ok(());
        }
        let deadline = SystemClock.instant() + WRITE_LIMIT;
        self.spool.store_many(entries, true, Some(deadline)).await
    }

    async fn remove(&self, ids: Vec<SpoolId>) -> Result<(), SpoolError> {
        if ids.is_empty() { Ok(()) } else { self.spool.remove_many(ids, false).await }
    }

    fn touched(&self) -> MutexGuard<'_, Touched> {
        self.touched.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What is being written down. What is left of it when it is dropped, in whatever way, is to be written
/// by the next one.
struct Taken<'a> {
    ledger: &'a Ledger,
    keys: HashSet<Option<Key>>,
}

impl<'a> Taken<'a> {
    fn of(ledger: &'a Ledger) -> Self {
        let mut touched = ledger.touched();
        let keys = std::mem::take(&mut touched.keys);
        touched.taken = keys.len();
        Self { ledger, keys }
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        let mut touched = self.ledger.touched();
        touched.taken = 0;
        touched.keys.extend(self.keys.drain());
    }
}

/// Ends a call of the spool in time, where there is somebody to tell the time.
async fn limited(call: impl Future<Output = Result<(), SpoolError>>) -> Result<(), String> {
    let ended = if Handle::try_current().is_ok() {
        timeout(WRITE_LIMIT, call).await.map_err(|_| format!("no answer within {WRITE_LIMIT:?}"))?
    } else {
        call.await
    };
    ended.map_err(|error| chain(&error))
}

#[cfg(test)]
mod tests;
