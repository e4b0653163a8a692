//! Cases 1, 2 and 6 to 10: what is kept, served and removed.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{MemoryCache, PutOptions, Schema, Tiered};
use larder::compose::{
    AnyReadPolicy, BoundedOffload, DisabledOffload, OnLayerError, RaceLoserPolicy, RaceWritePolicy,
};
use larder_core::{
    Age, CacheValue, Clock as _, Condition, LayerState, ManualClock, SharedTier, Tier as _,
};

use super::{Path, Settings, drained, paths};
use crate::load::{Loader, settle};
use crate::scripted::{Op, Scripted, When, data, key, text};

const READS: [&str; 3] = ["sequential", "race", "parallel"];

fn reading(policy: &str) -> Settings {
    Settings { read: policy.parse::<AnyReadPolicy>().unwrap(), ..Settings::default() }
}

fn fail(leaves: &[Scripted], op: Op) {
    for leaf in leaves {
        leaf.fail(op);
    }
}

fn ttl(millis: u64) -> PutOptions {
    PutOptions::new().ttl(Duration::from_millis(millis))
}

#[tokio::test]
async fn a_copy_ends_with_the_far_value_or_at_the_near_maximum() {
    for (near_max, left) in [(Some(60), 3), (Some(1), 1), (None, 3)] {
        let near_max = near_max.map(Duration::from_secs);
        for path in paths(&Settings { near_max, ..Settings::default() }) {
            path.plant(path.far(), "refilled", "v", ttl(3_000)).await;
            assert!(path.get("refilled").await.is_some(), "{}", path.name);
            path.put("written", "v", ttl(3_000)).await;
            let end = |seconds| Some(path.clock.now().saturating_add(Duration::from_secs(seconds)));
            for k in ["refilled", "written"] {
                for leaf in &path.leaves {
                    let is_far = std::ptr::eq(leaf, path.far());
                    let expire = path.held(leaf, k).await.unwrap().expire;
                    assert_eq!(expire, end(if is_far { 3 } else { left }), "{} {k}", path.name);
                }
            }
        }
    }
}

#[tokio::test]
async fn lives_under_a_second_end_in_every_tier_and_none_clears_what_was_there() {
    for path in paths(&Settings::default()) {
        let before = ttl(3_000).stale_after(Duration::from_millis(500));
        let lives = [("half", Some(500)), ("one", Some(1)), ("zero", Some(0)), ("none", None)];
        for (k, life) in lives {
            path.put(k, "old", before.clone()).await;
            path.put(k, "new", life.map_or(PutOptions::new(), ttl)).await;
        }
        path.all_have("zero", None).await;
        path.all_have("one", Some("new")).await;
        path.clock.advance(Duration::from_millis(1));
        path.all_have("one", None).await;
        path.all_have("half", Some("new")).await;
        path.clock.advance(Duration::from_millis(599));
        path.all_have("half", None).await;
        for leaf in &path.leaves {
            let held = path.held(leaf, "none").await.unwrap();
            assert_eq!((held.expire, held.stale), (None, None), "{}", path.name);
        }
        path.clock.advance(Duration::from_hours(1));
        for (k, _) in lives {
            let wanted = (k == "none").then(|| Bytes::from("new"));
            assert_eq!(path.get(k).await, wanted, "{} {k}", path.name);
        }
    }
}

#[tokio::test]
async fn what_has_expired_is_never_chosen_and_of_two_the_newer_write_wins() {
    for read in READS {
        for path in paths(&reading(read)) {
            let second = Duration::from_secs(1);
            path.plant(path.near(), "expired", "old", ttl(900)).await;
            path.plant(path.near(), "stale", "old", PutOptions::new().stale_after(second)).await;
            path.plant(path.near(), "replaced", "old", PutOptions::new()).await;
            path.clock.advance(second);
            for k in ["expired", "stale", "replaced"] {
                path.plant(path.far(), k, "new", ttl(100_000)).await;
            }
            let new = Some(Bytes::from("new"));
            assert_eq!(path.get("expired").await, new, "{} {read}", path.name);
            if read != "race" {
                // Race: the first one that has something.
                assert_eq!(path.get("stale").await, new, "{} {read}", path.name);
            }
            if read == "parallel" {
                // The others do not ask the far tier, or do not wait for it, when the near one has it fresh.
                assert_eq!(path.get("replaced").await, new, "{} {read}", path.name);
                path.all_have("replaced", Some("new")).await;
            }
        }
    }
}

