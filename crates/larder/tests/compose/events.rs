//! No failure is silent: counters and events.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::compose::{
    BoundedOffload, CompositionReadPolicy, CompositionWritePolicy, Counted, Observer, Offload,
    OffloadKey, OffloadLimits, OnLayerError, OptimisticParallelWritePolicy, ParallelReadPolicy,
    RaceLoserPolicy, RaceReadPolicy, RaceWritePolicy, SequentialReadPolicy, SequentialWritePolicy,
    remove_both,
};
use larder_core::DeleteStatus::Deleted;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use tracing::Level;

#[path = "../support/events.rs"]
mod heard;

use heard::Events;

use super::script::{L1_DOWN, L2_DOWN, Layer, Stage};

/// Keeps the value of every metric by its name and labels.
#[derive(Default, Debug)]
struct Metrics(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Metrics {
    fn slot(&self, key: &Key) -> Arc<AtomicU64> {
        let mut labels: Vec<_> =
            key.labels().map(|label| format!("{}={}", label.key(), label.value())).collect();
        labels.sort();
        let name = format!("{}{{{}}}", key.name(), labels.join(","));
        Arc::clone(self.0.lock().unwrap().entry(name).or_default())
    }

    /// Every counter that is not zero, and its value.
    fn counted(&self) -> Vec<(String, u64)> {
        let metrics = self.0.lock().unwrap();
        metrics
            .iter()
            .map(|(name, value)| (name.clone(), value.load(Ordering::SeqCst)))
            .filter(|(_, value)| *value != 0)
            .collect()
    }
}

impl metrics::Recorder for Metrics {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}
    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        Counter::from_arc(self.slot(key))
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::from_arc(self.slot(key))
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

/// What one scene left in the counters and events.
struct Seen {
    counted: Vec<(String, u64)>,
    events: Vec<(Level, String)>,
}

impl Seen {
    /// Exactly these counters have moved, each by one.
    fn counts(&self, expected: &[&str]) {
        let expected: Vec<_> = expected.iter().map(|name| ((*name).to_owned(), 1)).collect();
        assert_eq!(self.counted, expected);
    }

    /// Exactly one event, of this level and with these texts.
    fn tells(&self, level: Level, texts: &[&str]) {
        let [(seen, line)] = &self.events[..] else { panic!("{:?}", self.events) };
        assert_eq!(*seen, level, "{line}");
        for text in texts {
            assert!(line.contains(text), "{text:?} is missing in {line:?}");
        }
        assert!(!line.contains("key"), "keys stay out of events: {line:?}");
    }

    fn nothing_above_trace(&self) {
        assert!(self.events.iter().all(|(level, _)| *level == Level::TRACE), "{:?}", self.events);
    }
}

/// Plays a scene on a stage whose counters and events are kept, background included.
async fn watch(prepare: impl FnOnce(&mut Stage), play: impl AsyncFnOnce(&Stage)) -> Seen {
    let (metrics, events) = (Metrics::default(), Events::default());
    let mut stage = {
        let _recording = metrics::set_default_local_recorder(&metrics);
        Stage::new()
    };
    prepare(&mut stage);
    let _subscribed = tracing::subscriber::set_default(events.clone());
    play(&stage).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    Seen { counted: metrics.counted(), events: events.all() }
}

const READ_L1: &str =
    "larder_compose_layer_errors_total{composition=stage,layer=l1,operation=read}";
const READ_L2: &str =
    "larder_compose_layer_errors_total{composition=stage,layer=l2,operation=read}";
const READ_DEGRADED: &str = "larder_compose_degraded_total{composition=stage,operation=read}";
const READ_FAILED: &str = "larder_compose_failed_total{composition=stage,operation=read}";
const WRITE_L1: &str =
    "larder_compose_layer_errors_total{composition=stage,layer=l1,operation=write}";
const WRITE_L2: &str =
    "larder_compose_layer_errors_total{composition=stage,layer=l2,operation=write}";
const WRITE_DEGRADED: &str = "larder_compose_degraded_total{composition=stage,operation=write}";
const WRITE_FAILED: &str = "larder_compose_failed_total{composition=stage,operation=write}";

#[tokio::test(start_paused = true)]
async fn a_read_that_goes_on_without_a_layer_is_counted_and_warned_about() {
    async fn scene(policy: impl CompositionReadPolicy) {
        let seen = watch(
            |_| {},
            async |stage| {
                let far = Layer::now(Ok(Some(stage.fresh("far"))));
                let read = stage.read(&policy, &Layer::now(Err(L1_DOWN)), &far).await;
                assert!(read.is_ok());
            },
        )
        .await;
        seen.counts(&[READ_DEGRADED, READ_L1]);
        seen.tells(Level::WARN, &["composition=stage", "layer=l1", "near was unplugged"]);

        let seen = watch(
            |_| {},
            async |stage| {
                let (near, far) = (Layer::now(Ok(None)), Layer::now(Err(L2_DOWN)));
                assert!(stage.read(&policy, &near, &far).await.is_ok());
            },
        )
        .await;
        seen.counts(&[READ_DEGRADED, READ_L2]);
        seen.tells(Level::WARN, &["layer=l2", "operation=read", "far was unplugged"]);
    }
    scene(SequentialReadPolicy).await;
    scene(ParallelReadPolicy).await;
    scene(RaceReadPolicy { loser: RaceLoserPolicy::Offload }).await;
    scene(RaceReadPolicy { loser: RaceLoserPolicy::Drop }).await;
}

#[tokio::test(start_paused = true)]
async fn a_read_that_fails_is_counted_and_told_as_an_error() {
    async fn scene(policy: impl CompositionReadPolicy) {
        let seen = watch(
            |_| {},
            async |stage| {
                let (near, far) = (Layer::now(Err(L1_DOWN)), Layer::now(Err(L2_DOWN)));
                assert!(stage.read(&policy, &near, &far).await.is_err());
            },
        )
        .await;
        seen.counts(&[READ_FAILED, READ_L1, READ_L2]);
        seen.tells(Level::ERROR, &["layer=both", "near was unplugged", "far was unplugged"]);

        let seen = watch(
            |stage| stage.on_layer_error = OnLayerError::Fail,
            async |stage| {
                let (near, far) = (Layer::now(Ok(None)), Layer::now(Err(L2_DOWN)));
                assert!(stage.read(&policy, &near, &far).await.is_err());
            },
        )
        .await;
        seen.counts(&[READ_FAILED, READ_L2]);
        seen.tells(Level::ERROR, &["layer=l2", "far was unplugged"]);
    }
    scene(SequentialReadPolicy).await;
    scene(ParallelReadPolicy).await;
    scene(RaceReadPolicy { loser: RaceLoserPolicy::Offload }).await;
    scene(RaceReadPolicy { loser: RaceLoserPolicy::Drop }).await;
}

#[tokio::test(start_paused = true)]
async fn the_late_failure_of_a_reads_loser_is_counted_and_warned_about() {
    let seen = watch(
        |_| {},
        async |stage| {
            let near = Layer::in_ms(Ok(Some(stage.fresh("near"))), 1);
            let far = Layer::in_ms(Err(L2_DOWN), 10);
            let read = stage.read(&RaceReadPolicy::default(), &near, &far).await.expect("L1");
            assert_eq!(read.degraded, None);
        },
    )
    .await;
    seen.counts(&[READ_L2]);
    seen.tells(Level::WARN, &["layer=l2", "background", "far was unplugged"]);
}

#[tokio::test(start_paused = true)]
async fn a_partial_write_is_counted_and_warned_about() {
    let seen = watch(
        |_| {},
        async |stage| {
            let (near, far) = (Layer::now(Ok(())), Layer::now(Err(L2_DOWN)));
            assert!(stage.write(&OptimisticParallelWritePolicy, &near, &far).await.is_ok());
        },
    )
    .await;
    seen.counts(&[WRITE_DEGRADED, WRITE_L2]);
    seen.tells(Level::WARN, &["partial", "layer=l2", "far was unplugged"]);

    let seen = watch(
        |_| {},
        async |stage| {
            let (near, far) = (Layer::now(Err(L1_DOWN)), Layer::in_ms(Ok(()), 5));
            assert!(stage.write(&RaceWritePolicy::default(), &near, &far).await.is_ok());
        },
    )
    .await;
    seen.counts(&[WRITE_DEGRADED, WRITE_L1]);
    seen.tells(Level::WARN, &["partial", "layer=l1"]);
}

#[tokio::test(start_paused = true)]
async fn a_write_that_fails_is_counted_and_told_as_an_error() {
    async fn scene(policy: impl CompositionWritePolicy, counted: Counted, both: bool) {
        let seen = watch(
            |stage| stage.counted = counted,
            async |stage| {
                let near = Layer::now(if both { Err(L1_DOWN) } else { Ok(()) });
                assert!(stage.write(&policy, &near, &Layer::now(Err(L2_DOWN))).await.is_err());
            },
        )
        .await;
        match (both, policy.needs_both()) {
            (true, false) => seen.counts(&[WRITE_FAILED, WRITE_L1, WRITE_L2]),
            (true, true) => seen.counts(&[WRITE_FAILED, WRITE_L1]),
            (false, _) => seen.counts(&[WRITE_FAILED, WRITE_L2]),
        }
        seen.tells(Level::ERROR, &["failed", "operation=write"]);
    }
    scene(SequentialWritePolicy, Counted::Both, false).await;
    scene(SequentialWritePolicy, Counted::Both, true).await;
    scene(OptimisticParallelWritePolicy, Counted::OnlyL2, false).await;
    scene(OptimisticParallelWritePolicy, Counted::Both, true).await;
    scene(RaceWritePolicy::default(), Counted::OnlyL2, false).await;
    scene(RaceWritePolicy::default(), Counted::Both, true).await;
}

#[tokio::test(start_paused = true)]
async fn the_late_failure_of_a_writes_loser_is_counted_and_warned_about() {
    let seen = watch(
        |_| {},
        async |stage| {
            let (near, far) = (Layer::now(Ok(())), Layer::in_ms(Err(L2_DOWN), 10));
            assert!(stage.write(&RaceWritePolicy::default(), &near, &far).await.is_ok());
        },
    )
    .await;
    seen.counts(&[WRITE_L2]);
    seen.tells(Level::WARN, &["background", "layer=l2", "far was unplugged"]);
}

#[tokio::test(start_paused = true)]
async fn a_refused_loser_is_counted_and_told_once() {
    let refused = |operation: &str| {
        format!(
            "larder_compose_background_refused_total{{composition=stage,layer=l2,operation={operation}}}"
        )
    };
    let refuse = |stage: &mut Stage| {
        stage.offload = BoundedOffload::new(OffloadLimits::new().with_max_tasks(0));
    };
    let seen = watch(refuse, async |stage| {
        let (near, far) = (Layer::now(Ok(())), Layer::in_ms(Ok(()), 10));
        assert!(stage.write(&RaceWritePolicy::default(), &near, &far).await.is_ok());
    })
    .await;
    seen.counts(&[&refused("write")]);
    seen.tells(Level::WARN, &["refused", "layer=l2", "reason=full"]);

    let seen = watch(refuse, async |stage| {
        let near = Layer::in_ms(Ok(Some(stage.fresh("near"))), 1);
        let far = Layer::in_ms(Ok(None), 10);
        assert!(stage.read(&RaceReadPolicy::default(), &near, &far).await.is_ok());
    })
    .await;
    seen.counts(&[&refused("read")]);
    seen.tells(Level::DEBUG, &["refused", "layer=l2", "reason=full"]);
}

#[tokio::test(start_paused = true)]
async fn a_background_write_that_is_cut_off_is_counted_and_warned_about() {
    let limits = OffloadLimits::new().with_max_task_time(Duration::from_millis(100));
    let seen = watch(
        |stage| stage.offload = BoundedOffload::new(limits),
        async |stage| {
            let (near, far) = (Layer::now(Ok(())), Layer::in_ms(Ok(()), 500));
            assert!(stage.write(&RaceWritePolicy::default(), &near, &far).await.is_ok());
        },
    )
    .await;
    seen.counts(&[
        "larder_compose_background_lost_total{composition=stage,layer=l2,operation=write}",
    ]);
    let told: Vec<_> = seen.events.iter().filter(|(level, _)| *level == Level::WARN).collect();
    assert_eq!(told.len(), 2, "the composition names the layer, the offload the cause: {told:?}");
    assert!(told.iter().any(|(_, line)| line.contains("how=timed-out")), "{told:?}");
}

#[tokio::test(start_paused = true)]
async fn a_partial_remove_is_counted_as_one() {
    let seen = watch(
        |_| {},
        async |stage| {
            let (near, far) = (Layer::now(Err(L1_DOWN)), Layer::now(Ok(Deleted(1))));
            let policy = OptimisticParallelWritePolicy;
            assert!(remove_both(&policy, stage.write_request(), &near, &far).await.is_ok());
        },
    )
    .await;
    seen.counts(&[
        "larder_compose_degraded_total{composition=stage,operation=remove}",
        "larder_compose_layer_errors_total{composition=stage,layer=l1,operation=remove}",
    ]);
    seen.tells(Level::WARN, &["partial", "operation=remove", "layer=l1"]);
}

#[tokio::test(start_paused = true)]
async fn what_goes_well_is_told_at_trace_level_only() {
    let seen = watch(
        |_| {},
        async |stage| {
            let (near, far) = (Layer::now(Ok(())), Layer::now(Ok(())));
            assert!(stage.write(&OptimisticParallelWritePolicy, &near, &far).await.is_ok());
            assert!(stage.write(&SequentialWritePolicy, &near, &far).await.is_ok());
            let (near, far) = (Layer::now(Ok(None)), Layer::now(Ok(Some(stage.fresh("far")))));
            assert!(stage.read(&SequentialReadPolicy, &near, &far).await.is_ok());
        },
    )
    .await;
    seen.counts(&[]);
    assert_eq!(seen.events.len(), 3, "{:?}", seen.events);
    seen.nothing_above_trace();
}

#[test]
fn every_observer_has_a_scope_of_its_own() {
    let (one, other) = (Observer::new("same"), Observer::new("same"));
    assert_ne!(one.scope(), other.scope());
    assert_eq!(one.clone().scope(), one.scope());
    assert_eq!(format!("{one:?}"), "Observer(\"same\")");
}

#[tokio::test(start_paused = true)]
async fn the_offload_counts_what_it_does() {
    let metrics = Metrics::default();
    let _recording = metrics::set_default_local_recorder(&metrics);
    let offload = BoundedOffload::new(OffloadLimits::new().with_max_tasks(1));
    let key = || OffloadKey::keyed("refresh", b"name");
    offload.register(key(), async { panic!("on purpose") }).expect("room");
    offload.register(key(), async {}).expect("the same work");
    assert!(offload.register(OffloadKey::unique("load"), async {}).is_err(), "full");
    tokio::time::sleep(Duration::from_millis(1)).await;
    offload.register(key(), async {}).expect("room again");
    tokio::time::sleep(Duration::from_millis(1)).await;
    let expected = [
        ("larder_offload_deduplicated_total{kind=refresh}", 1),
        ("larder_offload_ended_total{how=completed,kind=refresh}", 1),
        ("larder_offload_ended_total{how=panicked,kind=refresh}", 1),
        ("larder_offload_refused_total{kind=load,reason=full}", 1),
        ("larder_offload_started_total{kind=refresh}", 2),
    ];
    assert_eq!(metrics.counted(), expected.map(|(name, count)| (name.to_owned(), count)));
}
