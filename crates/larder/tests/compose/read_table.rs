//! Every cell of the read table, under every policy, loser policy and timing.

use std::time::Duration;

use larder::compose::{
    AnyReadPolicy, CompositionError, CompositionLayer, CompositionReadPolicy, Degraded,
    OnLayerError, ParallelReadPolicy, RaceLoserPolicy, RaceReadPolicy, ReadResult,
    SequentialReadPolicy,
};
use tokio::time::Instant;

use super::script::{L1_DOWN, L2_DOWN, Layer, Oops, Stage, Value};
use CompositionLayer::{L1, L2};
use Said::{Error, Expired, Hit, Miss};

/// What a layer says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Said {
    Hit,
    Miss,
    /// A value that is over: a miss.
    Expired,
    Error,
}

/// What a read has to give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Gives {
    /// The value of this layer.
    From(CompositionLayer),
    /// The value of this layer, and the other one failed.
    Degraded(CompositionLayer),
    /// Nothing.
    Nothing,
    /// Nothing or the error of this layer, as `on_layer_error` says.
    MissOrFail(CompositionLayer),
    /// Both errors.
    Both,
    /// The value of the first layer that hits, degraded if the other one has failed by then.
    FirstHit,
}

struct Cell {
    l1: Said,
    l2: Said,
    sequential: Gives,
    race: Gives,
    parallel: Gives,
}

const fn cell(l1: Said, l2: Said, sequential: Gives, race: Gives, parallel: Gives) -> Cell {
    Cell { l1, l2, sequential, race, parallel }
}

use Gives::{Both, FirstHit, From, MissOrFail, Nothing};

/// In the order sequential, race, parallel.
const TABLE: &[Cell] = &[
    cell(Hit, Hit, From(L1), FirstHit, From(L1)),
    cell(Hit, Miss, From(L1), FirstHit, From(L1)),
    cell(Hit, Expired, From(L1), FirstHit, From(L1)),
    cell(Hit, Error, From(L1), FirstHit, Gives::Degraded(L1)),
    cell(Miss, Hit, From(L2), FirstHit, From(L2)),
    cell(Miss, Miss, Nothing, Nothing, Nothing),
    cell(Miss, Expired, Nothing, Nothing, Nothing),
    cell(Miss, Error, MissOrFail(L2), MissOrFail(L2), MissOrFail(L2)),
    cell(Expired, Hit, From(L2), FirstHit, From(L2)),
    cell(Expired, Miss, Nothing, Nothing, Nothing),
    cell(Expired, Expired, Nothing, Nothing, Nothing),
    cell(Expired, Error, MissOrFail(L2), MissOrFail(L2), MissOrFail(L2)),
    cell(Error, Hit, Gives::Degraded(L2), FirstHit, Gives::Degraded(L2)),
    cell(Error, Miss, MissOrFail(L1), MissOrFail(L1), MissOrFail(L1)),
    cell(Error, Expired, MissOrFail(L1), MissOrFail(L1), MissOrFail(L1)),
    cell(Error, Error, Both, Both, Both),
];

/// Milliseconds that L1 and L2 take; zero is an answer at the first poll.
const TIMINGS: &[(u64, u64)] = &[(0, 0), (0, 10), (10, 0), (10, 20), (20, 10), (10, 10)];

type Read = Result<ReadResult<Value, Oops>, CompositionError<Oops>>;

/// One run of one cell.
struct Run {
    name: String,
    took: Duration,
    read: Read,
    l1: Layer<Option<Value>>,
    l2: Layer<Option<Value>>,
}

async fn run(
    policy: &impl CompositionReadPolicy,
    cell: &Cell,
    (ms1, ms2): (u64, u64),
    on_layer_error: OnLayerError,
) -> Run {
    let stage = Stage::failing(on_layer_error);
    let says = |said, data, error| match said {
        Hit => Ok(Some(stage.fresh(data))),
        Miss => Ok(None),
        Expired => Ok(Some(stage.expired(data))),
        Error => Err(error),
    };
    let l1 = Layer::in_ms(says(cell.l1, "near", L1_DOWN), ms1);
    let l2 = Layer::in_ms(says(cell.l2, "far", L2_DOWN), ms2);
    let start = Instant::now();
    let read = stage.read(policy, &l1, &l2).await;
    let took = start.elapsed();
    let name = format!(
        "{policy:?}: {:?},{:?} after {ms1},{ms2} ms, on_layer_error {on_layer_error:?}",
        cell.l1, cell.l2
    );
    // Whatever goes on in the background ends here.
    tokio::time::sleep(Duration::from_secs(1)).await;
    Run { name, took, read, l1, l2 }
}

impl Run {
    fn gives(&self, gives: Gives, on_layer_error: OnLayerError) {
        let name = &self.name;
        match gives {
            From(layer) => self.hit(layer, None),
            Gives::Degraded(layer) => self.hit(layer, Some(layer.other())),
            Nothing => {
                let read = self.read.as_ref().unwrap_or_else(|error| panic!("{name}: {error}"));
                assert_eq!(*read, ReadResult::miss(), "{name}");
                assert_eq!(read.source, L2, "{name}");
            }
            MissOrFail(layer) => match (on_layer_error, &self.read) {
                (OnLayerError::Miss, Ok(read)) => {
                    assert_eq!(read.value, None, "{name}");
                    assert_eq!(read.source, L2, "{name}");
                    assert_eq!(read.degraded, Some(degraded(layer)), "{name}");
                }
                (OnLayerError::Fail, Err(CompositionError::Layer { layer: failed, error, .. })) => {
                    assert_eq!((*failed, *error), (layer, down(layer)), "{name}");
                }
                (_, other) => panic!("{name}: {other:?}"),
            },
            Both => {
                let error = self.read.as_ref().expect_err(name);
                assert_eq!(error.of(L1), Some(&L1_DOWN), "{name}");
                assert_eq!(error.of(L2), Some(&L2_DOWN), "{name}");
            }
            FirstHit => unreachable!("resolved by the caller"),
        }
    }

