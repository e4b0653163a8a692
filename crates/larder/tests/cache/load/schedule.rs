//! Loads, puts, removes and invalidations in every order, with tiers that hold their calls back.
//!
//! There is a database with one row, whose value is a number that only grows. Whoever changes it
//! tells the cache afterwards: by a remove, by a put of the new number, by its tag or by a clear;
//! one change at a time, for of two at the same time either may be the last.
//! The promise is then: a call that begins after such a change was acknowledged never returns a
//! number from before it. That covers late loads, late refills and stale values alike.

use std::collections::VecDeque;
use std::future::Future;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{Cache, LoadOptions, Loaded, MemoryCache, PutOptions, Tag, Tagged, Tiered};
use larder_core::{Condition, ManualClock, SharedTier, Tier as _};
use proptest::prelude::*;
use tokio::sync::oneshot;
use tokio::task::JoinSet;

use super::{Broken, records, red, settle};
use crate::scripted::{Op, Scripted, When, key};

#[derive(Clone, Debug)]
enum Step {
    Get,
    GetOrLoad,
    /// Ends a load, the oldest or a later one, well or not.
    Answer {
        at: usize,
        well: bool,
    },
    /// The number grows, and the cache is told.
    Change(How),
    /// The next call of this kind is held back.
    Hold(Op, When),
    /// Lets one held call go on.
    Release {
        at: usize,
    },
    /// A cancelled caller.
    Abort,
    ForgetNear,
    Advance {
        millis: u64,
    },
}

#[derive(Clone, Copy, Debug)]
enum How {
    Remove,
    Put,
    Tag,
    Clear,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let how = prop_oneof![
        3 => Just(How::Remove),
        2 => Just(How::Put),
        2 => Just(How::Tag),
        1 => Just(How::Clear),
    ];
    let op = prop_oneof![Just(Op::Read), Just(Op::Write), Just(Op::Remove)];
    let when = prop_oneof![Just(When::Before), Just(When::After)];
    let step = prop_oneof![
        2 => Just(Step::Get),
        6 => Just(Step::GetOrLoad),
        4 => (0..3_usize, prop::bool::weighted(0.8))
            .prop_map(|(at, well)| Step::Answer { at, well }),
        4 => how.prop_map(Step::Change),
        3 => (op, when).prop_map(|(op, when)| Step::Hold(op, when)),
        4 => (0..3_usize).prop_map(|at| Step::Release { at }),
        1 => Just(Step::Abort),
        2 => Just(Step::ForgetNear),
        2 => (0..15_u64).prop_map(|millis| Step::Advance { millis }),
    ];
    prop::collection::vec(step, 1..50)
}

struct World {
    clock: ManualClock,
    near: SharedTier<Tagged<Bytes>>,
    far: Scripted,
    cache: Cache<Bytes>,
    row: Arc<AtomicU64>,
    /// The row as of the last change that the cache has acknowledged.
    told: Arc<AtomicU64>,
    loads: Arc<Mutex<VecDeque<oneshot::Sender<bool>>>>,
    turns: Arc<tokio::sync::Mutex<()>>,
    calls: JoinSet<()>,
    held: Vec<oneshot::Sender<()>>,
}

impl World {
    fn new(tiers: usize, conditions: bool, soft_timeout: Duration) -> Self {
        let clock = ManualClock::default();
        let near = MemoryCache::builder(8 << 20).clock(clock.shared()).label("near").build();
        let near = SharedTier::new(near);
        let far = Scripted::new("far", &clock);
        let far = if conditions { far } else { far.without_conditions() };
        let records = records(&far, &clock);
        let tier = if tiers == 1 {
            SharedTier::new(records)
        } else {
            let tiered = Tiered::builder(near.clone(), records).clock(clock.shared());
            SharedTier::new(tiered.build())
        };
        let options = LoadOptions::new()
            .ttl(Duration::from_millis(40))
            .stale_after(Duration::from_millis(10))
            .back_off(Duration::from_millis(5), Duration::from_millis(5))
            .soft_timeout(soft_timeout);
        let cache = Cache::builder(tier).clock(clock.shared()).load_options(options).build();
        Self {
            clock,
            near,
            far,
            cache,
            row: Arc::default(),
            told: Arc::default(),
            loads: Arc::default(),
            turns: Arc::default(),
            calls: JoinSet::new(),
            held: Vec::new(),
        }
    }

    /// Runs a call of the cache that has to return nothing from before the last change.
    fn call(&mut self, answer: impl Future<Output = Option<Bytes>> + Send + 'static) {
        let told = self.told.load(Ordering::SeqCst);
        self.calls.spawn(async move {
            if let Some(payload) = answer.await {
                let number = u64::from_le_bytes(payload[..].try_into().unwrap());
                assert!(number >= told, "{number} was read, but the cache was told of {told}");
            }
        });
    }

