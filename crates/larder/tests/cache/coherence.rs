//! Several processes over one shared tier, each with copies of its own, and a bus between them.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{
    Cache, CoherenceOptions, CoherenceStats, LoadError, MemoryCache, PutOptions, Tag, Tagged, Tags,
    Tiered,
};
use larder::compose::RefillPolicy;
use larder_core::{
    Bus, BusError, ManualClock, MemoryBus, SharedBus, SharedTier, Subscription, Tier as _, Topic,
};

use crate::load::records;
use crate::scripted::{Op, Scripted, When, key};

mod repairs;

/// A third of the bound: how long a silence may be, and how long a copy lives in doubt.
const SILENCE: Duration = Duration::from_millis(400);
/// How long is waited for what has to come. It measures nothing: a busy machine may take its time.
const PATIENCE: Duration = Duration::from_mins(1);

/// One process's way to the bus.
#[derive(Clone, Debug, Default)]
struct Wire(Arc<WireState>);

#[derive(Debug, Default)]
struct WireState {
    bus: std::sync::Mutex<MemoryBus>,
    /// Frames that are taken and not sent.
    swallow: AtomicUsize,
    /// Nothing sent arrives, and nobody says so.
    mute: AtomicBool,
    /// Nothing comes in, and nobody says so.
    deaf: AtomicBool,
    /// Sending takes for ever.
    stuck: AtomicBool,
}

impl Wire {
    fn to(bus: &MemoryBus) -> Self {
        let wire = Self::default();
        *wire.0.bus.lock().unwrap() = bus.clone();
        wire
    }

    fn bus(&self) -> MemoryBus {
        self.0.bus.lock().unwrap().clone()
    }
}

impl Bus for Wire {
    async fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), BusError> {
        if self.0.stuck.load(Ordering::SeqCst) {
            std::future::pending::<()>().await;
        }
        let swallow = |left: usize| left.checked_sub(1);
        let swallowed = self.0.swallow.fetch_update(Ordering::SeqCst, Ordering::SeqCst, swallow);
        if swallowed.is_err() && !self.0.mute.load(Ordering::SeqCst) {
            self.bus().publish(topic, frame).await?;
        }
        Ok(())
    }

    async fn subscribe(&self, topic: &Topic) -> Result<Subscription, BusError> {
        let mut inner = self.bus().subscribe(topic).await?;
        let (mut feed, subscription) = Subscription::fed();
        let state = Arc::clone(&self.0);
        tokio::spawn(async move {
            loop {
                match inner.next().await {
                    Ok(_) if state.deaf.load(Ordering::SeqCst) => {}
                    Ok(frame) => {
                        if !feed.push(frame) {
                            return;
                        }
                    }
                    Err(error) => return feed.end(error),
                }
            }
        });
        Ok(subscription)
    }

    fn label(&self) -> &'static str {
        "wire"
    }
}

/// A process: its cache, its near layer and its way to the bus.
struct Process {
    cache: Cache<Bytes>,
    near: Scripted,
    /// Its way to the store that all share.
    far: Scripted,
    wire: Wire,
}

struct World {
    clock: ManualClock,
    bus: MemoryBus,
    far: Scripted,
}

impl World {
    fn new() -> Self {
        let clock = ManualClock::default();
        let far = Scripted::new("far", &clock).shared();
        Self { clock, bus: MemoryBus::new(), far }
    }

    fn topic() -> Topic {
        Topic::new("test").unwrap()
    }

    /// A process that trusts its copies.
    async fn process(&self) -> Process {
        let process = self.process_with(|options| options);
        process.is_trusted(true).await;
        process
    }

