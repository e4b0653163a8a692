use std::collections::HashSet;
use std::sync::atomic::AtomicUsize;

use futures_util::future::join_all;
use tokio::sync::Semaphore;

use super::*;

/// Answers with the size of its batch, when it is let go.
#[derive(Clone, Debug)]
struct Tried {
    owner: Option<Arc<str>>,
    lane: usize,
    bytes: usize,
}

#[derive(Debug)]
struct Watched {
    gate: Semaphore,
    begun: AtomicUsize,
    owners: Mutex<HashSet<Arc<str>>>,
    sizes: Mutex<Vec<usize>>,
}

impl Job for Tried {
    type Answer = usize;
    type Tools = Arc<Watched>;

    fn lane(&self) -> usize {
        self.lane
    }

    fn owner(&self) -> Option<&Arc<str>> {
        self.owner.as_ref()
    }

    fn bytes(&self) -> usize {
        self.bytes
    }

    async fn run(tools: &Arc<Watched>, jobs: &[Self]) -> Vec<usize> {
        assert!(jobs.iter().all(|job| job.lane == jobs[0].lane), "lanes were mixed");
        for owner in jobs.iter().filter_map(Job::owner) {
            let is_new = tools.owners.lock().unwrap().insert(Arc::clone(owner));
            assert!(is_new, "{owner} is on its way twice");
        }
        tools.sizes.lock().unwrap().push(jobs.len());
        tools.begun.fetch_add(1, Ordering::SeqCst);
        tools.gate.acquire().await.unwrap().forget();
        for owner in jobs.iter().filter_map(Job::owner) {
            tools.owners.lock().unwrap().remove(owner);
        }
        vec![jobs.len(); jobs.len()]
    }
}

fn job(owner: &str) -> Tried {
    Tried { owner: Some(owner.into()), lane: 0, bytes: 1 }
}

fn coalescer(statements: usize, waiting: usize) -> Arc<Coalescer<Tried>> {
    with_places(statements, statements, waiting)
}

/// With `eager` places for all, and the others for full batches.
fn with_places(statements: usize, eager: usize, waiting: usize) -> Arc<Coalescer<Tried>> {
    let tools = Arc::new(Watched {
        gate: Semaphore::new(0),
        begun: AtomicUsize::new(0),
        owners: Mutex::default(),
        sizes: Mutex::default(),
    });
    let limit = Duration::from_secs(5);
    let bounds =
        Bounds { statements, eager, jobs: 10, bytes: 100, waiting, waiting_bytes: 10_000, limit };
    Arc::new(Coalescer::new(tools, bounds))
}

/// Lets `count` batches go on.
fn let_go(coalescer: &Coalescer<Tried>, count: usize) {
    coalescer.tools().gate.add_permits(count);
}

fn sizes(coalescer: &Coalescer<Tried>) -> Vec<usize> {
    coalescer.tools().sizes.lock().unwrap().clone()
}

/// Runs everything that can run.
async fn settle() {
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
}

#[tokio::test]
async fn a_lone_job_goes_alone_and_what_waits_goes_together() {
    let coalescer = coalescer(1, 100);
    let submit = |owner: usize| {
        let coalescer = Arc::clone(&coalescer);
        tokio::spawn(async move { coalescer.submit(job(&owner.to_string())).await })
    };
    let calls: Vec<_> = (0..24).map(submit).collect();
    settle().await;
    assert_eq!(sizes(&coalescer), [1]);
    let_go(&coalescer, 100);
    let answers: Vec<_> = join_all(calls).await.into_iter().map(|call| call.unwrap()).collect();
    assert_eq!(sizes(&coalescer), [1, 10, 10, 3]);
    assert!(answers.iter().all(Result::is_ok), "{answers:?}");
}

#[tokio::test]
async fn further_places_are_for_full_batches_and_these_do_not_wait() {
    let coalescer = with_places(2, 1, 100);
    let submit = |owner: usize| {
        let coalescer = Arc::clone(&coalescer);
        tokio::spawn(async move { coalescer.submit(job(&owner.to_string())).await })
    };
    let mut calls: Vec<_> = (0..10).map(submit).collect();
    settle().await;
    assert_eq!(sizes(&coalescer), [1], "nine are not worth a place");
    calls.extend((10..25).map(submit));
    settle().await;
    assert_eq!(sizes(&coalescer), [1, 10], "ten are, and nobody had to be done for that");
    let_go(&coalescer, 100);
    assert!(join_all(calls).await.into_iter().all(|call| call.unwrap().is_ok()));
    assert_eq!(sizes(&coalescer), [1, 10, 10, 4]);
}

