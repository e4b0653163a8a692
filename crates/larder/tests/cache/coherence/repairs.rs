//! What one process catches up on is told to the others, who may have copied what was there before.

use std::sync::mpsc::channel;
use std::time::Duration;

use larder::cache::Tiered;
use larder::compose::RaceWritePolicy;
use larder_core::{Condition, ManualClock, Repair, RepairListener, SharedTier, Tier as _};

use super::{PATIENCE, Process, World};
use crate::scripted::{Op, Scripted, When, key, text};

/// Lets `there` copy what the shared tier has, which `here` has changed in vain.
async fn copies_the_old_value(here: &Process, there: &Process) {
    there.heeds(here).await;
    assert_eq!(there.get().await.as_deref(), Some(&b"old"[..]), "the shared tier has no other");
    assert!(there.has_copy());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_that_is_made_up_for_is_told_once_more() {
    let world = World::new();
    let [here, there] = world.pair().await;
    here.far.fail(Op::Write);
    here.put("new").await;
    copies_the_old_value(&here, &there).await;
    here.far.recover();
    there.comes_to_have(Some("new")).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remove_that_is_made_up_for_is_told_once_more() {
    let world = World::new();
    let [here, there] = world.pair().await;
    here.far.fail(Op::Remove);
    here.cache.remove(key("k")).await.unwrap();
    copies_the_old_value(&here, &there).await;
    here.far.recover();
    there.comes_to_have(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_clear_that_is_made_up_for_is_told_once_more() {
    let world = World::new();
    let [here, there] = world.pair().await;
    here.far.fail(Op::Remove);
    here.cache.clear().await.unwrap_err();
    there.heeds(&here).await;
    // Put by somebody who does not know of the clear: with a version that it does not cover.
    there.put("after").await;
    assert!(there.has_copy());
    here.far.recover();
    world.clock.advance(Duration::from_secs(1));
    there.comes_to_have(None).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_late_loser_of_a_race_is_told_when_it_has_landed() {
    let clock = ManualClock::default();
    let [near, far] = ["near", "far"].map(|label| Scripted::new(label, &clock));
    let race = Tiered::builder(near, far.clone()).clock(clock.shared());
    let race = race.write(RaceWritePolicy::default()).build();
    let (tell, told) = channel();
    let listener = RepairListener::new(move |repair| {
        assert_eq!(repair, Repair::Key(key("k")));
        tell.send(()).unwrap();
    });
    // From whatever is around it.
    let outer = Tiered::builder(SharedTier::new(race), Scripted::new("far off", &clock)).build();
    outer.on_repair(&listener);
    let held = far.hold(Op::Write, When::Before);
    outer.write(key("k"), text("new"), Condition::Always).await.unwrap();
    assert!(told.try_recv().is_err(), "it has not landed yet");
    drop(held);
    let heard = move || told.recv_timeout(PATIENCE);
    tokio::task::spawn_blocking(heard).await.unwrap().unwrap();
}