    fn hit(&self, layer: CompositionLayer, failed: Option<CompositionLayer>) {
        let name = &self.name;
        let read = self.read.as_ref().unwrap_or_else(|error| panic!("{name}: {error}"));
        let data = if layer == L1 { "near" } else { "far" };
        assert_eq!(read.value.as_ref().map(|value| value.data), Some(data), "{name}");
        assert_eq!(read.source, layer, "{name}");
        assert_eq!(read.degraded, failed.map(degraded), "{name}");
    }

    fn asked(&self, l1: usize, l2: usize) {
        assert_eq!((self.l1.polled(), self.l2.polled()), (l1, l2), "{}: asked", self.name);
    }

    fn took_ms(&self, ms: u64) {
        assert_eq!(self.took, Duration::from_millis(ms), "{}: time", self.name);
    }
}

fn down(layer: CompositionLayer) -> Oops {
    if layer == L1 { L1_DOWN } else { L2_DOWN }
}

fn degraded(layer: CompositionLayer) -> Degraded<Oops> {
    Degraded { layer, error: down(layer) }
}

/// Runs `check` on every cell, timing and reaction to a layer's error.
async fn every_cell(
    policy: &impl CompositionReadPolicy,
    check: impl Fn(&Run, &Cell, (u64, u64), OnLayerError),
) {
    let mut runs = 0;
    for cell in TABLE {
        for timing in TIMINGS {
            for on_layer_error in [OnLayerError::Miss, OnLayerError::Fail] {
                let run = run(policy, cell, *timing, on_layer_error).await;
                check(&run, cell, *timing, on_layer_error);
                runs += 1;
            }
        }
    }
    assert_eq!(runs, 4 * 4 * 6 * 2, "the table has a cell for each pair of answers");
}

fn check_sequential(run: &Run, cell: &Cell, timing: (u64, u64), on_layer_error: OnLayerError) {
    run.gives(cell.sequential, on_layer_error);
    let l2_asked = cell.l1 != Hit;
    run.asked(1, usize::from(l2_asked));
    run.took_ms(timing.0 + if l2_asked { timing.1 } else { 0 });
}

fn check_parallel(run: &Run, cell: &Cell, timing: (u64, u64), on_layer_error: OnLayerError) {
    run.gives(cell.parallel, on_layer_error);
    run.asked(1, 1);
    run.took_ms(timing.0.max(timing.1));
}

fn check_race(
    loser: RaceLoserPolicy,
    run: &Run,
    cell: &Cell,
    (ms1, ms2): (u64, u64),
    on_layer_error: OnLayerError,
) {
    let decided_at_once = cell.l1 == Hit && ms1 == 0;
    let asks_in_turn = ms1 == 0 && !decided_at_once;
    run.asked(1, usize::from(!decided_at_once));
    if cell.race != FirstHit {
        run.gives(cell.race, on_layer_error);
        run.took_ms(ms1.max(ms2));
        return;
    }
    let hits = [(L1, cell.l1, ms1), (L2, cell.l2, ms2)];
    let (winner, _, ms) = hits
        .into_iter()
        .filter(|(_, said, _)| *said == Hit)
        .min_by_key(|(layer, _, ms)| (*ms, *layer))
        .expect("one layer hits");
    let (other, other_said, other_ms) = if winner == L1 { hits[1] } else { hits[0] };
    let other_was_there = other_ms <= ms && !decided_at_once;
    let gives = match (other_said, other_was_there) {
        (Error, true) => Gives::Degraded(winner),
        _ => From(winner),
    };
    run.gives(gives, on_layer_error);
    run.took_ms(ms);
    if decided_at_once {
        return;
    }
    // The fate of the loser.
    let layer = if other == L1 { &run.l1 } else { &run.l2 };
    let ended = other_was_there || loser == RaceLoserPolicy::Offload;
    assert!(!asks_in_turn || other_was_there, "{}: no race, no loser", run.name);
    assert_eq!(
        (layer.finished(), layer.cut_off()),
        (usize::from(ended), usize::from(!ended)),
        "{}: the loser {other}",
        run.name
    );
}

#[tokio::test(start_paused = true)]
async fn every_cell_of_the_sequential_read() {
    every_cell(&SequentialReadPolicy, check_sequential).await;
}

#[tokio::test(start_paused = true)]
async fn every_cell_of_the_parallel_read() {
    every_cell(&ParallelReadPolicy, check_parallel).await;
}

#[tokio::test(start_paused = true)]
async fn every_cell_of_the_race_read_with_an_offloaded_loser() {
    let loser = RaceLoserPolicy::Offload;
    every_cell(&RaceReadPolicy { loser }, |run, cell, timing, on_layer_error| {
        check_race(loser, run, cell, timing, on_layer_error);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_cell_of_the_race_read_with_a_dropped_loser() {
    let loser = RaceLoserPolicy::Drop;
    every_cell(&RaceReadPolicy { loser }, |run, cell, timing, on_layer_error| {
        check_race(loser, run, cell, timing, on_layer_error);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn every_cell_under_policies_chosen_by_config() {
    let named = |name: &str| name.parse::<AnyReadPolicy>().expect("a policy");
    every_cell(&named("sequential"), check_sequential).await;
    every_cell(&named("parallel"), check_parallel).await;
    every_cell(&named("race"), |run, cell, timing, on_layer_error| {
        check_race(RaceLoserPolicy::Offload, run, cell, timing, on_layer_error);
    })
    .await;
}
