//! Random operations on a tier and on the reference, which must answer alike.

use std::time::Duration;

use bytes::Bytes;
use larder::cache::{Encoded, MemoryCache, NoCompression, RawCodec, Schema, Tiered};
use larder::compose::{AnyReadPolicy, AnyWritePolicy};
use larder_core::reference::ReferenceTier;
use larder_core::{
    CacheValue, Clock as _, Condition, DeleteStatus, ManualClock, Tier, WriteStatus,
};
use proptest::prelude::*;

use crate::scripted::{key, version};

#[derive(Clone, Debug)]
pub(crate) enum Step {
    Write {
        key: usize,
        payload: u8,
        ttl: Option<u64>,
        stale: Option<u64>,
        version: Option<u64>,
        condition: u8,
    },
    Remove {
        key: usize,
        version: Option<u64>,
        condition: u8,
    },
    Read {
        key: usize,
    },
    ReadMany,
    WriteMany {
        keys: Vec<usize>,
        payload: u8,
        version: Option<u64>,
        condition: u8,
    },
    RemoveMany {
        keys: Vec<usize>,
        version: Option<u64>,
        condition: u8,
    },
    Clear,
    Advance {
        millis: u64,
    },
}

const KEYS: [&str; 3] = ["a", "b", "c"];

pub(crate) fn steps() -> impl Strategy<Value = Vec<Step>> {
    let keys = || 0..KEYS.len();
    let versions = || proptest::option::of(0..6_u64);
    let millis = || proptest::option::of(0..40_u64);
    let step = prop_oneof![
        6 => (keys(), any::<u8>(), millis(), millis(), versions(), 0..3_u8).prop_map(
            |(key, payload, ttl, stale, version, condition)| Step::Write {
                key, payload, ttl, stale, version, condition
            }
        ),
        2 => (keys(), versions(), 0..3_u8)
            .prop_map(|(key, version, condition)| Step::Remove { key, version, condition }),
        4 => keys().prop_map(|key| Step::Read { key }),
        1 => Just(Step::ReadMany),
        2 => (prop::collection::vec(keys(), 0..4), 0..200_u8, versions(), 0..3_u8).prop_map(
            |(keys, payload, version, condition)| Step::WriteMany {
                keys, payload, version, condition
            }
        ),
        1 => (prop::collection::vec(keys(), 0..4), versions(), 0..3_u8).prop_map(
            |(keys, version, condition)| Step::RemoveMany { keys, version, condition }
        ),
        1 => Just(Step::Clear),
        3 => (0..20_u64).prop_map(|millis| Step::Advance { millis }),
    ];
    proptest::collection::vec(step, 1..60)
}

fn condition(kind: u8, of: Option<u64>) -> Condition {
    match (kind, of) {
        (1, Some(of)) => Condition::IfNewerThan(version(of)),
        (2, of) => Condition::IfVersionIs(of.map(version)),
        _ => Condition::Always,
    }
}

