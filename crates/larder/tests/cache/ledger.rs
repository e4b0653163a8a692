//! What a layer has missed does not come back with the next process either.
//!
//! A process ends by being dropped: what it has not written down by then is gone, as after a kill.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join_all;
use larder::cache::{Cache, DebtLedger, LedgerError, PutOptions, Tagged, Tiered};
use larder_core::{
    Condition, ManualClock, MemorySpool, SharedSpool, SharedTier, Spool, SpoolId, SystemClock,
    Tier, Version,
};
use larder_testkit::{Outage, Trouble};
use tokio::time::Instant;

use crate::load::records;
use crate::scripted::{Op, Scripted, When, data, key, text, version};

/// What several processes after one another have in common: a far tier and a spool.
struct World {
    clock: ManualClock,
    far: Scripted,
    spool: SharedSpool,
}

type Pair = Tiered<Scripted, Scripted>;

impl World {
    fn new() -> Self {
        let spool = MemorySpool::new(SystemClock::shared(), 64 << 20, MemorySpool::ENTRIES_MAX);
        Self::over(SharedSpool::new(spool))
    }

    fn over(spool: SharedSpool) -> Self {
        let clock = ManualClock::default();
        Self { far: Scripted::new("far", &clock).shared(), clock, spool }
    }

    /// A process that has just started: its near tier is empty.
    async fn process(&self) -> Pair {
        let ledger = DebtLedger::open(self.spool.clone(), "test").await.unwrap();
        let near = Scripted::new("near", &self.clock);
        Tiered::builder(near, self.far.clone()).clock(self.clock.shared()).debts(ledger).build()
    }

    async fn entries(&self) -> u64 {
        self.spool.stats().await.unwrap().entries
    }

