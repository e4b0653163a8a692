//! The bounded background executor.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder::compose::{
    AnyOffload, BoundedOffload, DisabledOffload, Drained, Offload, OffloadKey, OffloadLimits,
    Refused, RefusedReason, Registered,
};
use tokio::sync::Notify;
use tokio::time::{Instant, sleep, timeout};

fn bounded(max_tasks: usize) -> BoundedOffload {
    BoundedOffload::new(OffloadLimits::new().with_max_tasks(max_tasks))
}

fn unique() -> OffloadKey {
    OffloadKey::unique("test")
}

fn named(name: &str) -> OffloadKey {
    OffloadKey::keyed("test", name.as_bytes())
}

async fn settle() {
    sleep(Duration::from_millis(1)).await;
}

#[tokio::test(start_paused = true)]
async fn a_task_runs_in_the_background() {
    let offload = bounded(1);
    let ran = Arc::new(AtomicUsize::new(0));
    let task = {
        let ran = Arc::clone(&ran);
        async move {
            ran.fetch_add(1, Ordering::SeqCst);
        }
    };
    assert_eq!(offload.register(unique(), task).expect("room"), Registered::Started);
    settle().await;
    assert_eq!(ran.load(Ordering::SeqCst), 1);
    let stats = offload.stats();
    assert_eq!((stats.active, stats.started, stats.completed), (0, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn no_more_tasks_run_than_are_allowed_and_places_come_back() {
    let offload = bounded(2);
    for _ in 0..2 {
        offload.register(unique(), sleep(Duration::from_secs(1))).expect("room");
    }
    let refused = offload.register(unique(), async {}).expect_err("full");
    assert_eq!(refused.reason, RefusedReason::Full);
    assert_eq!(offload.stats().active, 2);
    sleep(Duration::from_secs(2)).await;
    offload.register(unique(), async {}).expect("room again");
    assert_eq!(offload.stats().refused, 1);
}

#[tokio::test(start_paused = true)]
async fn a_refused_task_comes_back_untouched_and_can_be_run_by_the_caller() {
    let full = bounded(0);
    let drained = bounded(1);
    assert_eq!(drained.drain(Duration::ZERO).await, Drained::Complete);
    let any = AnyOffload::from(DisabledOffload::new());

    let ran = Arc::new(AtomicUsize::new(0));
    let task = {
        let ran = Arc::clone(&ran);
        async move {
            ran.fetch_add(1, Ordering::SeqCst);
        }
    };
    let Refused { task, reason } = full.register(named("a"), task).expect_err("full");
    assert_eq!(reason, RefusedReason::Full);
    let Refused { task, reason } = drained.register(named("a"), task).expect_err("draining");
    assert_eq!(reason, RefusedReason::ShuttingDown);
    let refused = any.register(named("a"), task).expect_err("disabled");
    assert_eq!(refused.reason, RefusedReason::Disabled);
    assert_eq!(refused.to_string(), "the background refused a task: it is disabled");
    settle().await;
    assert_eq!(ran.load(Ordering::SeqCst), 0, "nobody has polled it");
    refused.task.await;
    assert_eq!(ran.load(Ordering::SeqCst), 1);
}

#[test]
fn outside_of_a_runtime_a_task_is_refused() {
    let offload = bounded(1);
    let refused = offload.register(unique(), async {}).expect_err("no runtime");
    assert_eq!(refused.reason, RefusedReason::NoRuntime);
    assert_eq!((offload.stats().active, offload.stats().refused), (0, 1));
}

#[tokio::test(start_paused = true)]
async fn equal_work_runs_once_at_a_time() {
    let offload = bounded(10);
    let second = || sleep(Duration::from_secs(1));
    assert_eq!(offload.register(named("a"), second()).expect("room"), Registered::Started);
    let again = offload.register(named("a"), second()).expect("the same");
    assert_eq!(again, Registered::AlreadyRunning);
    for other in [
        named("b"),
        OffloadKey::keyed("another kind", b"a"),
        named("a").within(1),
        unique(),
        unique(),
    ] {
        assert_eq!(offload.register(other, second()).expect("room"), Registered::Started);
    }
    assert_eq!((offload.stats().active, offload.stats().deduplicated), (6, 1));
    sleep(Duration::from_secs(2)).await;
    let later = offload.register(named("a"), second()).expect("room");
    assert_eq!(later, Registered::Started, "it has ended");
}

#[tokio::test(start_paused = true)]
async fn equal_work_is_recognized_when_full() {
    let offload = bounded(1);
    offload.register(named("a"), sleep(Duration::from_secs(1))).expect("room");
    let again = offload.register(named("a"), async {}).expect("it runs, so nothing is refused");
    assert_eq!(again, Registered::AlreadyRunning);
}

#[tokio::test(start_paused = true)]
async fn a_panic_is_contained_and_frees_its_place_and_key() {
    let offload = bounded(1);
    offload.register(named("a"), async { panic!("on purpose") }).expect("room");
    settle().await;
    let stats = offload.stats();
    assert_eq!((stats.active, stats.panicked, stats.completed), (0, 1, 0));
    let again = offload.register(named("a"), async {}).expect("room");
    assert_eq!(again, Registered::Started);
    assert_eq!(offload.drain(Duration::from_secs(1)).await, Drained::Complete);
}

#[tokio::test(start_paused = true)]
async fn a_panic_while_a_task_is_dropped_is_contained_too() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(std::thread::panicking(), "on purpose");
        }
    }
    let limits = OffloadLimits::new().with_max_tasks(1).with_max_task_time(Duration::from_secs(1));
    let offload = BoundedOffload::new(limits);
    let task = async {
        let _bomb = Bomb;
        std::future::pending::<()>().await;
    };
    offload.register(named("a"), task).expect("room");
    sleep(Duration::from_secs(2)).await;
    assert_eq!(offload.stats().active, 0);
    offload.register(named("a"), async {}).expect("room again");
}

