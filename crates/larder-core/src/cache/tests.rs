use super::*;
use crate::ManualClock;

#[test]
fn a_value_is_fresh_then_stale_then_expired_at_the_exact_moments() {
    let clock = ManualClock::default();
    let value = CacheValue::new(1)
        .with_ttl(clock.now(), Duration::from_millis(20))
        .with_stale_after(clock.now(), Duration::from_millis(10));
    assert_eq!(value.age(&clock), Age::Fresh);
    clock.advance(Duration::from_millis(10));
    assert_eq!(value.age(&clock), Age::Stale);
    clock.advance(Duration::from_nanos(9_999_999));
    assert_eq!(value.age(&clock), Age::Stale);
    clock.advance(Duration::from_nanos(1));
    assert_eq!(value.age(&clock), Age::Expired);
    assert_eq!(value.age_at(clock.now()), Age::Expired);
}

#[test]
fn if_newer_than_gives_way_to_equal_and_higher_versions_only() {
    let [low, high] = [1, 2].map(|reading| Version::from_parts(reading, 0));
    let newer = Condition::IfNewerThan(high);
    assert!(newer.holds(None) && newer.holds(Some(None)) && newer.holds(Some(Some(low))));
    assert!(!newer.holds(Some(Some(high))));
    assert!(!Condition::IfNewerThan(low).holds(Some(Some(high))));
}

#[test]
fn if_version_is_needs_the_very_same_record() {
    let version = Version::from_parts(1, 0);
    let same = Condition::IfVersionIs(Some(version));
    assert!(same.holds(Some(Some(version))));
    assert!(!same.holds(Some(None)) && !same.holds(None));
    assert!(Condition::IfVersionIs(None).holds(Some(None)));
}

#[test]
fn what_a_tier_has_at_hand_is_as_long_as_the_hit_inside() {
    // A longer one is moved out of step with the hit, which doubles the time of a look-up.
    assert_eq!(size_of::<Now<Box<str>>>(), size_of::<Found<Box<str>>>());
    assert_eq!(size_of::<Option<Source>>(), size_of::<Source>());
}

#[test]
fn a_source_is_walked_from_the_top_down() {
    // The leaf is the second layer of a tier that is the first layer of the top.
    let source = Source::HERE.below(true).below(false);
    let (first, rest) = source.step();
    let (second, leaf) = rest.step();
    assert_eq!((first, second), (false, true));
    assert_eq!(leaf, Source::HERE);
    // Whoever has no layers inside does not ask on; whoever has is led to the first.
    assert_eq!(leaf.step(), (false, Source::HERE));
}