    fn load(&self) -> impl FnOnce() -> super::Loading + Send + use<> {
        let (row, loads) = (Arc::clone(&self.row), Arc::clone(&self.loads));
        move || {
            let (answer, answered) = oneshot::channel();
            loads.lock().unwrap().push_back(answer);
            let number = row.load(Ordering::SeqCst);
            Box::pin(async move {
                // Nobody answers at the end of a schedule.
                if answered.await.unwrap_or(true) {
                    let payload = Bytes::copy_from_slice(&number.to_le_bytes());
                    Ok(Loaded::new(payload).tags(red()))
                } else {
                    Err(Broken(1))
                }
            })
        }
    }

    fn change(&mut self, how: How) {
        let (cache, told) = (self.cache.clone(), Arc::clone(&self.told));
        let (row, turns) = (Arc::clone(&self.row), Arc::clone(&self.turns));
        self.calls.spawn(async move {
            let _turn = turns.lock().await;
            let number = row.fetch_add(1, Ordering::SeqCst) + 1;
            match how {
                How::Remove => drop(cache.remove(key("k")).await.unwrap()),
                How::Put => {
                    let options = PutOptions::new()
                        .ttl(Duration::from_millis(40))
                        .stale_after(Duration::from_millis(10))
                        .tags(red());
                    let payload = Bytes::copy_from_slice(&number.to_le_bytes());
                    assert!(cache.put(key("k"), payload, options).await.unwrap().applied);
                }
                How::Tag => cache.remove_tag(&Tag::new("red").unwrap()),
                How::Clear => cache.clear().await.unwrap(),
            }
            told.fetch_max(number, Ordering::SeqCst);
        });
    }

    async fn step(&mut self, step: &Step) {
        match step {
            Step::Get => {
                let cache = self.cache.clone();
                self.call(async move { cache.get(key("k")).await.unwrap().map(|hit| hit.value) });
            }
            Step::GetOrLoad => {
                let (cache, load) = (self.cache.clone(), self.load());
                self.call(async move {
                    let given = cache.get_or_load(key("k"), load).await;
                    given.ok().flatten().map(|hit| hit.value)
                });
            }
            Step::Answer { at, well } => {
                let load = self.loads.lock().unwrap().remove(*at);
                if let Some(load) = load {
                    let _ = load.send(*well);
                }
            }
            Step::Change(how) => self.change(*how),
            Step::Hold(op, when) => self.held.push(self.far.hold(*op, *when)),
            Step::Release { at } if *at < self.held.len() => drop(self.held.remove(*at)),
            Step::Release { .. } => {}
            Step::Abort => {
                let (cache, load) = (self.cache.clone(), self.load());
                let caller = tokio::spawn(async move { cache.get_or_load(key("k"), load).await });
                settle().await;
                caller.abort();
            }
            Step::ForgetNear => drop(self.near.remove(key("k"), Condition::Always).await.unwrap()),
            Step::Advance { millis } => self.clock.advance(Duration::from_millis(*millis)),
        }
        settle().await;
    }

    /// Lets everything end, and looks once more.
    async fn end(mut self) {
        self.held.clear();
        for _ in 0..100 {
            self.loads.lock().unwrap().clear();
            settle().await;
        }
        self.step(&Step::Get).await;
        while let Some(call) = self.calls.join_next().await {
            call.unwrap();
        }
        // No load is left over that the next caller would join.
        self.cache.remove(key("k")).await.unwrap();
        let given = self
            .cache
            .get_or_load(key("k"), || async { Ok::<_, Broken>(Bytes::from_static(b"last")) });
        assert_eq!(given.await.unwrap().unwrap().value, "last");
    }
}

fn follow(world: impl FnOnce() -> World, steps: &[Step]) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut world = world();
        for step in steps {
            world.step(step).await;
        }
        world.end().await;
    });
}

proptest! {
    #[test]
    fn nothing_from_before_a_change_is_seen_after_it(
        steps in steps(),
        tiers in 1..3_usize,
        patient in any::<bool>(),
    ) {
        let soft_timeout = if patient { Duration::from_mins(1) } else { Duration::ZERO };
        follow(|| World::new(tiers, true, soft_timeout), &steps);
    }

    #[test]
    fn nothing_from_before_a_change_is_seen_after_it_in_tiers_without_conditions(
        steps in steps(),
        patient in any::<bool>(),
    ) {
        let soft_timeout = if patient { Duration::from_mins(1) } else { Duration::ZERO };
        follow(|| World::new(2, false, soft_timeout), &steps);
    }
}