#[tokio::test(start_paused = true)]
async fn a_task_that_takes_too_long_is_dropped() {
    let limits = OffloadLimits::new().with_max_tasks(1).with_max_task_time(Duration::from_secs(5));
    let offload = BoundedOffload::new(limits);
    offload.register(named("a"), std::future::pending()).expect("room");
    sleep(Duration::from_millis(4_999)).await;
    assert_eq!(offload.stats().active, 1);
    sleep(Duration::from_millis(2)).await;
    assert_eq!((offload.stats().active, offload.stats().timed_out), (0, 1));
    offload.register(named("a"), async {}).expect("room again");
}

#[tokio::test(start_paused = true)]
async fn tasks_go_on_when_every_handle_is_dropped() {
    let offload = bounded(1);
    let ended = Arc::new(Notify::new());
    let task = {
        let ended = Arc::clone(&ended);
        async move {
            sleep(Duration::from_secs(1)).await;
            ended.notify_one();
        }
    };
    offload.register(unique(), task).expect("room");
    drop(offload);
    timeout(Duration::from_secs(2), ended.notified()).await.expect("it goes on");
}

#[tokio::test(start_paused = true)]
async fn a_drain_waits_for_running_tasks_and_takes_no_new_ones() {
    let offload = bounded(10);
    for seconds in 1..=3 {
        offload.register(unique(), sleep(Duration::from_secs(seconds))).expect("room");
    }
    let late = async {
        sleep(Duration::from_secs(1)).await;
        offload.register(unique(), async {}).expect_err("draining").reason
    };
    let start = Instant::now();
    let (drained, reason) = tokio::join!(offload.drain(Duration::from_mins(1)), late);
    assert_eq!((drained, reason), (Drained::Complete, RefusedReason::ShuttingDown));
    assert_eq!(start.elapsed(), Duration::from_secs(3), "no longer than the last task");
}

#[tokio::test(start_paused = true)]
async fn a_drain_that_runs_out_of_time_ends_what_is_left() {
    let offload = bounded(10);
    offload.register(unique(), sleep(Duration::from_secs(1))).expect("room");
    offload.register(unique(), std::future::pending()).expect("room");
    offload.register(unique(), std::future::pending()).expect("room");
    let start = Instant::now();
    let drained = offload.drain(Duration::from_secs(2)).await;
    assert_eq!(drained, Drained::Aborted { tasks: 2 });
    assert_eq!(start.elapsed(), Duration::from_secs(2));
    settle().await;
    let stats = offload.stats();
    assert_eq!((stats.active, stats.completed, stats.aborted), (0, 1, 2));
    assert_eq!(offload.drain(Duration::ZERO).await, Drained::Complete, "again is harmless");
}

