//! Every rule of freshness.

use std::time::Duration;

use larder::compose::{
    CompositionLayer, Freshness, Lifetime, ParallelReadPolicy, RefillPolicy, Timeless, prefer,
};
use larder_core::{CacheValue, SeqNo, Timestamp, VersionedData};
use proptest::prelude::*;

use super::script::{Layer, Stage, Value, version};
use CompositionLayer::{L1, L2};

const NOW: Timestamp = Timestamp::from_millis(1_000_000);

fn forever() -> Value {
    CacheValue::new("value")
}

fn for_nanos(nanos: u64) -> Value {
    forever().with_ttl(NOW, Duration::from_nanos(nanos))
}

fn for_millis(millis: u64) -> Value {
    for_nanos(millis * 1_000_000)
}

fn expired() -> Value {
    for_nanos(0)
}

fn long_gone() -> Value {
    let mut value = forever();
    value.expire = Some(NOW.saturating_sub(Duration::from_secs(1)));
    value
}

#[test]
fn an_expired_value_is_never_preferred_over_one_that_is_not() {
    for live in [for_nanos(1), for_millis(500), forever()] {
        for dead in [expired(), long_gone(), expired().with_version(version(9))] {
            for live in [live.clone(), live.clone().with_version(version(1))] {
                assert_eq!(prefer(&dead, &live, NOW), L2, "{dead:?} {live:?}");
                assert_eq!(prefer(&live, &dead, NOW), L1, "{live:?} {dead:?}");
            }
        }
    }
}

#[test]
fn half_a_second_left_never_beats_a_hundred() {
    assert_eq!(prefer(&for_millis(500), &for_millis(100_000), NOW), L2);
    assert_eq!(prefer(&for_millis(100_000), &for_millis(500), NOW), L1);
}

#[test]
fn a_nanosecond_more_is_more() {
    assert_eq!(prefer(&for_nanos(999), &for_nanos(1_000), NOW), L2);
    assert_eq!(prefer(&for_nanos(1_000), &for_nanos(999), NOW), L1);
}

#[test]
fn a_higher_version_beats_a_longer_life() {
    let newer = || for_millis(500).with_version(version(2));
    for older in [for_millis(100_000), forever()] {
        let older = older.with_version(version(1));
        assert_eq!(prefer(&older, &newer(), NOW), L2);
        assert_eq!(prefer(&newer(), &older, NOW), L1);
    }
}

#[test]
fn equal_versions_are_the_first_layers_whatever_their_lives() {
    let short = || for_millis(500).with_version(version(1));
    let long = || forever().with_version(version(1));
    assert_eq!(prefer(&short(), &long(), NOW), L1);
    assert_eq!(prefer(&long(), &short(), NOW), L1);
}

#[test]
fn a_version_on_one_side_only_says_nothing() {
    let versioned = || for_millis(500).with_version(version(9));
    assert_eq!(prefer(&versioned(), &for_millis(501), NOW), L2);
    assert_eq!(prefer(&for_millis(499), &versioned(), NOW), L2);
    assert_eq!(prefer(&versioned(), &for_millis(499), NOW), L1);
}

#[test]
fn one_that_never_expires_beats_any_that_does() {
    let longest = || CacheValue { expire: Some(Timestamp::MAX), ..forever() };
    assert_eq!(prefer(&longest(), &forever(), NOW), L2);
    assert_eq!(prefer(&forever(), &longest(), NOW), L1);
}

#[test]
fn a_tie_is_the_first_layers() {
    assert_eq!(prefer(&forever(), &forever(), NOW), L1);
    assert_eq!(prefer(&for_millis(7), &for_millis(7), NOW), L1);
}

#[test]
fn a_lifetime_tells_never_from_over() {
    assert_eq!(forever().lifetime(NOW), Lifetime::NeverExpires);
    assert_eq!(expired().lifetime(NOW), Lifetime::Expired);
    assert_eq!(long_gone().lifetime(NOW), Lifetime::Expired);
    let left = Lifetime::RemainingFor(Duration::from_nanos(1));
    assert_eq!(for_nanos(1).lifetime(NOW), left);
    assert!(Lifetime::Expired < left && left < Lifetime::NeverExpires);
}

#[test]
fn staleness_begins_at_its_moment_and_ends_never() {
    let value = forever().with_stale_after(NOW, Duration::from_nanos(1));
    assert!(!value.is_stale(NOW));
    assert!(value.is_stale(NOW.saturating_add(Duration::from_nanos(1))));
    assert!(expired().is_stale(NOW), "an expired value is stale as well");
    assert!(!forever().is_stale(Timestamp::MAX));
}

#[test]
fn a_higher_sequence_number_is_fresher() {
    let data = |seqno| VersionedData { seqno: SeqNo(seqno), data: bytes::Bytes::new() };
    assert_eq!(prefer(&data(5), &data(6), NOW), L2);
    assert_eq!(prefer(&data(6), &data(5), NOW), L1);
}

#[test]
fn context_travels_with_a_value_and_does_not_count() {
    assert_eq!(prefer(&(for_millis(1), "z"), &(for_millis(2), "a"), NOW), L2);
    assert_eq!(prefer(&Timeless("z"), &Timeless("a"), NOW), L1);
}

#[tokio::test]
async fn equal_versions_cause_no_refill_and_a_fresher_l2_does() {
    let stage = Stage::new();
    let near = stage.fresh("near").with_version(version(3));
    for (l2, source) in [(3, L1), (2, L1), (4, L2)] {
        let far = CacheValue::new("far").with_version(version(l2));
        let (l1, l2) = (Layer::now(Ok(Some(near.clone()))), Layer::now(Ok(Some(far))));
        let read = stage.read(&ParallelReadPolicy, &l1, &l2).await.expect("both hit");
        assert_eq!(read.source, source);
        assert_eq!(RefillPolicy::Always.wants(&read), source == L2);
        assert!(!RefillPolicy::Never.wants(&read));
    }
    let miss = larder::compose::ReadResult::<Value, ()>::miss();
    assert!(!RefillPolicy::Always.wants(&miss), "nothing to copy");
}

prop_compose! {
    fn any_value()(
        expire in proptest::option::of(0_u64..6),
        version_of in proptest::option::of(0_u64..3),
    ) -> Value {
        let mut value = forever();
        value.expire = expire.map(|at| {
            NOW.saturating_sub(Duration::from_nanos(2)).saturating_add(Duration::from_nanos(at))
        });
        value.version = version_of.map(version);
        value
    }
}

proptest! {
    /// The layer matters only between equals: swapping the values swaps the answer.
    #[test]
    fn preferring_is_antisymmetric(a in any_value(), b in any_value()) {
        let (one, other) = (prefer(&a, &b, NOW), prefer(&b, &a, NOW));
        if one == other {
            prop_assert_eq!(one, L1);
            let equal_versions = a.version.is_some() && a.version == b.version;
            let dead = a.lifetime(NOW) == Lifetime::Expired && b.lifetime(NOW) == Lifetime::Expired;
            prop_assert!(equal_versions || dead || a.lifetime(NOW) == b.lifetime(NOW));
        }
    }

    #[test]
    fn preferring_never_picks_a_dead_value_beside_a_live_one(a in any_value(), b in any_value()) {
        let chosen = match prefer(&a, &b, NOW) { L1 => &a, L2 => &b };
        let any_live = [&a, &b].iter().any(|value| value.lifetime(NOW) != Lifetime::Expired);
        prop_assert_eq!(chosen.lifetime(NOW) != Lifetime::Expired, any_live);
    }
}
