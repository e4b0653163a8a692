//! How failures are told: source chains, effects and retries.

use std::error::Error;

use larder::compose::{
    BothFailed, CompositionError, CompositionLayer, OptimisticParallelWritePolicy, OtherLayer,
    SequentialReadPolicy,
};
use larder_core::error::chain;
use larder_core::{Effect, Failure, Retry};

use super::script::{Cause, L1_DOWN, L2_DOWN, Layer, Oops, Stage};
use CompositionLayer::{L1, L2};

fn links<'a>(error: &'a (dyn Error + 'static)) -> Vec<&'a (dyn Error + 'static)> {
    let (mut links, mut next) = (Vec::new(), Some(error));
    while let Some(link) = next {
        links.push(link);
        next = link.source();
    }
    links
}

#[tokio::test]
async fn both_errors_and_their_causes_are_in_the_source_chain() {
    let stage = Stage::new();
    let read = stage
        .read(&SequentialReadPolicy, &Layer::now(Err(L1_DOWN)), &Layer::now(Err(L2_DOWN)))
        .await
        .expect_err("both are down");
    let write = stage
        .write(&OptimisticParallelWritePolicy, &Layer::now(Err(L1_DOWN)), &Layer::now(Err(L2_DOWN)))
        .await
        .expect_err("both are down");
    for error in [read, write] {
        let links = links(&error);
        let both = links.iter().find_map(|link| link.downcast_ref::<BothFailed<Oops>>());
        assert_eq!(both, Some(&BothFailed { l1: L1_DOWN, l2: L2_DOWN }));
        let far = links.iter().find_map(|link| link.downcast_ref::<Oops>());
        assert_eq!(far, Some(&L2_DOWN));
        let cause = links.iter().find_map(|link| link.downcast_ref::<Cause>());
        assert_eq!(cause, Some(&Cause("far")));
        assert_eq!(
            chain(&error),
            "both layers failed: near is down: near was unplugged: far is down: far was unplugged"
        );
    }
}

#[test]
fn one_error_and_its_cause_are_in_the_source_chain() {
    let error = CompositionError::layer(L1, L1_DOWN);
    assert_eq!(chain(&error), "layer l1 failed: near is down: near was unplugged");
    let half = CompositionError::Layer { layer: L2, error: L2_DOWN, other: OtherLayer::Changed };
    assert_eq!(
        chain(&half),
        "layer l2 failed after layer l1 had changed: far is down: far was unplugged"
    );
    assert!(links(&half).iter().any(|link| link.downcast_ref::<Oops>() == Some(&L2_DOWN)));
}

#[test]
fn nested_failures_tell_all_four_layers() {
    let inner = CompositionError::both(Oops::of("b"), Oops::of("c"));
    let outer = CompositionError::both(CompositionError::layer(L1, Oops::of("a")), inner);
    let told = chain(&outer);
    for layer in ["a", "b", "c"] {
        assert!(told.contains(&format!("{layer} was unplugged")), "{told}");
    }
}

#[test]
fn the_effect_is_known_only_if_it_is_known_everywhere() {
    let (known, unknown) = (L1_DOWN.not_applied(), L1_DOWN);
    let effect = |l1, l2| CompositionError::both(l1, l2).effect();
    assert_eq!(effect(known, known), Effect::NotApplied);
    assert_eq!(effect(known, unknown), Effect::Unknown);
    assert_eq!(effect(unknown, known), Effect::Unknown);
    assert_eq!(effect(unknown, unknown), Effect::Unknown);

    let layer = |error, other| CompositionError::Layer { layer: L2, error, other }.effect();
    assert_eq!(layer(known, OtherLayer::Untouched), Effect::NotApplied);
    assert_eq!(layer(unknown, OtherLayer::Untouched), Effect::Unknown);
    assert_eq!(layer(known, OtherLayer::Changed), Effect::Unknown);
}

#[test]
fn repeating_helps_if_it_helps_somewhere() {
    let (never, later) = (L1_DOWN, L1_DOWN.later());
    let retry = |l1, l2| CompositionError::both(l1, l2).retry();
    assert_eq!(retry(never, never), Retry::Never);
    assert_eq!(retry(never, later), Retry::Later);
    assert_eq!(retry(later, never), Retry::Later);
    assert_eq!(CompositionError::layer(L2, later).retry(), Retry::Later);
    assert_eq!(CompositionError::layer(L2, never).retry(), Retry::Never);
}

#[test]
fn a_composite_can_translate_the_errors_inside() {
    let translated =
        CompositionError::both(L1_DOWN, L2_DOWN).map(|layer, error| (layer, error.layer));
    assert_eq!(translated.of(L1), Some(&(L1, "near")));
    assert_eq!(translated.of(L2), Some(&(L2, "far")));
    let half = CompositionError::Layer { layer: L2, error: L2_DOWN, other: OtherLayer::Changed };
    let half = half.map(|_, error| error.layer);
    assert!(matches!(
        half,
        CompositionError::Layer { layer: L2, error: "far", other: OtherLayer::Changed }
    ));
    assert_eq!(half.of(L1), None);
}