    /// Waits until nothing is owed, in memory and in the spool.
    async fn settled(&self, pair: &Pair) {
        for _ in 0..10_000 {
            let owes = pair.debts().iter().any(|debts| debts.owed > 0 || debts.whole);
            if !owes && self.entries().await == 0 {
                return;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        panic!("{:?}, {} entries", pair.debts(), self.entries().await);
    }
}

fn newer(reading: u64) -> Condition {
    Condition::IfNewerThan(version(reading))
}

#[tokio::test(start_paused = true)]
async fn what_was_removed_in_vain_does_not_return_with_the_next_process() {
    let world = World::new();
    let first = world.process().await;
    for k in ["one", "two", "three"] {
        first.write(key(k), text("old"), Condition::Always).await.unwrap();
    }
    assert_eq!(world.entries().await, 0, "nothing is owed, nothing is written");
    world.far.fail(Op::Remove);
    first.remove(key("one"), Condition::Always).await.unwrap();
    assert_eq!(world.entries().await, 1);
    first.remove_many(&[key("two"), key("three")], Condition::Always).await.unwrap();
    assert_eq!(world.entries().await, 3);
    drop(first);

    let second = world.process().await;
    assert!(world.far.stored("one").is_some());
    for k in ["one", "two", "three"] {
        assert_eq!(data(&second, k).await, None, "{k}");
    }
    world.far.recover();
    // Something is done to the tier, and from then on what is owed is paid.
    second.write(key("other"), text("x"), Condition::Always).await.unwrap();
    world.settled(&second).await;
    for k in ["one", "two", "three"] {
        assert_eq!(world.far.stored(k), None, "{k}");
    }
    let third = world.process().await;
    assert_eq!(third.debts()[1].owed, 0);
}

#[tokio::test(start_paused = true)]
async fn what_was_replaced_in_vain_does_not_return_and_what_is_newer_stays() {
    let world = World::new();
    let first = world.process().await;
    for k in ["lost", "since", "after"] {
        let old = text("old").with_version(version(1));
        first.write(key(k), old, newer(1)).await.unwrap();
    }
    world.far.fail(Op::Write);
    for k in ["lost", "since", "after"] {
        for reading in [4, 5] {
            let mine = text("mine").with_version(version(reading));
            first.write(key(k), mine, newer(reading)).await.unwrap();
        }
    }
    assert_eq!(world.entries().await, 3, "one for each key, the newest");
    drop(first);
    world.far.recover();
    let theirs = text("theirs").with_version(version(9));
    world.far.plant("since", theirs.clone()).await;
    // Newer than the first of the missed writes, older than the second.
    world.far.plant("after", text("between").with_version(Version::from_parts(4, 7))).await;

    let second = world.process().await;
    for k in ["lost", "since", "after"] {
        assert_eq!(data(&second, k).await, None, "{k} counts as not there");
    }
    second.write(key("other"), text("x"), Condition::Always).await.unwrap();
    world.settled(&second).await;
    assert_eq!(world.far.stored("lost"), None);
    assert_eq!(world.far.stored("after"), None);
    assert_eq!(world.far.stored("since"), Some(theirs));
    assert_eq!(data(&second, "since").await, Some(Bytes::from("theirs")));
}

#[tokio::test(start_paused = true)]
async fn a_call_that_was_dropped_half_way_is_written_down_too() {
    let world = World::new();
    let first = Arc::new(world.process().await);
    first.write(key("k"), text("old"), Condition::Always).await.unwrap();
    let _held = world.far.hold(Op::Remove, When::Before);
    let remover = Arc::clone(&first);
    let remove = tokio::spawn(async move { remover.remove(key("k"), Condition::Always).await });
    while world.far.removes() == 0 {
        tokio::task::yield_now().await;
    }
    world.far.fail(Op::Remove);
    remove.abort();
    for _ in 0..1_000 {
        if world.entries().await == 1 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(world.entries().await, 1);
    drop(first);
    let second = world.process().await;
    assert!(world.far.stored("k").is_some());
    assert_eq!(data(&second, "k").await, None);
}

#[tokio::test(start_paused = true)]
async fn beyond_the_bound_and_after_a_clear_the_layer_owes_everything_still() {
    for clear in [false, true] {
        let world = World::new();
        let first = world.process().await;
        world.far.plant("k", text("old")).await;
        world.far.fail(Op::Remove);
        if clear {
            first.clear().await.unwrap_err();
        } else {
            let keys: Vec<String> = (0..20_000).map(|n| format!("k{n}")).collect();
            let keys: Vec<_> = keys.iter().map(|k| key(k)).collect();
            for some in keys.chunks(1_000) {
                first.remove_many(some, Condition::Always).await.unwrap();
                assert!(world.entries().await <= 16_385);
            }
        }
        assert!(first.debts()[1].whole);
        assert_eq!(world.entries().await, 1, "the layer as a whole");
        drop(first);
        let second = world.process().await;
        assert_eq!(data(&second, "k").await, None);
        world.far.recover();
        world.clock.advance(Duration::from_secs(2));
        second.write(key("other"), text("x"), Condition::Always).await.unwrap();
        world.settled(&second).await;
        assert_eq!(world.far.stored("k"), None);
    }
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_is_full_costs_no_call_and_gets_the_debt_when_there_is_room() {
    let world = World::over(SharedSpool::new(MemorySpool::new(SystemClock::shared(), 1 << 20, 1)));
    // Somebody else has the only place.
    let ledger = DebtLedger::open(world.spool.clone(), "other").await.unwrap();
    let (near, far) = (Scripted::new("near", &world.clock), world.far.another_way());
    let other = Tiered::builder(near, far.clone()).clock(world.clock.shared()).debts(ledger);
    let other = other.build();
    far.fail(Op::Remove);
    other.remove(key("theirs"), Condition::Always).await.unwrap();

    let first = world.process().await;
    first.write(key("k"), text("old"), Condition::Always).await.unwrap();
    world.far.fail(Op::Remove);
    first.remove(key("k"), Condition::Always).await.unwrap();
    assert_eq!((world.entries().await, first.debts()[1].owed), (1, 1));
    assert_eq!(data(&first, "k").await, None);
    far.recover();
    for _ in 0..1_000 {
        tokio::time::sleep(Duration::from_millis(10)).await;
        // Theirs may be paid and not yet removed: whose entry it is tells whether it is ours.
        if other.debts()[1].owed == 0 && world.process().await.debts()[1].owed == 1 {
            break;
        }
    }
    drop((first, other));
    assert_eq!(world.process().await.debts()[1].owed, 1, "by nobody's call");
}

#[tokio::test(start_paused = true)]
async fn a_spool_that_hangs_holds_a_call_up_for_two_seconds_whatever_it_has_to_write() {
    let (clock, outage) = (ManualClock::default(), Outage::default());
    let kept = MemorySpool::new(SystemClock::shared(), 64 << 20, MemorySpool::ENTRIES_MAX);
    let kept = SharedSpool::new(kept);
    let ledger = DebtLedger::open(SharedSpool::new(outage.over(kept.clone())), "test").await;
    let layers = ["near", "far"].map(|label| Scripted::new(label, &clock));
    let [near, far] = layers.clone();
    let tier = Tiered::builder(near, far).clock(clock.shared()).debts(ledger.unwrap()).build();
    for layer in &layers {
        layer.fail(Op::Remove);
        layer.fail(Op::Write);
    }
    outage.begin(Trouble::Hangs);
    let limit = Duration::from_secs(2);
    let begun = Instant::now();
    tier.clear().await.unwrap_err();
    assert_eq!(begun.elapsed(), limit, "both layers owe everything");
    // Writers that come together, each with something to write down: nobody waits for the others' limits.
    layers[0].recover();
    let begun = Instant::now();
    let keys: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    let removes = keys.iter().map(|k| tier.remove(key(k), Condition::Always));
    for removed in join_all(removes).await {
        removed.unwrap();
    }
    assert_eq!(begun.elapsed(), limit, "ten at once");
    let stats = tier.debts();
    assert_eq!((kept.stats().await.unwrap().entries, stats[1].whole), (0, true));
    outage.end();
    tier.remove(key("k"), Condition::Always).await.unwrap();
    assert_eq!(kept.stats().await.unwrap().entries, 2, "each layer owes everything");
}

#[tokio::test]
async fn a_spool_of_other_things_is_refused_and_left_alone() {
    let world = World::new();
    let id = SpoolId::new(&SystemClock);
    let mail = Bytes::from_static(b"Subject: hello");
    world.spool.store(id, mail.clone(), true, None).await.unwrap();
    let refused = DebtLedger::open(world.spool.clone(), "test").await.unwrap_err();
    assert!(matches!(refused, LedgerError::Foreign { id: named } if named == id));
    assert_eq!((world.spool.load(id).await.unwrap(), world.entries().await), (mail, 1));
}

#[tokio::test(start_paused = true)]
async fn debts_that_cannot_be_read_are_those_of_every_key() {
    let world = World::new();
    let damaged = Bytes::from_static(b"LRDO and then rubbish");
    world.spool.store(SpoolId::new(&SystemClock), damaged, true, None).await.unwrap();
    world.far.plant("k", text("old")).await;
    let first = world.process().await;
    assert!(first.debts().iter().all(|debts| debts.whole));
    assert_eq!(world.entries().await, 2, "one for each layer, and the damaged one is gone");
    assert_eq!(data(&first, "k").await, None);
    world.clock.advance(Duration::from_secs(2));
    first.write(key("other"), text("x"), Condition::Always).await.unwrap();
    world.settled(&first).await;
    assert_eq!(world.far.stored("k"), None);
}

#[tokio::test(start_paused = true)]
async fn several_share_a_spool_under_names_of_their_own() {
    let world = World::new();
    let first = world.process().await;
    world.far.fail(Op::Remove);
    first.remove(key("k"), Condition::Always).await.unwrap();
    let other = DebtLedger::open(world.spool.clone(), "other").await.unwrap();
    let near = Scripted::new("near", &world.clock);
    let other = Tiered::builder(near, world.far.clone()).debts(other).build();
    assert_eq!(other.debts()[1].owed, 0);
    other.remove(key("j"), Condition::Always).await.unwrap();
    assert_eq!(world.entries().await, 2);
    assert_eq!(world.process().await.debts()[1].owed, 1);
}

#[tokio::test(start_paused = true)]
async fn a_cache_pays_what_its_last_process_owed_without_being_asked() {
    let world = World::new();
    let cache = async || {
        let ledger = DebtLedger::open(world.spool.clone(), "test").await.unwrap();
        let [near, far] =
            [&Scripted::new("near", &world.clock), &world.far].map(|at| records(at, &world.clock));
        let tier = Tiered::builder(near, far).clock(world.clock.shared()).debts(ledger).build();
        let tier: SharedTier<Tagged<Bytes>> = SharedTier::new(tier);
        Cache::builder(tier).clock(world.clock.shared()).build()
    };
    let first = cache().await;
    first.put(key("k"), Bytes::from("old"), PutOptions::new()).await.unwrap();
    world.far.fail(Op::Remove);
    first.remove(key("k")).await.unwrap();
    drop(first);
    world.far.recover();
    let _second = cache().await;
    for _ in 0..1_000 {
        if world.entries().await == 0 {
            break;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    assert_eq!((world.entries().await, world.far.usage().unwrap().entries), (0, 0));
}
