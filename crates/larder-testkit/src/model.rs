//! Random sequences of calls, on a store and on the reference model: both have to answer alike.

pub(crate) mod cache;
pub(crate) mod consensus;
pub(crate) mod spool;

use std::fmt::Debug;
use std::future::Future;
use std::sync::Arc;

use proptest::collection::vec;
use proptest::strategy::{BoxedStrategy, Strategy as _};
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};
use tokio::runtime::Handle;
use tokio::sync::Mutex;

use crate::{Contract, Random, Stage, Verdict, Violation};

/// How many sequences one law tries.
const CASES: u32 = 40;
/// How many calls a sequence has at most.
const CALLS_MAX: usize = 40;

/// Tries random sequences of `call`s; a broken one is shortened before it is told.
///
/// Every sequence gets the store that the last one left, so the place is opened once; each has ids
/// and keys of its own.
pub(crate) async fn explore<S, C, F>(
    stage: &Stage<S>,
    call: fn() -> BoxedStrategy<C>,
    play: fn(Stage<S>, S, Vec<C>) -> F,
) -> Verdict
where
    S: Contract,
    C: Debug + Clone + 'static,
    F: Future<Output = (S, Verdict)> + Send + 'static,
{
    let stage = stage.clone();
    let opened = Arc::new(Mutex::new(Some(stage.open().await?)));
    let handle = Handle::current();
    let search = move || {
        let mut runner = TestRunner::new_with_rng(config(), rng(stage.seed()));
        let found = runner.run(&vec(call(), 1..=CALLS_MAX), |calls| {
            let run = one(stage.clone(), Arc::clone(&opened), calls, play);
            handle.block_on(run).map_err(|violation| TestCaseError::fail(violation.to_string()))
        });
        found.map_err(|error| match error {
            TestError::Fail(why, calls) => {
                Violation::new(format!("{why}, after the calls {calls:?}"))
            }
            TestError::Abort(why) => Violation::new(format!("the search was given up: {why}")),
        })
    };
    // The search is not async; a thread that may block leaves the runtime alone.
    tokio::task::spawn_blocking(search).await?
}

async fn one<S, C, F>(
    stage: Stage<S>,
    opened: Arc<Mutex<Option<S>>>,
    calls: Vec<C>,
    play: fn(Stage<S>, S, Vec<C>) -> F,
) -> Verdict
where
    S: Contract,
    F: Future<Output = (S, Verdict)>,
{
    let mut opened = opened.lock().await;
    let store = match opened.take() {
        Some(store) => store,
        None => stage.open().await?,
    };
    let (store, verdict) = play(stage, store, calls).await;
    *opened = Some(store);
    verdict
}

fn config() -> Config {
    Config { cases: CASES, max_shrink_iters: 400, failure_persistence: None, ..Config::default() }
}

fn rng(seed: u64) -> TestRng {
    let mut random = Random::seeded(seed);
    let bytes: Vec<u8> = (0..4).flat_map(|_| random.word().to_le_bytes()).collect();
    TestRng::from_seed(RngAlgorithm::ChaCha, &bytes)
}

/// A short payload that differs from call to call.
pub(crate) fn payload(call: usize, len: u16) -> bytes::Bytes {
    let mut random = Random::seeded(u64::try_from(call).unwrap_or(0));
    random.bytes(usize::from(len))
}

/// A number below `bound`, small ones more often.
pub(crate) fn small(bound: u64) -> BoxedStrategy<u64> {
    proptest::prop_oneof![3 => 0..bound.min(8), 1 => 0..bound].boxed()
}
