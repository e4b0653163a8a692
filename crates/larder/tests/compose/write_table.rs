//! Every cell of the write table, under every policy, loser policy, timing and durability.

use std::time::Duration;

use larder::compose::{
    AnyWritePolicy, CompositionError, CompositionLayer, CompositionWritePolicy, Counted,
    LayerOutcome, OptimisticParallelWritePolicy, OtherLayer, Outcome, RaceLoserPolicy,
    RaceWritePolicy, SequentialWritePolicy,
};
use larder_core::{Effect, Failure};
use tokio::time::Instant;

use super::script::{L1_DOWN, L2_DOWN, Layer, Oops, Stage};
use CompositionLayer::{L1, L2};

const DONE: LayerOutcome<Oops> = LayerOutcome::Done(());
const L1_FAILED: LayerOutcome<Oops> = LayerOutcome::Failed(L1_DOWN);
const L2_FAILED: LayerOutcome<Oops> = LayerOutcome::Failed(L2_DOWN);

/// Whether L1 and L2 succeed.
const ANSWERS: &[(bool, bool)] = &[(true, true), (true, false), (false, true), (false, false)];

/// Milliseconds that L1 and L2 take; zero is an answer at the first poll.
const TIMINGS: &[(u64, u64)] = &[(0, 0), (0, 10), (10, 0), (10, 20), (20, 10), (10, 10)];

const COUNTED: &[Counted] = &[Counted::Both, Counted::OnlyL1, Counted::OnlyL2];

/// One run of one cell.
struct Run {
    name: String,
    took: Duration,
    wrote: Result<Outcome<Oops>, CompositionError<Oops>>,
    l1: Layer<()>,
    l2: Layer<()>,
    answers: (bool, bool),
    ms: (u64, u64),
    counted: Counted,
}

impl Run {
    fn is(&self, l1: LayerOutcome<Oops>, l2: LayerOutcome<Oops>) {
        let outcome = self.wrote.as_ref().unwrap_or_else(|error| panic!("{}: {error}", self.name));
        assert_eq!(*outcome, Outcome { l1, l2 }, "{}", self.name);
    }

    fn fails_in(&self, layer: CompositionLayer, other: OtherLayer) {
        match &self.wrote {
            Err(CompositionError::Layer { layer: failed, error, other: did }) => {
                let down = if layer == L1 { L1_DOWN } else { L2_DOWN };
                assert_eq!((*failed, *error, *did), (layer, down, other), "{}", self.name);
            }
            other => panic!("{}: {other:?}", self.name),
        }
    }

    fn fails_in_both(&self) {
        let error = self.wrote.as_ref().expect_err(&self.name);
        let errors = (error.of(L1), error.of(L2));
        assert_eq!(errors, (Some(&L1_DOWN), Some(&L2_DOWN)), "{}", self.name);
    }

    fn asked(&self, l1: usize, l2: usize) {
        assert_eq!((self.l1.polled(), self.l2.polled()), (l1, l2), "{}: asked", self.name);
    }

    fn took_ms(&self, ms: u64) {
        assert_eq!(self.took, Duration::from_millis(ms), "{}: time", self.name);
    }

    fn layer(&self, layer: CompositionLayer) -> &Layer<()> {
        if layer == L1 { &self.l1 } else { &self.l2 }
    }
}

/// Runs `check` on every cell with every timing and every choice of layers that count.
async fn every_cell(policy: &impl CompositionWritePolicy, refusing: bool, check: impl Fn(&Run)) {
    for answers in ANSWERS {
        for ms in TIMINGS {
            for counted in COUNTED {
                let mut stage = if refusing { Stage::refusing() } else { Stage::new() };
                stage.counted = *counted;
                let l1 = Layer::in_ms(if answers.0 { Ok(()) } else { Err(L1_DOWN) }, ms.0);
                let l2 = Layer::in_ms(if answers.1 { Ok(()) } else { Err(L2_DOWN) }, ms.1);
                let start = Instant::now();
                let wrote = stage.write(policy, &l1, &l2).await;
                let took = start.elapsed();
                let word = |ok| if ok { "ok" } else { "err" };
                let name = format!(
                    "{policy:?}: {},{} after {},{} ms, counted {counted:?}, refusing {refusing}",
                    word(answers.0),
                    word(answers.1),
                    ms.0,
                    ms.1
                );
                tokio::time::sleep(Duration::from_secs(1)).await;
                let (answers, ms, counted) = (*answers, *ms, *counted);
                check(&Run { name, took, wrote, l1, l2, answers, ms, counted });
            }
        }
    }
}

fn check_sequential(run: &Run) {
    match run.answers {
        (true, true) => run.is(DONE, DONE),
        (true, false) => run.fails_in(L2, OtherLayer::Changed),
        (false, _) => run.fails_in(L1, OtherLayer::Untouched),
    }
    run.asked(1, usize::from(run.answers.0));
    run.took_ms(run.ms.0 + if run.answers.0 { run.ms.1 } else { 0 });
}

/// The outcome when both layers were waited for and one that counts is enough.
fn check_tolerant(run: &Run) {
    match (run.answers, run.counted) {
        ((true, true), _) => run.is(DONE, DONE),
        ((true, false), Counted::Both | Counted::OnlyL1) => run.is(DONE, L2_FAILED),
        ((true, false), Counted::OnlyL2) => run.fails_in(L2, OtherLayer::Changed),
        ((false, true), Counted::Both | Counted::OnlyL2) => run.is(L1_FAILED, DONE),
        ((false, true), Counted::OnlyL1) => run.fails_in(L1, OtherLayer::Changed),
        ((false, false), _) => run.fails_in_both(),
    }
}

