//! Policies by name.

use larder::compose::{
    AnyReadPolicy, AnyWritePolicy, OnLayerError, RaceLoserPolicy, RaceReadPolicy, RaceWritePolicy,
    RefillPolicy,
};
use larder_core::{Effect, Failure as _, Retry};

#[test]
fn read_policies_have_their_names() {
    for name in ["sequential", "race", "parallel"] {
        assert_eq!(name.parse::<AnyReadPolicy>().expect("a policy").to_string(), name);
    }
    let offloads = AnyReadPolicy::Race(RaceReadPolicy { loser: RaceLoserPolicy::Offload });
    assert_eq!("race".parse(), Ok(offloads));
    assert_eq!(AnyReadPolicy::default().as_str(), "sequential");
}

#[test]
fn write_policies_have_their_names() {
    for name in ["sequential", "optimistic-parallel", "race"] {
        assert_eq!(name.parse::<AnyWritePolicy>().expect("a policy").to_string(), name);
    }
    let offloads = AnyWritePolicy::Race(RaceWritePolicy { loser: RaceLoserPolicy::Offload });
    assert_eq!("race".parse(), Ok(offloads));
    assert_eq!(AnyWritePolicy::default().as_str(), "optimistic-parallel");
}

#[test]
fn the_other_choices_have_their_names_and_defaults() {
    assert_eq!("never".parse(), Ok(RefillPolicy::Never));
    assert_eq!("always".parse(), Ok(RefillPolicy::Always));
    assert_eq!(RefillPolicy::default().as_str(), "never");
    assert_eq!("miss".parse(), Ok(OnLayerError::Miss));
    assert_eq!("fail".parse(), Ok(OnLayerError::Fail));
    assert_eq!(OnLayerError::default().as_str(), "miss");
    assert_eq!("offload".parse(), Ok(RaceLoserPolicy::Offload));
    assert_eq!("drop".parse(), Ok(RaceLoserPolicy::Drop));
    assert_eq!(RaceLoserPolicy::default().as_str(), "offload");
}

#[test]
fn a_wrong_name_is_told_with_the_right_ones() {
    let error = "optimistic".parse::<AnyWritePolicy>().expect_err("not a name");
    assert_eq!(
        error.to_string(),
        "there is no write policy \"optimistic\": use one of sequential, optimistic-parallel, race"
    );
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never));
    for text in ["", "Race", "race ", "parallel"] {
        assert!(text.parse::<AnyWritePolicy>().is_err(), "{text:?}");
    }
    assert!("write-behind".parse::<AnyReadPolicy>().is_err());
    assert!("".parse::<RefillPolicy>().is_err());
    assert!("".parse::<OnLayerError>().is_err());
    assert!("".parse::<RaceLoserPolicy>().is_err());
}
