//! Loading through the face: one load of a key at a time, and never over what is newer.
//!
//! Nothing here sleeps: lives are judged by a manual clock, timeouts by tokio's paused one, and
//! loaders answer when a test says so.

use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{
    Cache, CacheBuilder, CacheStats, Encoded, Hit, LoadError, LoadOptions, Loaded, MemoryCache,
    NoCompression, PutOptions, RawCodec, Schema, Tag, Tagged, TaggedCodec, Tags, Tiered,
};
use larder::compose::{BoundedOffload, OffloadLimits};
use larder_core::{Condition, ManualClock, SharedTier, Tier as _};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use crate::scripted::{Scripted, key};

mod lease;
mod many;
mod negative;
mod order;
mod schedule;
mod single;
mod stale;
mod stampede;

/// What a loader fails with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the database is down: {0}")]
pub(crate) struct Broken(pub(crate) u32);

pub(crate) type Answer = Result<Loaded<Bytes>, Broken>;
pub(crate) type Loading = Pin<Box<dyn Future<Output = Answer> + Send>>;
type Given = Result<Option<Hit<Bytes>>, LoadError>;

/// Loads that end when a test says so.
#[derive(Clone, Default)]
pub(crate) struct Loader {
    calls: Arc<AtomicUsize>,
    open: Arc<Mutex<Vec<Option<oneshot::Sender<Answer>>>>>,
}

impl Loader {
    /// A load that waits for its answer; when that is dropped it panics.
    pub(crate) fn load(&self) -> impl FnOnce() -> Loading + Send + use<> {
        let loader = self.clone();
        move || {
            let (answer, answered) = oneshot::channel();
            loader.calls.fetch_add(1, Ordering::SeqCst);
            loader.open.lock().unwrap().push(Some(answer));
            Box::pin(async move { answered.await.unwrap() })
        }
    }

    pub(crate) fn calls(&self) -> usize {
        self.calls.load(Ordering::SeqCst)
    }

    /// Takes the answer of a load: sending it ends the load, dropping it lets the loader panic.
    pub(crate) fn take(&self, load: usize) -> oneshot::Sender<Answer> {
        self.open.lock().unwrap()[load].take().unwrap()
    }

    pub(crate) async fn answer(&self, load: usize, answer: impl Into<Loaded<Bytes>>) {
        self.take(load).send(Ok(answer.into())).unwrap();
        settle().await;
    }

    pub(crate) async fn fail(&self, load: usize, code: u32) {
        self.take(load).send(Err(Broken(code))).unwrap();
        settle().await;
    }
}

/// A cache over a typed memory tier and records in a scripted store of bytes.
struct Bench {
    clock: ManualClock,
    near: SharedTier<Tagged<Bytes>>,
    far: Scripted,
    cache: Cache<Bytes>,
    loader: Loader,
    offload: BoundedOffload,
}

impl Bench {
    fn new() -> Self {
        Self::with(LoadOptions::new(), |builder| builder)
    }

    fn with_options(options: LoadOptions) -> Self {
        Self::with(options, |builder| builder)
    }

    fn with(
        options: LoadOptions,
        refine: impl FnOnce(CacheBuilder<Bytes>) -> CacheBuilder<Bytes>,
    ) -> Self {
        Self::over_offload(BoundedOffload::default(), options, refine)
    }

    fn with_loads_max(loads_max: usize) -> Self {
        let offload = BoundedOffload::new(OffloadLimits::new().with_max_tasks(loads_max));
        Self::over_offload(offload, LoadOptions::new(), |builder| builder)
    }

    fn over_offload(
        offload: BoundedOffload,
        options: LoadOptions,
        refine: impl FnOnce(CacheBuilder<Bytes>) -> CacheBuilder<Bytes>,
    ) -> Self {
        let clock = ManualClock::default();
        let near = MemoryCache::builder(8 << 20).clock(clock.shared()).label("near").build();
        let near = SharedTier::new(near);
        let far = Scripted::new("far", &clock);
        let tiered =
            Tiered::builder(near.clone(), records(&far, &clock)).clock(clock.shared()).label("a");
        let builder = Cache::builder(SharedTier::new(tiered.build()))
            .clock(clock.shared())
            .seed(1)
            .offload(offload.clone())
            .load_options(options);
        let cache = refine(builder).build();
        Self { clock, near, far, cache, loader: Loader::default(), offload }
    }

    /// A caller that asks for `k` in a task of its own.
    async fn ask(&self, k: &'static str) -> JoinHandle<Given> {
        let (cache, load) = (self.cache.clone(), self.loader.load());
        let asking = tokio::spawn(async move { cache.get_or_load(key(k), load).await });
        settle().await;
        asking
    }

    /// What a caller gets without waiting for anything but the cache.
    async fn ask_now(&self, k: &'static str) -> Option<Bytes> {
        let asked = self.ask(k).await;
        assert!(asked.is_finished(), "it waits");
        payload(asked.await.unwrap())
    }

    async fn get(&self, k: &str) -> Option<Bytes> {
        self.cache.get(key(k)).await.unwrap().map(|hit| hit.value)
    }

    async fn put(&self, k: &str, value: &'static str, options: PutOptions) {
        assert!(self.cache.put(key(k), Bytes::from(value), options).await.unwrap().applied);
    }

    /// Puts a value that is stale by the time this returns, and lives for an hour.
    async fn put_stale(&self, k: &str, value: &'static str) {
        let options = PutOptions::new().ttl(Duration::from_hours(1)).stale_after(Duration::ZERO);
        self.put(k, value, options).await;
    }

    async fn forget_near(&self, k: &str) {
        self.near.remove(key(k), Condition::Always).await.unwrap();
    }

    fn stats(&self) -> CacheStats {
        self.cache.stats()
    }

    /// No load of `k` is left over: the next caller starts one.
    async fn assert_nothing_left(&self, k: &'static str) {
        self.cache.remove(key(k)).await.unwrap();
        let calls = self.loader.calls();
        let asking = self.ask(k).await;
        assert_eq!(self.loader.calls(), calls + 1, "an old load is still in the way");
        self.loader.answer(calls, Bytes::from("next")).await;
        assert_eq!(payload(asking.await.unwrap()), Some(Bytes::from("next")));
        assert_eq!(self.offload.stats().active, 0);
    }
}

pub(crate) fn records(
    store: &Scripted,
    clock: &ManualClock,
) -> impl larder::Tier<Tagged<Bytes>> + use<> {
    let schema = Schema::new("test", "bytes", 1).unwrap();
    let codec = TaggedCodec(RawCodec);
    Encoded::new(store.clone(), codec, NoCompression, schema).with_clock(clock.shared())
}

fn payload(given: Given) -> Option<Bytes> {
    given.unwrap().map(|hit| hit.value)
}

fn bytes(text: &'static str) -> Bytes {
    Bytes::from(text)
}

fn red() -> Tags {
    Tags::new([Tag::new("red").unwrap()]).unwrap()
}

/// Lets everything run that can run. The runtime of a test has one thread, so this is enough.
pub(crate) async fn settle() {
    for _ in 0..64 {
        tokio::task::yield_now().await;
    }
}