    fn process_with(&self, refine: impl Fn(CoherenceOptions) -> CoherenceOptions) -> Process {
        let wire = Wire::to(&self.bus);
        let (near, far) = (Scripted::new("near", &self.clock), self.far.another_way());
        let [l1, l2] = [&near, &far].map(|store| records(store, &self.clock));
        let tier: SharedTier<Tagged<Bytes>> =
            SharedTier::new(Tiered::builder(l1, l2).clock(self.clock.shared()).build());
        let options = CoherenceOptions::new(SharedBus::new(wire.clone()), Self::topic());
        let options = refine(options.staleness_max(3 * SILENCE));
        let cache = Cache::builder(tier).clock(self.clock.shared()).coherence(options).build();
        Process { cache, near, far, wire }
    }

    /// Two processes that hold `old` under `k`.
    async fn pair(&self) -> [Process; 2] {
        let pair = [self.process().await, self.process().await];
        pair[0].put("old").await;
        for process in &pair {
            process.comes_to_have(Some("old")).await;
        }
        // Nothing is on its way any more.
        for process in &pair {
            process.hears_itself().await;
        }
        assert_eq!(pair[1].get().await.as_deref(), Some(&b"old"[..]));
        assert!(pair[1].has_copy());
        pair
    }
}

impl Process {
    async fn put(&self, value: &'static str) {
        self.cache.put(key("k"), Bytes::from(value), PutOptions::new()).await.unwrap();
    }

    async fn get(&self) -> Option<Bytes> {
        self.cache.get(key("k")).await.unwrap().map(|hit| hit.value)
    }

    fn has_copy(&self) -> bool {
        self.near.usage().is_some_and(|usage| usage.entries > 0)
    }

    fn stats(&self) -> CoherenceStats {
        self.cache.coherence().unwrap()
    }

    async fn comes_to_have(&self, value: Option<&str>) {
        let has = async || self.get().await.as_deref() == value.map(str::as_bytes);
        assert!(in_the_end(has).await, "{value:?} did not come: {:?}", self.get().await);
    }

    async fn comes_to(&self, what: &str, is: impl Fn(CoherenceStats) -> bool) {
        assert!(in_the_end(async || is(self.stats())).await, "{what}: {:?}", self.stats());
    }

    /// Waits until all that `other` has said so far was heeded here: it says something more.
    async fn heeds(&self, other: &Self) {
        // Frames are taken in one after the other, and counted before they are heeded. So the first one
        // that is counted may be an earlier one, and the second one tells that the first was heeded.
        for _ in 0..2 {
            let changes = self.stats().changes;
            // It is told as well when it fails.
            drop(other.cache.remove(key("another")).await);
            self.comes_to("a later message", |stats| stats.changes > changes).await;
        }
    }

    async fn is_trusted(&self, trusted: bool) {
        self.comes_to("trust", |stats| stats.trusted == trusted).await;
    }

    /// Waits until a heartbeat of this process was sent, and for what was sent before to come.
    async fn hears_itself(&self) {
        let sent = self.stats().sent;
        self.comes_to("a heartbeat", |stats| stats.sent > sent + 1).await;
    }
}