#[tokio::test]
async fn a_stale_value_at_hand_does_not_hide_a_fresh_far_one() {
    // A memory tier answers without waiting, which is a way of its own through a pair of tiers.
    for three in [false, true] {
        let clock = ManualClock::default();
        let near: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).clock(clock.shared()).build();
        let near = SharedTier::new(near);
        let far = Scripted::new("far", &clock);
        let top = if three {
            let middle: MemoryCache<Bytes> =
                MemoryCache::builder(1 << 20).clock(clock.shared()).build();
            let below = Tiered::builder(middle, far.clone()).clock(clock.shared()).build();
            let tier = Tiered::builder(near.clone(), below).clock(clock.shared()).build();
            SharedTier::new(tier)
        } else {
            let tier = Tiered::builder(near.clone(), far.clone()).clock(clock.shared()).build();
            SharedTier::new(tier)
        };
        let old = text("old").with_stale_after(clock.now(), Duration::from_secs(1));
        near.write(key("k"), old, Condition::Always).await.unwrap();
        clock.advance(Duration::from_secs(2));
        far.plant("k", text("new")).await;
        assert_eq!(data(&top, "k").await, Some(Bytes::from("new")), "three: {three}");
    }
}

#[tokio::test]
async fn a_tier_that_fails_means_the_same_under_every_policy_and_no_error_is_lost() {
    for read in READS {
        for on_layer_error in [OnLayerError::Miss, OnLayerError::Fail] {
            for near_is_down in [true, false] {
                for path in paths(&Settings { on_layer_error, ..reading(read) }) {
                    let (near, far) = path.leaves.split_at(1);
                    let (down, up) = if near_is_down { (near, far) } else { (far, near) };
                    path.plant(&up[up.len() - 1], "held", "v", PutOptions::new()).await;
                    fail(down, Op::Read);
                    let told = format!("{} {read} {on_layer_error:?} {near_is_down}", path.name);
                    assert_eq!(path.get("held").await, Some(Bytes::from("v")), "{told}");
                    let absent = path.cache.get(key("absent")).await;
                    match on_layer_error {
                        OnLayerError::Miss => assert!(absent.unwrap().is_none(), "{told}"),
                        OnLayerError::Fail => assert!(absent.is_err(), "{told}"),
                    }
                    fail(up, Op::Read);
                    let error = path.cache.get(key("absent")).await.unwrap_err();
                    let chain = larder_core::error::chain(&error);
                    let errors = chain.matches("it is down").count();
                    assert_eq!(errors, path.leaves.len(), "{told}: {chain}");
                }
            }
        }
    }
}

#[tokio::test]
async fn a_copy_that_fails_changes_nothing_for_the_caller() {
    for read in READS {
        for path in paths(&reading(read)) {
            path.plant(path.far(), "k", "v", PutOptions::new()).await;
            fail(&path.leaves[..path.leaves.len() - 1], Op::Write);
            for _ in 0..2 {
                assert_eq!(path.get("k").await, Some(Bytes::from("v")), "{} {read}", path.name);
            }
        }
    }
}

#[tokio::test]
async fn a_stale_far_hit_fills_the_tiers_above_and_the_refreshed_value_reaches_all() {
    for path in paths(&Settings::default()) {
        let loader = Loader::default();
        let (hour, now) = (Duration::from_hours(1), path.clock.now());
        let stale = PutOptions::new().ttl(hour).stale_after(Duration::from_secs(1));
        path.plant(path.far(), "k", "old", stale).await;
        path.clock.advance(Duration::from_secs(2));
        let load = loader.load();
        let hit = path.cache.get_or_load(key("k"), load).await.unwrap().unwrap();
        assert_eq!((hit.value, hit.age), (Bytes::from("old"), Age::Stale), "{}", path.name);
        for leaf in &path.leaves {
            let held = path.held(leaf, "k").await.unwrap();
            let wanted = [1, 3_600].map(|s| Some(now.saturating_add(Duration::from_secs(s))));
            assert_eq!([held.stale, held.expire], wanted, "{}", path.name);
        }
        settle().await;
        loader.answer(0, Bytes::from("new")).await;
        path.all_have("k", Some("new")).await;
        let hit = path.cache.get(key("k")).await.unwrap().unwrap();
        assert_eq!((hit.value, hit.age), (Bytes::from("new"), Age::Fresh), "{}", path.name);
    }
}

#[tokio::test]
async fn what_a_tier_that_failed_was_to_remove_is_not_served_nor_copied_up() {
    for path in paths(&Settings::default()) {
        path.put("k", "old", PutOptions::new()).await;
        path.far().fail(Op::Remove);
        path.cache.remove(key("k")).await.unwrap();
        let stats = path.tier.tier_stats();
        assert_eq!(stats.last().unwrap().owed_keys, 1, "{}: it tells", path.name);
        path.far().recover();
        assert!(path.held(path.far(), "k").await.is_some(), "{}", path.name);
        assert_eq!(path.get("k").await, None, "{}", path.name);
        let above = &path.values("k").await[..path.leaves.len() - 1];
        assert!(above.iter().all(Option::is_none), "{}", path.name);
    }
}

