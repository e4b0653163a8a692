//! Processes that share a tier and load one at a time: several caches, one store of leases, one
//! virtual clock, and holders that die.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{
    Cache, Encoded, Hit, LoadError, LoadLease, LoadOptions, MemoryCache, NoCompression, RawCodec,
    Schema, Tagged, TaggedCodec, Tiered,
};
use larder::compose::BoundedOffload;
use larder_core::{
    BackendError, CaSResult, Clock, Consensus, ConsensusError, Durability, KeyStream,
    MemoryConsensus, SeqNo, SharedClock, SharedConsensus, SharedTier, Timestamp, VersionedData,
};
use tokio::time::{Instant, sleep};

use crate::scripted::key;

const TTL: Duration = Duration::from_secs(5);

/// Tells the virtual time of tokio.
#[derive(Debug)]
struct Virtual(Instant);

impl Clock for Virtual {
    fn now(&self) -> Timestamp {
        Timestamp::from_millis(1_767_225_600_000).saturating_add(self.0.elapsed())
    }

    fn instant(&self) -> std::time::Instant {
        Instant::now().into_std()
    }
}

/// How a store of leases behaves that is in trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Trouble {
    Hangs,
    Fails,
    /// A head takes a tenth of a second to arrive.
    Slow,
}

#[derive(Debug)]
struct Troubled(Trouble, SharedConsensus);

impl Troubled {
    async fn call(&self) -> Result<(), ConsensusError> {
        match self.0 {
            Trouble::Slow => return Ok(()),
            Trouble::Hangs => std::future::pending().await,
            Trouble::Fails => {}
        }
        Err(ConsensusError::Indeterminate(BackendError::new("troubled", "call", "it is away")))
    }
}

impl Consensus for Troubled {
    fn list_keys(&self) -> KeyStream {
        KeyStream::from_keys(Vec::new())
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.call().await?;
        sleep(Duration::from_millis(100)).await;
        self.1.head(key).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        self.call().await?;
        self.1.compare_and_set(key, expected, new).await
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        self.call().await?;
        self.1.scan(key, from, limit).await
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        self.call().await?;
        self.1.truncate(key, seqno).await
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }
}

/// What processes have in common.
#[derive(Clone)]
struct World {
    clock: SharedClock,
    far: SharedTier<Bytes>,
    leases: SharedConsensus,
    /// Loads that were begun, that run now, and the most that ever ran at a time.
    begun: Arc<AtomicUsize>,
    running: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

/// One process.
struct Process {
    cache: Cache<Bytes>,
    background: BoundedOffload,
    world: World,
}

/// Counts a load until it ends, however it does.
struct Running(Arc<AtomicUsize>);

impl Drop for Running {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl World {
    fn new() -> Self {
        let leases = SharedConsensus::new(MemoryConsensus::default());
        let clock: SharedClock = Arc::new(Virtual(Instant::now()));
        let far = MemoryCache::builder(8 << 20).label("far").clock(Arc::clone(&clock)).build();
        let counts = || Arc::new(AtomicUsize::new(0));
        let far = SharedTier::new(far);
        Self { clock, far, leases, begun: counts(), running: counts(), most: counts() }
    }

    /// The same world for processes whose way to the leases is in trouble.
    fn troubled(&self, trouble: Trouble) -> Self {
        let leases = SharedConsensus::new(Troubled(trouble, self.leases.clone()));
        Self { leases, ..self.clone() }
    }

    fn process(&self) -> Process {
        self.process_with(|lease| lease)
    }

    fn process_with(&self, refine: impl FnOnce(LoadLease) -> LoadLease) -> Process {
        let clock = || Arc::clone(&self.clock);
        let near: MemoryCache<Tagged<Bytes>> = MemoryCache::builder(1 << 20).clock(clock()).build();
        let schema = Schema::new("test", "bytes", 1).unwrap();
        let far = Encoded::new(self.far.clone(), TaggedCodec(RawCodec), NoCompression, schema)
            .with_clock(clock());
        let tier = SharedTier::new(Tiered::builder(near, far).clock(clock()).build());
        let background = BoundedOffload::default();
        let lease = LoadLease::new(self.leases.clone(), "test").ttl(TTL);
        let cache = Cache::builder(tier)
            .clock(clock())
            .load_options(LoadOptions::new().ttl(Duration::from_hours(1)))
            .offload(background.clone())
            .load_lease(refine(lease))
            .build();
        Process { cache, background, world: self.clone() }
    }
}

impl Process {
    async fn load(&self, k: &str, takes: Duration) -> Result<Option<Hit<Bytes>>, LoadError> {
        let world = self.world.clone();
        let loader = move || async move {
            world.begun.fetch_add(1, Ordering::SeqCst);
            let now = world.running.fetch_add(1, Ordering::SeqCst) + 1;
            world.most.fetch_max(now, Ordering::SeqCst);
            let running = Running(world.running);
            sleep(takes).await;
            drop(running);
            Ok::<_, LoadError>(Bytes::from("loaded"))
        };
        self.cache.get_or_load(key(k), loader).await
    }