/// Runs the steps on both, with conditions or always.
pub(crate) async fn follow(
    tier: &impl Tier<Bytes>,
    clock: &ManualClock,
    steps: &[Step],
    conditions: bool,
) {
    let model = ReferenceTier::new("model", clock.shared());
    let pick = |kind, of| if conditions { condition(kind, of) } else { Condition::Always };
    for step in steps {
        match step {
            Step::Write { key: k, payload, ttl, stale, version: v, condition: kind } => {
                let now = clock.now();
                let mut value = CacheValue::new(Bytes::from(vec![*payload]));
                value.expire = ttl.map(|ttl| now.saturating_add(Duration::from_millis(ttl)));
                value.stale = stale.map(|stale| now.saturating_add(Duration::from_millis(stale)));
                value.version = v.map(version);
                let condition = pick(*kind, *v);
                let said = tier.write(key(KEYS[*k]), value.clone(), condition).await.unwrap();
                let wanted = model.write(key(KEYS[*k]), value, condition).await.unwrap();
                assert_eq!(said.applied, wanted.applied, "{step:?}");
            }
            Step::Remove { key: k, version: v, condition: kind } => {
                let condition = pick(*kind, *v);
                let said = tier.remove(key(KEYS[*k]), condition).await.unwrap();
                let wanted = model.remove(key(KEYS[*k]), condition).await.unwrap();
                assert_eq!(said.count() > 0, wanted.count() > 0, "{step:?}");
            }
            Step::Read { key: k } => {
                let said = tier.read(key(KEYS[*k])).await.unwrap().map(|found| found.value);
                let wanted = model.read(key(KEYS[*k])).await.unwrap().map(|found| found.value);
                assert_eq!(said, wanted, "{step:?}");
            }
            Step::ReadMany => {
                let keys = KEYS.map(key);
                let values = |found: Vec<Option<larder_core::Found<Bytes>>>| {
                    found
                        .into_iter()
                        .map(|found| found.map(|found| found.value))
                        .collect::<Vec<_>>()
                };
                let said = values(tier.read_many(&keys).await.unwrap());
                assert_eq!(said, values(model.read_many(&keys).await.unwrap()));
            }
            Step::WriteMany { keys, payload, version: v, condition: kind } => {
                let condition = pick(*kind, *v);
                let entries: Vec<_> = (*payload..)
                    .zip(keys)
                    .map(|(payload, k)| {
                        let mut value = CacheValue::new(Bytes::from(vec![payload]));
                        value.version = v.map(version);
                        (key(KEYS[*k]).to_key(), value)
                    })
                    .collect();
                let applied = |written: Vec<WriteStatus>| {
                    written.iter().map(|status| status.applied).collect::<Vec<_>>()
                };
                let said = tier.write_many(entries.clone(), condition).await.unwrap();
                let wanted = model.write_many(entries, condition).await.unwrap();
                assert_eq!(applied(said), applied(wanted), "{step:?}");
            }
            Step::RemoveMany { keys, version: v, condition: kind } => {
                let condition = pick(*kind, *v);
                let keys: Vec<_> = keys.iter().map(|k| key(KEYS[*k])).collect();
                let there = |removed: Vec<DeleteStatus>| {
                    removed.iter().map(|status| status.count() > 0).collect::<Vec<_>>()
                };
                let said = tier.remove_many(&keys, condition).await.unwrap();
                let wanted = model.remove_many(&keys, condition).await.unwrap();
                assert_eq!(there(said), there(wanted), "{step:?}");
            }
            Step::Clear => {
                tier.clear().await.unwrap();
                model.clear().await.unwrap();
            }
            Step::Advance { millis } => clock.advance(Duration::from_millis(*millis)),
        }
    }
}

pub(crate) fn block_on(work: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(work);
}

proptest! {
    #[test]
    fn the_memory_cache_answers_as_the_reference_does(steps in steps()) {
        let clock = ManualClock::default();
        let cache = MemoryCache::builder(16 << 20).clock(clock.shared()).build();
        block_on(follow(&cache, &clock, &steps, true));
    }
}

proptest! {
    #[test]
    fn two_tiers_answer_as_the_reference_does(steps in steps(), read in 0..3_usize, write in 0..2_usize) {
        let clock = ManualClock::default();
        let near: MemoryCache<Bytes> =
            MemoryCache::builder(16 << 20).clock(clock.shared()).build();
        let far = ReferenceTier::new("far", clock.shared());
        let read: AnyReadPolicy = ["sequential", "race", "parallel"][read].parse().unwrap();
        let write: AnyWritePolicy = ["sequential", "optimistic-parallel"][write].parse().unwrap();
        let tiered =
            Tiered::builder(near, far).clock(clock.shared()).read(read).write(write).build();
        block_on(follow(&tiered, &clock, &steps, true));
    }

    #[test]
    fn records_in_a_store_of_bytes_answer_as_the_reference_does(steps in steps()) {
        let clock = ManualClock::default();
        let store: MemoryCache<Bytes> =
            MemoryCache::builder(16 << 20).clock(clock.shared()).build();
        let schema = Schema::new("test", "bytes", 1).unwrap();
        let tier = Encoded::new(store, RawCodec, NoCompression, schema).with_clock(clock.shared());
        block_on(follow(&tier, &clock, &steps, true));
    }

    #[test]
    fn two_tiers_answer_as_the_reference_does_also_when_the_near_one_forgets(steps in steps()) {
        let clock = ManualClock::default();
        // Room for one entry.
        let near: MemoryCache<Bytes> = MemoryCache::builder(350).clock(clock.shared()).build();
        let far = ReferenceTier::new("far", clock.shared());
        let tiered = Tiered::builder(near, far).clock(clock.shared()).build();
        block_on(follow(&tiered, &clock, &steps, false));
    }
}