#[tokio::test(start_paused = true)]
async fn an_idle_or_drained_offload_drains_at_once() {
    let offload = BoundedOffload::default();
    let start = Instant::now();
    assert_eq!(offload.drain(Duration::from_mins(1)).await, Drained::Complete);
    assert_eq!(offload.drain(Duration::from_mins(1)).await, Drained::Complete);
    assert_eq!(start.elapsed(), Duration::ZERO);
}

#[tokio::test(start_paused = true)]
async fn several_drains_at_once_all_end() {
    let offload = bounded(10);
    offload.register(unique(), sleep(Duration::from_secs(1))).expect("room");
    let minute = Duration::from_mins(1);
    let ends = tokio::join!(offload.drain(minute), offload.drain(minute), offload.drain(minute));
    assert_eq!(ends, (Drained::Complete, Drained::Complete, Drained::Complete));
}

#[tokio::test(start_paused = true)]
async fn a_dropped_drain_leaves_running_tasks_alone() {
    let offload = bounded(10);
    offload.register(unique(), sleep(Duration::from_secs(2))).expect("room");
    assert!(timeout(Duration::from_secs(1), offload.drain(Duration::from_mins(1))).await.is_err());
    assert_eq!(offload.stats().active, 1);
    assert_eq!(offload.drain(Duration::from_mins(1)).await, Drained::Complete);
    assert_eq!(offload.stats().completed, 1);
}

/// Real threads and no virtual time: tasks end on one thread while another one begins to wait.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_drain_misses_no_task_that_ends_meanwhile() {
    for round in 0..4_000_usize {
        let offload = bounded(8);
        for task in 0..4 {
            let yields = (round + task) % 4;
            offload
                .register(unique(), async move {
                    for _ in 0..yields {
                        tokio::task::yield_now().await;
                    }
                })
                .expect("room");
        }
        let start = Instant::now();
        let drain = {
            let offload = offload.clone();
            tokio::spawn(async move { offload.drain(Duration::from_secs(20)).await })
        };
        assert_eq!(drain.await.expect("no panic"), Drained::Complete, "round {round}");
        // A missed end would show as a wait for the whole time that the drain was given.
        assert!(start.elapsed() < Duration::from_secs(10), "round {round}");
        let stats = offload.stats();
        assert_eq!((stats.active, stats.completed), (0, 4), "round {round}");
    }
}

/// Registers from many threads: the bound holds at every moment.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn the_bound_holds_under_concurrent_registration() {
    let offload = bounded(3);
    let (running, most) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut callers = tokio::task::JoinSet::new();
    for _ in 0..8 {
        let (offload, running, most) = (offload.clone(), Arc::clone(&running), Arc::clone(&most));
        callers.spawn(async move {
            for _ in 0..200 {
                let (running, most) = (Arc::clone(&running), Arc::clone(&most));
                let task = async move {
                    let now = running.fetch_add(1, Ordering::SeqCst) + 1;
                    most.fetch_max(now, Ordering::SeqCst);
                    tokio::task::yield_now().await;
                    running.fetch_sub(1, Ordering::SeqCst);
                };
                drop(offload.register(unique(), task));
                tokio::task::yield_now().await;
            }
        });
    }
    callers.join_all().await;
    assert_eq!(offload.drain(Duration::from_secs(20)).await, Drained::Complete);
    let stats = offload.stats();
    assert_eq!(stats.started + stats.refused, 1_600);
    assert_eq!(stats.completed, stats.started);
    let most = most.load(Ordering::SeqCst);
    assert!((1..=3).contains(&most), "{most}");
}

#[test]
fn a_runtime_that_ends_frees_the_places_of_its_tasks() {
    let offload = bounded(4);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build().unwrap();
    runtime.block_on(async {
        offload.register(named("a"), std::future::pending()).expect("room");
        tokio::task::yield_now().await;
        offload.register(named("b"), std::future::pending()).expect("room");
    });
    drop(runtime);
    assert_eq!((offload.stats().active, offload.stats().aborted), (0, 2));
}

#[test]
fn keys_of_stored_data_do_not_show_in_debug_output() {
    let shown = format!("{:?}", named("secret").within(7));
    assert!(!shown.contains("secret"), "{shown}");
    assert!(shown.contains("test") && shown.contains('7'), "{shown}");
}