fn check_optimistic(run: &Run) {
    check_tolerant(run);
    run.asked(1, 1);
    run.took_ms(run.ms.0.max(run.ms.1));
}

fn check_race(loser: RaceLoserPolicy, refusing: bool, run: &Run) {
    run.asked(1, 1);
    let successes = [
        (L1, run.answers.0 && run.counted.l1(), run.ms.0),
        (L2, run.answers.1 && run.counted.l2(), run.ms.1),
    ];
    let first = successes.into_iter().filter(|(_, enough, _)| *enough).min_by_key(|(.., ms)| *ms);
    let slower = match first {
        Some((L1, _, ms)) if run.ms.1 > ms => Some(L2),
        Some((L2, _, ms)) if run.ms.0 > ms => Some(L1),
        _ => None,
    };
    let Some(slower) = slower else {
        // Both answers were there when it was decided.
        check_tolerant(run);
        run.took_ms(run.ms.0.max(run.ms.1));
        return;
    };
    let goes_on = loser == RaceLoserPolicy::Offload && !refusing;
    let fate = if goes_on { LayerOutcome::Background } else { LayerOutcome::NotTried };
    match slower {
        L1 => run.is(fate, DONE),
        L2 => run.is(DONE, fate),
    }
    run.took_ms(run.ms.0.min(run.ms.1));
    let layer = run.layer(slower);
    assert_eq!(
        (layer.finished(), layer.cut_off()),
        (usize::from(goes_on), usize::from(!goes_on)),
        "{}: the loser {slower}",
        run.name
    );
}

#[tokio::test(start_paused = true)]
async fn every_cell_of_the_sequential_write() {
    every_cell(&SequentialWritePolicy, false, check_sequential).await;
}

#[tokio::test(start_paused = true)]
async fn every_cell_of_the_optimistic_parallel_write() {
    every_cell(&OptimisticParallelWritePolicy, false, check_optimistic).await;
}

#[tokio::test(start_paused = true)]
async fn every_cell_of_the_race_write_under_every_loser_policy() {
    for loser in [RaceLoserPolicy::Offload, RaceLoserPolicy::Drop] {
        for refusing in [false, true] {
            let policy = RaceWritePolicy { loser };
            every_cell(&policy, refusing, |run| check_race(loser, refusing, run)).await;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_cell_under_policies_chosen_by_config() {
    let named = |name: &str| name.parse::<AnyWritePolicy>().expect("a policy");
    every_cell(&named("sequential"), false, check_sequential).await;
    every_cell(&named("optimistic-parallel"), false, check_optimistic).await;
    every_cell(&named("race"), false, |run| check_race(RaceLoserPolicy::Offload, false, run)).await;
}

#[tokio::test(start_paused = true)]
async fn a_half_done_sequential_write_has_an_unknown_effect() {
    let stage = Stage::new();
    let (ok, down) = (Layer::now(Ok(())), Layer::now(Err(L2_DOWN.not_applied())));
    let error = stage.write(&SequentialWritePolicy, &ok, &down).await.expect_err("L2 is down");
    assert_eq!(error.effect(), Effect::Unknown, "L1 holds the new value");
    let error = stage.write(&SequentialWritePolicy, &down, &ok).await.expect_err("L1 is down");
    assert_eq!(error.effect(), Effect::NotApplied, "nothing was written anywhere");
}

#[tokio::test(start_paused = true)]
async fn an_outcome_names_the_layers_that_owe() {
    let stage = Stage::new();
    let (ok, down) = (Layer::now(Ok(())), Layer::now(Err(L1_DOWN)));
    let policy = OptimisticParallelWritePolicy;
    let both = stage.write(&policy, &ok, &ok).await.expect("both");
    assert!(both.is_complete() && both.owing().next().is_none());
    let partial = stage.write(&policy, &down, &ok).await.expect("one");
    assert!(!partial.is_complete());
    assert_eq!(partial.owing().collect::<Vec<_>>(), [L1]);
    assert_eq!((partial.l1.as_str(), partial.l2.as_str()), ("failed", "done"));

    let slow = Layer::in_ms(Ok(()), 10);
    let race = RaceWritePolicy { loser: RaceLoserPolicy::Drop };
    let dropped = stage.write(&race, &ok, &slow).await.expect("one");
    assert_eq!(dropped.owing().collect::<Vec<_>>(), [L2]);
    assert_eq!(dropped.l2.as_str(), "not-tried");
    let goes_on = stage.write(&RaceWritePolicy::default(), &ok, &slow).await.expect("one");
    assert!(!goes_on.is_complete() && goes_on.owing().next().is_none());
    assert_eq!(goes_on.l2.as_str(), "background");
}

#[test]
fn only_layers_that_are_durable_enough_count() {
    use larder_core::Durability::{Machine, Power, Process};
    assert_eq!(Counted::for_durability(Process, Process, Process), Some(Counted::Both));
    assert_eq!(Counted::for_durability(Power, Process, Power), Some(Counted::OnlyL2));
    assert_eq!(Counted::for_durability(Power, Power, Process), Some(Counted::OnlyL1));
    assert_eq!(Counted::for_durability(Power, Power, Machine), Some(Counted::Both));
    assert_eq!(Counted::for_durability(Power, Process, Process), None);
}
