//! Composites of composites: they compile, are `Send`, and answer from the right depth.

use std::future::Future;
use std::sync::Arc;

use larder::compose::{
    AnyReadPolicy, AnyWritePolicy, BoundedOffload, Calls, CompositionReadPolicy,
    CompositionWritePolicy, Counted, Observer, OnLayerError, OptimisticParallelWritePolicy,
    ParallelReadPolicy, RaceLoserPolicy, RaceReadPolicy, RaceWritePolicy, ReadRequest,
    SequentialReadPolicy, SequentialWritePolicy, WriteRequest,
};
use larder_core::{BackendError, CacheValue, SystemClock};

/// A store of one contract, as small as can be.
trait Store: Send + Sync + 'static {
    fn read(&self, key: &str) -> impl Future<Output = Result<Option<Path>, BackendError>> + Send;
    fn write(&self, key: &str) -> impl Future<Output = Result<(), BackendError>> + Send;
}

type Path = CacheValue<String>;

struct Leaf(&'static str, bool);

impl Store for Leaf {
    async fn read(&self, _key: &str) -> Result<Option<Path>, BackendError> {
        tokio::task::yield_now().await;
        Ok(self.1.then(|| CacheValue::new(self.0.to_owned())))
    }

    async fn write(&self, _key: &str) -> Result<(), BackendError> {
        tokio::task::yield_now().await;
        Ok(())
    }
}

/// Two stores as one: all that a composite has to write.
struct Pair<A, B, R, W> {
    l1: Arc<A>,
    l2: Arc<B>,
    read: R,
    write: W,
    offload: BoundedOffload,
    observer: Observer,
}

fn pair<A, B, R, W>(l1: A, l2: B, read: R, write: W) -> Pair<A, B, R, W> {
    let (offload, observer) = (BoundedOffload::default(), Observer::new("pair"));
    Pair { l1: Arc::new(l1), l2: Arc::new(l2), read, write, offload, observer }
}

impl<A, B, R, W> Store for Pair<A, B, R, W>
where
    A: Store,
    B: Store,
    R: CompositionReadPolicy,
    W: CompositionWritePolicy,
{
    async fn read(&self, key: &str) -> Result<Option<Path>, BackendError> {
        let request = ReadRequest {
            key,
            clock: &SystemClock,
            on_layer_error: OnLayerError::Miss,
            offload: &self.offload,
            observer: &self.observer,
        };
        let l1 = Calls(
            || self.l1.read(key),
            || {
                let (l1, key) = (Arc::clone(&self.l1), key.to_owned());
                async move { l1.read(&key).await }
            },
        );
        let l2 = Calls(
            || self.l2.read(key),
            || {
                let (l2, key) = (Arc::clone(&self.l2), key.to_owned());
                async move { l2.read(&key).await }
            },
        );
        let read = self.read.execute_with(request, l1, l2).await;
        let read = read.map_err(|error| BackendError::new("pair", "read", error))?;
        Ok(read.value.map(|value| value.map(|path| format!("{}.{path}", read.source))))
    }

    async fn write(&self, key: &str) -> Result<(), BackendError> {
        let request = WriteRequest {
            key,
            counted: Counted::Both,
            offload: &self.offload,
            observer: &self.observer,
        };
        let l1 = Calls(
            || self.l1.write(key),
            || {
                let (l1, key) = (Arc::clone(&self.l1), key.to_owned());
                async move { l1.write(&key).await }
            },
        );
        let l2 = Calls(
            || self.l2.write(key),
            || {
                let (l2, key) = (Arc::clone(&self.l2), key.to_owned());
                async move { l2.write(&key).await }
            },
        );
        let outcome = self.write.execute_with(request, l1, l2).await;
        outcome.map(|_outcome| ()).map_err(|error| BackendError::new("pair", "write", error))
    }
}

/// A task that is generic over the contract: the compiler has to see that it is `Send`.
fn spawned(store: impl Store) -> tokio::task::JoinHandle<Option<Path>> {
    tokio::spawn(async move {
        store.write("key").await.expect("a write");
        store.read("key").await.expect("a read")
    })
}

async fn path(store: impl Store) -> Option<String> {
    spawned(store).await.expect("no panic").map(|value| value.data)
}

#[tokio::test]
async fn four_levels_of_every_policy_answer_from_the_bottom() {
    let bottom = pair(
        Leaf("d", false),
        Leaf("e", true),
        RaceReadPolicy { loser: RaceLoserPolicy::Drop },
        RaceWritePolicy { loser: RaceLoserPolicy::Drop },
    );
    let third =
        pair(Leaf("c", false), bottom, RaceReadPolicy::default(), RaceWritePolicy::default());
    let second = pair(Leaf("b", false), third, ParallelReadPolicy, OptimisticParallelWritePolicy);
    let first = pair(Leaf("a", false), second, SequentialReadPolicy, SequentialWritePolicy);
    assert_eq!(path(first).await.as_deref(), Some("l2.l2.l2.l2.e"));
}

#[tokio::test]
async fn a_pair_can_be_the_near_layer_as_well() {
    let read = AnyReadPolicy::default();
    let write = AnyWritePolicy::default();
    let near = pair(Leaf("a", false), Leaf("b", true), read, write);
    let far = pair(Leaf("c", true), Leaf("d", true), read, write);
    assert_eq!(path(pair(near, far, read, write)).await.as_deref(), Some("l1.l2.b"));
}

#[tokio::test]
async fn a_miss_everywhere_is_a_miss() {
    let inner = pair(Leaf("b", false), Leaf("c", false), ParallelReadPolicy, SequentialWritePolicy);
    let outer =
        pair(Leaf("a", false), inner, RaceReadPolicy::default(), OptimisticParallelWritePolicy);
    assert_eq!(path(outer).await, None);
}