/// Whether `is` comes to be so while we wait.
async fn in_the_end(mut is: impl AsyncFnMut() -> bool) -> bool {
    let looking = async {
        while !is().await {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(PATIENCE, looking).await.is_ok()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_change_here_is_seen_there_and_the_shared_tier_is_left_alone() {
    let world = World::new();
    let [here, there] = world.pair().await;
    here.put("new").await;
    let (writes, removes) = (world.far.writes(), world.far.removes());
    there.comes_to_have(Some("new")).await;
    assert_eq!((world.far.writes(), world.far.removes()), (writes, removes));

    here.cache.remove(key("k")).await.unwrap();
    there.comes_to_have(None).await;
    let entry = |value| (key("k").to_key(), Bytes::from(value), PutOptions::new());
    here.cache.put_many(vec![entry("first")]).await.unwrap();
    there.comes_to_have(Some("first")).await;
    here.cache.put_many(vec![entry("many"), entry("last")]).await.unwrap();
    there.comes_to_have(Some("last")).await;
    here.cache.remove_many(&[key("k")]).await.unwrap();
    there.comes_to_have(None).await;

    let tag = Tag::new("t").unwrap();
    let tags = Tags::new([tag.clone()]).unwrap();
    here.cache.put(key("k"), Bytes::from("tagged"), PutOptions::new().tags(tags)).await.unwrap();
    there.comes_to_have(Some("tagged")).await;
    here.cache.remove_tag(&tag);
    there.comes_to_have(None).await;

    here.put("once more").await;
    there.comes_to_have(Some("once more")).await;
    here.cache.clear().await.unwrap();
    there.comes_to_have(None).await;
    assert!(!there.has_copy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nobody_heeds_its_own_words() {
    let world = World::new();
    let [here, there] = world.pair().await;
    let forgotten = here.stats().forgotten;
    here.put("new").await;
    there.comes_to_have(Some("new")).await;
    here.hears_itself().await;
    assert!(here.has_copy(), "its own copy is the newest there is");
    assert_eq!((here.stats().changes, here.stats().forgotten), (0, forgotten));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_copy_that_is_as_new_as_the_message_stays() {
    let world = World::new();
    let [here, there] = world.pair().await;
    // The message is late: the copy there is made of the new value already.
    let changes = there.stats().changes;
    here.wire.0.stuck.store(true, Ordering::SeqCst);
    here.put("new").await;
    there.near.evict_all().await;
    assert_eq!(there.get().await.as_deref(), Some(&b"new"[..]));
    here.wire.0.stuck.store(false, Ordering::SeqCst);
    there.comes_to("the message", |stats| stats.changes > changes).await;
    there.heeds(&here).await;
    assert!(there.has_copy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_wins_over_a_refill_that_is_under_way() {
    let world = World::new();
    let [here, there] = world.pair().await;
    there.near.evict_all().await;
    let (reads, held) = (world.far.reads(), there.far.hold(Op::Read, When::After));
    let cache = there.cache.clone();
    let read = tokio::spawn(async move { cache.get(key("k")).await.unwrap() });
    while world.far.reads() == reads {
        tokio::task::yield_now().await;
    }
    let changes = there.stats().changes;
    here.put("new").await;
    there.comes_to("the message", |stats| stats.changes > changes).await;
    there.heeds(&here).await;
    drop(held);
    assert_eq!(read.await.unwrap().unwrap().value, "old", "it began before the put");
    assert_eq!(there.get().await.as_deref(), Some(&b"new"[..]));
}

/// A load of `k` there that has begun, and what lets it end.
async fn load(
    there: &Process,
) -> (tokio::task::JoinHandle<Bytes>, tokio::sync::oneshot::Sender<()>) {
    let (release, held) = tokio::sync::oneshot::channel();
    let cache = there.cache.clone();
    let loads = cache.stats().loads;
    let loading = tokio::spawn(async move {
        let load = || async move {
            drop(held.await);
            Ok::<_, LoadError>(Bytes::from("loaded"))
        };
        cache.get_or_load(key("k"), load).await.unwrap().unwrap().value
    });
    while there.cache.stats().loads == loads {
        tokio::task::yield_now().await;
    }
    (loading, release)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_wins_over_a_load_that_is_under_way() {
    let world = World::new();
    let [here, there] = world.pair().await;
    here.cache.remove(key("k")).await.unwrap();
    there.comes_to_have(None).await;
    let (loading, release) = load(&there).await;
    let changes = there.stats().changes;
    here.cache.remove(key("k")).await.unwrap();
    there.comes_to("the message", |stats| stats.changes > changes).await;
    there.heeds(&here).await;
    drop(release);
    assert_eq!(loading.await.unwrap(), "loaded", "who waits gets it");
    there.hears_itself().await;
    assert!(!there.has_copy() && world.far.usage().unwrap().entries == 0, "and nobody later");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_load_that_is_landing_when_a_remove_comes_is_taken_back() {
    let world = World::new();
    let [here, there] = world.pair().await;
    here.cache.remove(key("k")).await.unwrap();
    there.comes_to_have(None).await;
    let (loading, release) = load(&there).await;
    let (writes, held) = (world.far.writes(), there.far.hold(Op::Write, When::Before));
    drop(release);
    while world.far.writes() == writes {
        tokio::task::yield_now().await;
    }
    let changes = there.stats().changes;
    here.cache.remove(key("k")).await.unwrap();
    there.comes_to("the message", |stats| stats.changes > changes).await;
    there.heeds(&here).await;
    drop(held);
    assert_eq!(loading.await.unwrap(), "loaded", "who waits gets it");
    let gone = async || world.far.usage().unwrap().entries == 0 && !there.has_copy();
    assert!(in_the_end(gone).await, "it is not taken back");
    assert_eq!(here.get().await, None);
    assert_eq!(there.get().await, None);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn within_the_bound_an_old_value_is_gone_whoever_is_cut_off() {
    type Cut = fn(&Process, &Process);
    let cuts: [(&str, Cut); 3] = [
        ("the other one is mute", |here, _| here.wire.0.mute.store(true, Ordering::SeqCst)),
        ("this one is deaf", |_, there| there.wire.0.deaf.store(true, Ordering::SeqCst)),
        ("the other one hangs", |here, _| here.wire.0.stuck.store(true, Ordering::SeqCst)),
    ];
    for (what, cut) in cuts {
        let world = World::new();
        let [here, there] = world.pair().await;
        cut(&here, &there);
        here.put("new").await;
        assert_eq!(there.get().await.as_deref(), Some(&b"old"[..]), "{what}: nobody knows yet");
        // The lease ends by the clock alone: also in a process that stood still.
        world.clock.advance(SILENCE);
        assert_eq!(there.get().await.as_deref(), Some(&b"new"[..]), "{what}");
        there.is_trusted(false).await;
        // In doubt a copy lives for a third of the bound.
        here.put("newer").await;
        world.clock.advance(SILENCE);
        assert_eq!(there.get().await.as_deref(), Some(&b"newer"[..]), "{what}, in doubt");
        for process in [&here, &there] {
            process.wire.0.mute.store(false, Ordering::SeqCst);
            process.wire.0.deaf.store(false, Ordering::SeqCst);
            process.wire.0.stuck.store(false, Ordering::SeqCst);
        }
        there.is_trusted(true).await;
        here.put("newest").await;
        there.comes_to_have(Some("newest")).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_hears_itself_still_misses_the_others() {
    let world = World::new();
    let [here, there] = world.pair().await;
    here.wire.0.mute.store(true, Ordering::SeqCst);
    here.put("new").await;
    // Time passes in steps that leave room for echoes: only the silence of the other one can tell.
    for _ in 0..5 {
        world.clock.advance(SILENCE / 4);
        there.hears_itself().await;
    }
    assert_eq!(there.get().await.as_deref(), Some(&b"new"[..]));
    assert!(!there.stats().trusted);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_memory_has_at_hand_is_not_believed_after_a_silence() {
    let world = World::new();
    let here = world.process().await;
    here.put("old").await;
    let wire = Wire::to(&world.bus);
    let near = MemoryCache::<Tagged<Bytes>>::builder(1 << 20).clock(world.clock.shared()).build();
    let tier = Tiered::builder(near, records(&world.far, &world.clock))
        .clock(world.clock.shared())
        .refill(RefillPolicy::Always);
    let options = CoherenceOptions::new(SharedBus::new(wire.clone()), World::topic());
    let there: Cache<Bytes> = Cache::builder(SharedTier::new(tier.build()))
        .clock(world.clock.shared())
        .coherence(options.staleness_max(3 * SILENCE))
        .build();
    let at_hand = async || {
        there.get(key("k")).await.unwrap();
        there.get_now(key("k")).is_some()
    };
    assert!(in_the_end(at_hand).await);
    assert_eq!(there.get_now(key("k")).unwrap().value, "old");
    wire.0.deaf.store(true, Ordering::SeqCst);
    here.put("new").await;
    world.clock.advance(SILENCE);
    assert!(there.get_now(key("k")).is_none());
    assert_eq!(there.get(key("k")).await.unwrap().unwrap().value, "new");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_lost_message_shows_with_the_next_one() {
    let world = World::new();
    let [here, there] = world.pair().await;
    here.wire.0.swallow.store(1, Ordering::SeqCst);
    here.put("new").await;
    // No clock moves: only the numbers can tell.
    there.comes_to_have(Some("new")).await;
    assert!(there.stats().gaps > 0, "{:?}", there.stats());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_left_out_at_the_bound_is_known_to_the_others() {
    let world = World::new();
    let here = world.process_with(|options| options.changes_max(2));
    here.is_trusted(true).await;
    let there = world.process().await;
    here.put("old").await;
    there.comes_to_have(Some("old")).await;
    there.hears_itself().await;
    here.wire.0.stuck.store(true, Ordering::SeqCst);
    // Nobody waits, however many there are.
    for n in 0..50 {
        let name = format!("other/{n}");
        here.cache.put(key(&name), Bytes::from("x"), PutOptions::new()).await.unwrap();
        here.put("new").await;
    }
    assert!(here.stats().left_out > 0);
    here.wire.0.stuck.store(false, Ordering::SeqCst);
    there.comes_to_have(Some("new")).await;
    // What was not left out may have told of the new value before.
    there.comes_to("a gap", |stats| stats.gaps > 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_subscription_that_ends_takes_all_copies_with_it() {
    let world = World::new();
    let [here, there] = world.pair().await;
    let before = there.stats();
    // What is said meanwhile is lost to everybody.
    there.wire.0.deaf.store(true, Ordering::SeqCst);
    here.put("new").await;
    there.wire.0.deaf.store(false, Ordering::SeqCst);
    world.bus.cut();
    there.comes_to_have(Some("new")).await;
    there.comes_to("another subscription", |now| now.subscriptions > before.subscriptions).await;
    there.is_trusted(true).await;
    assert!(there.stats().forgotten > before.forgotten);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn words_that_cannot_be_read_count_as_missed() {
    let world = World::new();
    let [_here, there] = world.pair().await;
    world.bus.publish(&World::topic(), Bytes::from("LRDB\x02 of a later release")).await.unwrap();
    there.comes_to("a gap", |stats| stats.unreadable == 1 && stats.gaps == 1).await;
    assert!(in_the_end(async || !there.has_copy()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_process_that_leaves_is_not_waited_for() {
    let world = World::new();
    let [here, there] = world.pair().await;
    assert_eq!(there.stats().peers, 1);
    here.cache.leave().await;
    there.comes_to("nobody else", |stats| stats.peers == 0).await;
    world.clock.advance(2 * SILENCE);
    there.is_trusted(true).await;
    assert_eq!(there.stats().gaps, 0);
    // Dropping is leaving.
    let third = world.process().await;
    there.comes_to("a third one", |stats| stats.peers == 1).await;
    drop(third);
    there.comes_to("nobody else", |stats| stats.peers == 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_put_never_waits_for_the_bus() {
    let world = World::new();
    let here = world.process_with(|options| options);
    here.wire.0.stuck.store(true, Ordering::SeqCst);
    let puts = async {
        for _ in 0..1_000 {
            here.put("value").await;
        }
        here.cache.remove(key("k")).await.unwrap();
    };
    tokio::time::timeout(PATIENCE, puts).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn versions_are_merged_unless_they_are_from_nowhere() {
    let world = World::new();
    let [here, there] = world.pair().await;
    // A process whose clock is ahead, but not absurdly.
    world.put_ahead(Duration::from_secs(30), "ahead").await;
    there.comes_to_have(Some("ahead")).await;
    there.put("after it").await;
    here.comes_to_have(Some("after it")).await;
    assert_eq!(there.stats().refused_versions, 0);
    // One from nowhere: the copy goes, and the clocks stay.
    world.put_ahead(Duration::from_hours(1), "absurd").await;
    there.comes_to_have(Some("absurd")).await;
    assert!(there.stats().refused_versions > 0);
    there.put("sane").await;
    here.comes_to_have(Some("sane")).await;
}

impl World {
    /// What a process whose clock is ahead does: it writes the shared tier and tells of it.
    async fn put_ahead(&self, by: Duration, value: &'static str) {
        let clock = self.clock.clone_ahead(by);
        let wire = Wire::to(&self.bus);
        let [l1, l2] =
            [&Scripted::new("near", &clock), &self.far].map(|store| records(store, &clock));
        let tier: SharedTier<Tagged<Bytes>> =
            SharedTier::new(Tiered::builder(l1, l2).clock(clock.shared()).build());
        let options = CoherenceOptions::new(SharedBus::new(wire), Self::topic());
        let options = options.staleness_max(3 * SILENCE);
        let off = Cache::builder(tier).clock(clock.shared()).coherence(options).build();
        off.put(key("k"), Bytes::from(value), PutOptions::new()).await.unwrap();
        off.leave().await;
    }
}

trait Ahead {
    fn clone_ahead(&self, by: Duration) -> Self;
}

impl Ahead for ManualClock {
    fn clone_ahead(&self, by: Duration) -> Self {
        Self::starting_at(larder_core::Clock::now(self).saturating_add(by))
    }
}

impl Scripted {
    /// As an eviction does.
    async fn evict_all(&self) {
        self.forget_all().await.unwrap();
    }
}

/// Any interleaving of changes, reads and messages in two processes ends with both having the last
/// value, and with copies that are no older than the shared tier.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn whatever_comes_together_ends_with_what_the_shared_tier_has() {
    for seed in 0..6 {
        let world = World::new();
        let pair = world.pair().await;
        let mut tasks = Vec::new();
        for (number, process) in (0_u64..).zip(&pair) {
            for client in 0..3_u64 {
                let cache = process.cache.clone();
                let mut random = larder_testkit::Random::seeded(seed * 100 + number * 10 + client);
                tasks.push(tokio::spawn(async move {
                    for turn in 0..60 {
                        let value = Bytes::from(format!("{number}/{client}/{turn}"));
                        match random.below(5) {
                            0 => drop(cache.put(key("k"), value, PutOptions::new()).await),
                            1 => drop(cache.remove(key("k")).await),
                            2 => {
                                let load = || async move { Ok::<_, LoadError>(value) };
                                drop(cache.get_or_load(key("k"), load).await);
                            }
                            _ => drop(cache.get(key("k")).await),
                        }
                        if random.below(4) == 0 {
                            tokio::task::yield_now().await;
                        }
                    }
                }));
            }
        }
        for task in tasks {
            task.await.unwrap();
        }
        for process in &pair {
            process.hears_itself().await;
        }
        for process in &pair {
            process.hears_itself().await;
        }
        let seen = [pair[0].get().await, pair[1].get().await];
        for process in &pair {
            process.near.evict_all().await;
        }
        let far = pair[0].get().await;
        assert_eq!(seen, [far.clone(), far], "seed {seed}");
    }
}

#[tokio::test]
async fn without_a_bus_nothing_is_told() {
    let clock = ManualClock::default();
    let tier = SharedTier::new(records(&Scripted::new("only", &clock), &clock));
    let cache: Cache<Bytes> = Cache::builder(tier).clock(clock.shared()).build();
    assert_eq!(cache.coherence(), None);
    cache.leave().await;
}