#[tokio::test]
async fn one_owner_has_one_job_on_its_way_and_others_pass() {
    let coalescer = coalescer(4, 100);
    let submit = |owner: &'static str| {
        let coalescer = Arc::clone(&coalescer);
        tokio::spawn(async move { coalescer.submit(job(owner)).await })
    };
    let calls: Vec<_> = ["a", "a", "a", "b"].map(submit).into();
    settle().await;
    // The second and third of a wait; b does not wait for them, though there is something waiting.
    assert_eq!(coalescer.tools().begun.load(Ordering::SeqCst), 2);
    let_go(&coalescer, 10);
    assert!(join_all(calls).await.into_iter().all(|call| call.unwrap() == Ok(1)));
    assert!(coalescer.0.lock().owned.is_empty());
}

/// Lets everything go when all that can wait does.
async fn let_all_go(coalescer: &Coalescer<Tried>) {
    settle().await;
    let_go(coalescer, 10);
}

#[tokio::test]
async fn lanes_do_not_mix_and_take_turns() {
    let coalescer = coalescer(1, 100);
    let first = coalescer.submit(job("first"));
    let others = (0..8)
        .map(|number| coalescer.submit(Tried { lane: number % 2, ..job(&number.to_string()) }));
    let (first, others, ()) = tokio::join!(first, join_all(others), let_all_go(&coalescer));
    assert_eq!(first, Ok(1));
    assert_eq!(others, vec![Ok(4); 8]);
}

#[tokio::test]
async fn batches_are_bounded_in_bytes_and_a_large_job_goes_alone() {
    let coalescer = coalescer(1, 100);
    let sizes_of_jobs = [("a", 1), ("b", 60), ("c", 60), ("d", 500), ("e", 40), ("f", 60)];
    let all = sizes_of_jobs.map(|(owner, bytes)| coalescer.submit(Tried { bytes, ..job(owner) }));
    tokio::join!(join_all(all), let_all_go(&coalescer));
    assert_eq!(sizes(&coalescer), [1, 1, 1, 1, 2]);
}

#[tokio::test(start_paused = true)]
async fn what_waits_is_bounded_in_number_and_in_time() {
    let coalescer = coalescer(1, 2);
    let calls = ["a", "b", "c", "d"].map(|owner| coalescer.submit(job(owner)));
    let calls = tokio::time::timeout(Duration::from_mins(1), join_all(calls)).await;
    // The first one is held up by whoever does it, whose limit is its own.
    assert!(calls.is_err());
    let [one, two, three] = ["e", "f", "g"].map(|owner| coalescer.submit(job(owner)));
    let waits = async { tokio::join!(two, three, coalescer.submit(job("h"))) };
    let (_, waits) = tokio::join!(tokio::time::timeout(Duration::from_secs(9), one), waits);
    assert_eq!(
        waits,
        (Err(Unanswered::NotBegun), Err(Unanswered::NotBegun), Err(Unanswered::Full))
    );
    let_go(&coalescer, 10);
    assert_eq!(coalescer.submit(job("z")).await, Ok(1));
    let state = coalescer.0.lock();
    assert_eq!((state.running, state.waiting, state.waiting_bytes), (0, 0, 0));
    assert!(state.owned.is_empty());
}

#[tokio::test]
async fn a_caller_that_leaves_while_it_waits_has_nothing_done() {
    let coalescer = coalescer(1, 100);
    let first = {
        let coalescer = Arc::clone(&coalescer);
        tokio::spawn(async move { coalescer.submit(job("a")).await })
    };
    settle().await;
    for owner in ["a", "b", "a"] {
        let waits = tokio::time::timeout(Duration::from_millis(1), coalescer.submit(job(owner)));
        assert!(waits.await.is_err());
    }
    let_go(&coalescer, 10);
    assert_eq!(first.await.unwrap(), Ok(1));
    settle().await;
    assert_eq!(sizes(&coalescer), [1]);
    assert_eq!(coalescer.submit(job("b")).await, Ok(1));
    let state = coalescer.0.lock();
    assert_eq!((state.running, state.waiting), (0, 0));
    assert!(state.owned.is_empty());
}
