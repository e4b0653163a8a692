use larder_core::{Clock as _, ManualClock};

use super::*;

fn debts() -> Debts {
    Debts::new("test", CompositionLayer::L2, Arc::default(), Arc::default())
}

fn key(text: &str) -> KeyRef<'_> {
    KeyRef::new(text).unwrap()
}

#[test]
fn a_debt_is_paid_by_its_own_or_a_later_call_only() {
    let clock = ManualClock::default();
    let debts = debts();
    debts.owe(key("k"), 5, Loss::everything(clock.now()), || clock.instant());
    debts.pay(key("k"), 4);
    assert!(debts.owes(key("k")) && !debts.owes(key("other")));
    debts.pay(key("k"), 5);
    assert!(!debts.owes(key("k")));
}

#[test]
fn at_the_bound_the_whole_layer_counts_as_empty_until_it_was_cleared() {
    let clock = ManualClock::default();
    let debts = debts();
    for n in 0..=Debts::KEYS_MAX {
        debts.owe(key(&format!("k{n}")), 1, Loss::everything(clock.now()), || clock.instant());
    }
    assert!(debts.owes(key("never seen")));
    debts.pay(key("k1"), 9);
    assert!(debts.owes(key("k1")));
    assert_eq!(debts.wants_clear(|| clock.instant()), Some(Due::Remove));
    assert_eq!(debts.wants_clear(|| clock.instant()), None, "a pause between two attempts");
    clock.advance(Duration::from_secs(1));
    assert!(debts.wants_clear(|| clock.instant()).is_some());
    debts.pay_all(10);
    assert!(!debts.owes(key("k1")) && debts.wants_clear(|| clock.instant()).is_none());
}

#[test]
fn a_debt_of_a_version_lets_only_newer_versions_through() {
    let clock = ManualClock::default();
    let debts = debts();
    let version = |reading| Version::from_parts(reading, 1);
    let of = |reading, expire| {
        let missed = Some(Missed { version: version(reading), expire });
        Loss { missed, void: None }
    };
    let missed = |reading| of(reading, None);
    let owed = |reading| debts.owed(key("k"), version(reading), clock.now());
    assert_eq!(owed(1), Owed::Nothing);
    debts.owe(key("k"), 1, missed(9), || clock.instant());
    debts.owe(key("k"), 2, missed(5), || clock.instant());
    assert_eq!(owed(8), Owed::Newer);
    assert_eq!(owed(9), Owed::Newer);
    assert_eq!(owed(10), Owed::Void(Some(version(9))));
    // A later remove takes no part in versions.
    debts.owe(key("k"), 3, Loss::everything(clock.now()), || clock.instant());
    let removed = Some(latest(clock.now()));
    assert_eq!(owed(1), Owed::Void(removed));
    // What would be gone by now holds nobody back.
    debts.owe(key("k"), 4, of(9, Some(clock.now())), || clock.instant());
    assert_eq!(owed(1), Owed::Void(removed));
}

#[test]
fn a_debt_made_during_a_clear_outlives_it() {
    let clock = ManualClock::default();
    let debts = debts();
    debts.owe(key("old"), 1, Loss::everything(clock.now()), || clock.instant());
    debts.owe(key("new"), 3, Loss::everything(clock.now()), || clock.instant());
    debts.pay_all(2);
    assert!(!debts.owes(key("old")) && debts.owes(key("new")));
}