    /// Its loads are cut off where they are, as when it is killed.
    async fn dies(&self) {
        let _ = self.background.drain(Duration::ZERO).await;
    }
}

#[tokio::test(start_paused = true)]
async fn of_several_processes_one_loads_and_the_others_get_its_value() {
    let world = World::new();
    let processes: Vec<Process> = (0..5).map(|_| world.process()).collect();
    let takes = Duration::from_secs(8);
    let loads = processes.iter().map(|process| process.load("k", takes));
    for given in futures_util::future::join_all(loads).await {
        assert_eq!(given.unwrap().unwrap().value, Bytes::from("loaded"));
    }
    assert_eq!(
        world.begun.load(Ordering::SeqCst),
        1,
        "it took longer than a turn, and was renewed"
    );
    let spared: u64 = processes.iter().map(|process| process.cache.stats().spared_loads).sum();
    assert_eq!(spared, 4);
    // Nothing is left behind: the next load does not wait.
    let before = Instant::now();
    processes[0].load("another", Duration::ZERO).await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn a_holder_that_dies_is_taken_over_after_its_time_and_not_sooner() {
    let world = World::new();
    let (dying, other) = (world.process(), world.process());
    let cut = tokio::join!(dying.load("k", Duration::from_hours(1)), async {
        sleep(Duration::from_secs(1)).await;
        dying.dies().await;
    });
    assert!(matches!(cut.0, Err(LoadError::CutOff)));
    let before = Instant::now();
    other.load("k", Duration::ZERO).await.unwrap();
    let waited = before.elapsed();
    assert!(waited >= TTL + TTL / 10 && waited < TTL + TTL / 5, "{waited:?}");
    assert_eq!((other.cache.stats().loads, other.cache.stats().unleased_loads), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn whose_turn_comes_after_a_value_has_appeared_does_not_load_again() {
    let world = World::new();
    let (late, quick) = (world.troubled(Trouble::Slow).process(), world.process());
    let (given, quick_given) = tokio::join!(late.load("k", Duration::ZERO), async {
        // The late one has found nothing by now, and not asked for its turn.
        sleep(Duration::from_millis(10)).await;
        quick.load("k", Duration::ZERO).await
    });
    assert!(given.unwrap().is_some() && quick_given.unwrap().is_some());
    assert_eq!(world.begun.load(Ordering::SeqCst), 1);
    assert_eq!(late.cache.stats().spared_loads, 1);
}

#[tokio::test(start_paused = true)]
async fn a_load_that_fails_gives_its_turn_back() {
    let world = World::new();
    let (one, other) = (world.process(), world.process());
    let fails = || async { Err::<Bytes, _>(LoadError::Panicked) };
    one.cache.get_or_load(key("k"), fails).await.unwrap_err();
    let before = Instant::now();
    other.load("k", Duration::ZERO).await.unwrap();
    assert!(before.elapsed() < Duration::from_millis(10));
}

#[tokio::test(start_paused = true)]
async fn without_a_store_of_leases_everybody_loads_at_once() {
    for (trouble, patience) in [(Trouble::Fails, 10), (Trouble::Hangs, 600)] {
        let process = World::new().troubled(trouble).process();
        for k in ["a", "b", "c"] {
            let before = Instant::now();
            process.load(k, Duration::ZERO).await.unwrap();
            let waited = before.elapsed();
            // Once it was found away it is left alone for a while.
            let patience = Duration::from_millis(if k == "a" { patience } else { 10 });
            assert!(waited < patience, "{trouble:?} {k}: {waited:?}");
        }
        assert_eq!(process.cache.stats().unleased_loads, 3);
    }
}

#[tokio::test(start_paused = true)]
async fn who_has_waited_long_enough_loads_without_a_turn() {
    let world = World::new();
    let (slow, hasty) = (world.process(), world.process_with(|lease| lease.wait_max(TTL / 5)));
    let (_, hasty_given) = tokio::join!(slow.load("k", TTL), async {
        sleep(Duration::from_millis(10)).await;
        let before = Instant::now();
        let given = hasty.load("k", Duration::ZERO).await;
        (given, before.elapsed())
    });
    assert!(hasty_given.0.unwrap().is_some());
    assert!(hasty_given.1 < TTL / 4, "{:?}", hasty_given.1);
    assert_eq!(hasty.cache.stats().unleased_loads, 1);
}

/// Processes, keys, times and deaths at random: never two loads of the one key at a time, none that is not
/// needed, and everybody is answered.
#[tokio::test(start_paused = true)]
async fn in_every_interleaving_one_process_loads_at_a_time() {
    for seed in 0..300_u64 {
        let mut state = seed;
        let mut below = move |bound: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % bound
        };
        let world = World::new();
        let processes: Vec<Process> = (0..4).map(|_| world.process()).collect();
        let dies = (below(2) == 0).then(|| Duration::from_millis(below(3_000)));
        let calls = processes.iter().map(|process| {
            let (start, takes) =
                (Duration::from_millis(below(2_000)), Duration::from_millis(1 + below(3_000)));
            async move {
                sleep(start).await;
                process.load("k", takes).await
            }
        });
        let calls: Vec<_> = calls.collect();
        let (given, ()) = tokio::join!(futures_util::future::join_all(calls), async {
            if let Some(after) = dies {
                sleep(after).await;
                processes[0].dies().await;
            }
        });
        for (process, given) in given.into_iter().enumerate() {
            match given {
                Ok(hit) => assert!(hit.is_some(), "seed {seed}"),
                Err(error) => assert!(process == 0 && dies.is_some(), "seed {seed}: {error}"),
            }
        }
        let (begun, most) = (world.begun.load(Ordering::SeqCst), world.most.load(Ordering::SeqCst));
        assert_eq!(most, 1, "seed {seed}: at a time");
        assert!(begun <= 1 + usize::from(dies.is_some()), "seed {seed}: {begun} loads");
        let unleased: u64 =
            processes.iter().map(|process| process.cache.stats().unleased_loads).sum();
        assert_eq!(unleased, 0, "seed {seed}");
    }
}
