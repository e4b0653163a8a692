//! One thing that goes wrong again and again, while clients of one key write without a pause.

use std::time::Duration;

use larder_testkit::Random;
use tokio::time::sleep;

use crate::clients::{Plan, Signals, Tally};
use crate::{Engine, Wrong, first_seed, run_with};

/// How often the server is disturbed in one history.
const TURNS: usize = 6;

/// Longer than a call may take.
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub(crate) const LONG: Duration = Duration::from_millis(700);

/// A history from a seed while `disturb` runs, which has to say when it is enough.
pub(crate) async fn history(
    engine: &impl Engine,
    seed: u64,
    disturb: impl AsyncFnOnce(&mut Random, Signals),
) -> Result<Tally, Wrong> {
    let mut random = Random::seeded(seed);
    run_with(engine, Plan::of_one_key(), &mut random, disturb).await
}

/// A history while `act` is done again and again.
pub(crate) async fn while_it_is_done(
    engine: &impl Engine,
    seed: u64,
    act: &impl AsyncFn(),
) -> Result<Tally, Wrong> {
    let disturb = async |random: &mut Random, signals: Signals| {
        for _ in 0..TURNS {
            sleep(Duration::from_millis(40 + random.word() % 40)).await;
            act().await;
            until_some_are_committed(&signals).await;
        }
        signals.enough();
    };
    history(engine, seed, disturb).await
}

/// Waits until something is written again: it takes its time to shake hands and to elect a leader.
async fn until_some_are_committed(signals: &Signals) {
    let enough = signals.committed() + 3;
    for _ in 0..3_000 {
        if signals.committed() >= enough || signals.ended() {
            return;
        }
        sleep(Duration::from_millis(10)).await;
    }
    panic!("nothing is committed any more");
}

/// Histories until something that was done to the server was in the way of a call.
pub(crate) async fn until_some_were_resolved(engine: &impl Engine, act: impl AsyncFn()) {
    let mut resolved = 0;
    for round in 0..10 {
        let seed = first_seed() + round;
        let told = while_it_is_done(engine, seed, &act).await;
        let tally = told.unwrap_or_else(|wrong| panic!("LARDER_HISTORY_SEED={seed}: {wrong}"));
        assert!(tally.left > 5, "hardly anything was committed");
        resolved += tally.resolved();
        if round >= 1 && resolved > 0 {
            return;
        }
    }
    panic!("no call was ever in the way of what was done to the server");
}
