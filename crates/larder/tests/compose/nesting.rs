//! Composites of composites: they compile, are `Send`, and answer from the right depth.

use std::future::Future;
use std::sync::Arc;

use larder::compose::{
    AnyReadPolicy, AnyWritePolicy, BoundedOffload, Calls, CompositionError, CompositionLayer,
    CompositionReadPolicy, CompositionWritePolicy, Counted, Freshness, LayerCall, Lifetime,
    Observer, Offload, OnLayerError, Operation, OptimisticParallelWritePolicy, ParallelReadPolicy,
    PolicyKey, RaceLoserPolicy, RaceReadPolicy, RaceWritePolicy, ReadRequest, ReadResult,
    SequentialReadPolicy, SequentialWritePolicy, WriteRequest,
};
use larder_core::{BackendError, CacheValue, Failure, SystemClock};

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

/// A policy that a user might write: the far layer is the truth, the near one a stand-by.
#[derive(Debug)]
struct FarFirst;

impl CompositionReadPolicy for FarFirst {
    fn l1_hit_decides(&self, _stale: bool) -> bool {
        false
    }

    async fn execute_with<K, T, E, O>(
        &self,
        request: ReadRequest<'_, K, O>,
        read_l1: impl LayerCall<Option<T>, E>,
        read_l2: impl LayerCall<Option<T>, E>,
    ) -> Result<ReadResult<T, E>, CompositionError<E>>
    where
        K: PolicyKey + ?Sized,
        T: Freshness,
        E: Failure,
        O: Offload,
    {
        let now = request.clock.now();
        match read_l2.call().await {
            Ok(Some(value)) if value.lifetime(now) != Lifetime::Expired => {
                Ok(ReadResult::hit(value, CompositionLayer::L2))
            }
            Ok(_) => Ok(ReadResult::miss()),
            Err(error) => {
                request.observer.degraded(Operation::Read, CompositionLayer::L2, &error);
                match read_l1.call().await {
                    Ok(Some(value)) => Ok(ReadResult::hit(value, CompositionLayer::L1)
                        .without(CompositionLayer::L2, error)),
                    Ok(None) => Err(CompositionError::layer(CompositionLayer::L2, error)),
                    Err(l1) => Err(CompositionError::both(l1, error)),
                }
            }
        }
    }
}

#[tokio::test]
async fn users_can_write_their_own_policies() {
    let far_first = pair(Leaf("a", true), Leaf("b", true), FarFirst, SequentialWritePolicy);
    assert_eq!(path(far_first).await.as_deref(), Some("l2.b"));
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
