//! What the tests of the cache share: keys, versions, clocks, and a tier that does as it is told.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use larder_core::reference::ReferenceTier;
use larder_core::{
    BackendError, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Found,
    Key, KeyRef, ManualClock, Now, RepairListener, Source, Tier, TierStats, TierUsage, Version,
    WriteStatus,
};
use tokio::sync::oneshot;

pub(crate) fn key(text: &str) -> KeyRef<'_> {
    KeyRef::new(text).unwrap()
}

pub(crate) fn version(reading: u64) -> Version {
    Version::from_parts(reading, 1)
}

pub(crate) fn text(value: &'static str) -> CacheValue<Bytes> {
    CacheValue::new(Bytes::from_static(value.as_bytes()))
}

/// The payload that a tier has under `k`.
pub(crate) async fn data(tier: &impl Tier<Bytes>, k: &str) -> Option<Bytes> {
    tier.read(key(k)).await.unwrap().map(|found| found.value.data)
}

/// An operation of a [`Scripted`] tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Op {
    Read,
    Write,
    Remove,
    Forget,
}

/// A reference tier that holds calls back or fails them, as a test says. Clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Scripted {
    inner: Arc<ReferenceTier<Bytes>>,
    script: Arc<Mutex<Script>>,
    reads: Arc<AtomicUsize>,
    writes: Arc<AtomicUsize>,
    removes: Arc<AtomicUsize>,
    conditions: Conditions,
    durability: Durability,
    shared: bool,
}

#[derive(Debug, Default)]
struct Script {
    held: VecDeque<(Op, When, oneshot::Receiver<()>)>,
    down: Vec<Op>,
}

/// Where in a call it is held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// Before it does anything.
    Before,
    /// When it has done its work and not yet answered.
    After,
}

impl Scripted {
    pub(crate) fn new(label: &str, clock: &ManualClock) -> Self {
        Self {
            inner: Arc::new(ReferenceTier::new(label, clock.shared())),
            script: Arc::default(),
            reads: Arc::default(),
            writes: Arc::default(),
            removes: Arc::default(),
            conditions: Conditions::ALL,
            durability: Durability::Process,
            shared: false,
        }
    }

    /// Another way to the same store: what fails on one of them does not fail on the other.
    pub(crate) fn another_way(&self) -> Self {
        Self { script: Arc::default(), ..self.clone() }
    }

    pub(crate) fn without_conditions(mut self) -> Self {
        self.conditions = Conditions::NONE;
        self
    }

    /// As a server that several processes use: it forgets nothing.
    pub(crate) fn shared(mut self) -> Self {
        self.shared = true;
        self
    }

    pub(crate) fn surviving(mut self, durability: Durability) -> Self {
        self.durability = durability;
        self
    }

    /// Holds the next call of this kind until the answer is dropped or sent.
    pub(crate) fn hold(&self, op: Op, when: When) -> oneshot::Sender<()> {
        let (release, held) = oneshot::channel();
        self.script.lock().unwrap().held.push_back((op, when, held));
        release
    }

    /// Fails every call of this kind from now on.
    pub(crate) fn fail(&self, op: Op) {
        self.script.lock().unwrap().down.push(op);
    }

    /// Ends the failures.
    pub(crate) fn recover(&self) {
        self.script.lock().unwrap().down.clear();
    }

    pub(crate) fn reads(&self) -> usize {
        self.reads.load(Ordering::SeqCst)
    }

    pub(crate) fn writes(&self) -> usize {
        self.writes.load(Ordering::SeqCst)
    }

    pub(crate) fn removes(&self) -> usize {
        self.removes.load(Ordering::SeqCst)
    }

    /// What is stored, past the script.
    pub(crate) fn stored(&self, k: &str) -> Option<CacheValue<Bytes>> {
        match self.inner.read_now(key(k)) {
            Now::Hit(found) => Some(found.value),
            Now::Miss | Now::Ask => None,
        }
    }

    /// Stores past the script.
    pub(crate) async fn plant(&self, k: &str, value: CacheValue<Bytes>) {
        self.inner.write(key(k), value, Condition::Always).await.unwrap();
    }

    async fn enter(&self, op: Op) -> Result<Option<oneshot::Receiver<()>>, CacheError> {
        let held = {
            let mut script = self.script.lock().unwrap();
            if script.down.contains(&op) {
                return Err(BackendError::new("scripted", "call", "it is down").into());
            }
            let at = script.held.iter().position(|(held, _, _)| *held == op);
            at.and_then(|at| script.held.remove(at))
        };
        match held {
            Some((_, When::Before, release)) => {
                drop(release.await);
                Ok(None)
            }
            Some((_, When::After, release)) => Ok(Some(release)),
            None => Ok(None),
        }
    }
}

async fn leave<T>(held: Option<oneshot::Receiver<()>>, answer: T) -> T {
    if let Some(release) = held {
        drop(release.await);
    }
    answer
}

impl Tier<Bytes> for Scripted {
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<Bytes>>, CacheError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let held = self.enter(Op::Read).await?;
        leave(held, self.inner.read(key).await).await
    }

    fn read_now(&self, _: KeyRef<'_>) -> Now<Bytes> {
        Now::Ask
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<Bytes>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let held = self.enter(Op::Write).await?;
        leave(held, self.inner.write(key, value, condition).await).await
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        self.removes.fetch_add(1, Ordering::SeqCst);
        let held = self.enter(Op::Remove).await?;
        leave(held, self.inner.remove(key, condition).await).await
    }

    async fn read_many(
        &self,
        keys: &[KeyRef<'_>],
    ) -> Result<Vec<Option<Found<Bytes>>>, CacheError> {
        self.reads.fetch_add(1, Ordering::SeqCst);
        let held = self.enter(Op::Read).await?;
        leave(held, self.inner.read_many(keys).await).await
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<Bytes>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        self.writes.fetch_add(1, Ordering::SeqCst);
        let held = self.enter(Op::Write).await?;
        leave(held, self.inner.write_many(entries, condition).await).await
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        self.removes.fetch_add(1, Ordering::SeqCst);
        let held = self.enter(Op::Remove).await?;
        leave(held, self.inner.remove_many(keys, condition).await).await
    }

    async fn clear(&self) -> Result<(), CacheError> {
        self.enter(Op::Remove).await?;
        self.inner.clear().await
    }

    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        if self.shared {
            return Ok(());
        }
        let held = self.enter(Op::Forget).await?;
        leave(held, self.inner.forget(key, condition).await).await
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        if self.shared {
            return Ok(());
        }
        let held = self.enter(Op::Forget).await?;
        leave(held, self.inner.forget_all().await).await
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn describe(&self, source: Source) -> String {
        self.inner.describe(source)
    }

    fn conditions(&self) -> Conditions {
        self.conditions
    }

    fn durability(&self) -> Durability {
        self.durability
    }

    fn usage(&self) -> Option<TierUsage> {
        self.inner.usage()
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        self.inner.tier_stats()
    }

    fn on_repair(&self, _: &RepairListener) {}
}