#[tokio::test]
async fn a_race_that_leaves_a_tier_out_says_so_and_its_old_value_is_not_served() {
    for loser in [RaceLoserPolicy::Drop, RaceLoserPolicy::Offload] {
        let (write, offload) = (RaceWritePolicy { loser }.into(), DisabledOffload::new().into());
        for path in paths(&Settings { write, offload, ..Settings::default() }) {
            path.put("k", "old", PutOptions::new()).await;
            let below = &path.leaves[1..];
            let held: Vec<_> =
                below.iter().map(|leaf| leaf.hold(Op::Write, When::Before)).collect();
            let layers = path.write("k", "new").await;
            assert_eq!(layers, [LayerState::Done, LayerState::NotTried], "{}", path.name);
            drop(held);
            settle().await;
            path.lose_near("k").await;
            assert_ne!(path.get("k").await, Some(Bytes::from("old")), "{}", path.name);
        }
    }
}

#[tokio::test]
async fn the_late_loser_of_a_race_lands_neither_over_a_newer_write_nor_after_a_remove() {
    for removes in [false, true] {
        let offload = BoundedOffload::default();
        let write = RaceWritePolicy { loser: RaceLoserPolicy::Offload }.into();
        let settings = Settings { write, offload: offload.clone().into(), ..Settings::default() };
        for path in paths(&settings) {
            let held = path.far().hold(Op::Write, When::Before);
            path.write("k", "first").await;
            let path = Arc::new(path);
            let changing = {
                let path = Arc::clone(&path);
                tokio::spawn(async move {
                    if removes {
                        let _ = path.cache.remove(key("k")).await.unwrap();
                    } else {
                        path.write("k", "second").await;
                    }
                })
            };
            settle().await;
            drop(held);
            changing.await.unwrap();
            drained(&offload).await;
            path.all_have("k", (!removes).then_some("second")).await;
        }
    }
}

/// What may lie in a store in the place of a record, made from a sound one; and whether it is ours, so
/// that it is taken away.
fn garbage(sound: &Bytes) -> Vec<(&'static str, Bytes, bool)> {
    let with = |change: fn(&mut Vec<u8>)| {
        let mut bytes = sound.to_vec();
        change(&mut bytes);
        Bytes::from(bytes)
    };
    vec![
        ("nothing", Bytes::new(), false),
        ("something else", Bytes::from_static(b"{\"a\":1}"), false),
        ("a later layout", with(|bytes| bytes[4] = 2), false),
        ("a flipped bit", with(|bytes| *bytes.last_mut().unwrap() ^= 1), true),
        ("half a record", with(|bytes| bytes.truncate(bytes.len() - 3)), true),
        ("half a header", with(|bytes| bytes.truncate(20)), true),
    ]
}

/// Where a record of `k` is.
fn place(k: &str) -> String {
    format!("test:{:016x}:={k}", Schema::new("test", "bytes", 1).unwrap().fingerprint())
}

async fn spoil(leaf: &Scripted, k: &str, bytes: Bytes) {
    // From an odd address.
    let odd = Bytes::from([&[0][..], &bytes].concat()).slice(1..);
    leaf.plant(&place(k), CacheValue::new(odd)).await;
}

#[tokio::test]
async fn what_cannot_be_read_is_a_miss_and_the_next_tier_or_the_loader_is_asked() {
    for path in paths(&Settings::default()) {
        let other = Path::new("static", &Settings::default());
        other.put("sound", "v", PutOptions::new()).await;
        let sound = other.far().stored(&place("sound")).unwrap().data;
        for (what, bytes, is_ours) in garbage(&sound) {
            let told = format!("{} {what}", path.name);
            // Everywhere: a miss, and nobody's error.
            for leaf in &path.leaves {
                spoil(leaf, "all", bytes.clone()).await;
            }
            assert_eq!(path.get("all").await, None, "{told}");
            for leaf in &path.leaves {
                assert_eq!(leaf.stored(&place("all")).is_none(), is_ours, "{told}");
            }
            let load = async || Ok::<_, std::io::Error>(Some(Bytes::from("loaded")));
            let hit = path.cache.get_or_load(key("all"), load).await.unwrap().unwrap();
            assert_eq!(hit.value, Bytes::from("loaded"), "{told}");
            path.all_have("all", Some("loaded")).await;
            // In the near tier: the far one has it still.
            path.plant(path.far(), "near", "far", PutOptions::new()).await;
            spoil(path.near(), "near", bytes).await;
            assert_eq!(path.get("near").await, Some(Bytes::from("far")), "{told}");
            path.cache.remove(key("near")).await.unwrap();
        }
    }
}
