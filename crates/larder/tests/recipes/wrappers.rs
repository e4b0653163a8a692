//! What can be put around any consensus store.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use larder::consensus::{Measured, Timeout};
use larder::recipes::Nonced;
use larder::{
    CaSResult, Consensus, ConsensusError, Determinate, Effect, Failure, MemoryConsensus, Retry,
    SeqNo, VersionedData,
};
use larder_testkit::Unreliable;
use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, Recorder, SharedString, Unit};

use crate::shaky::{Hints, Shaky};

fn version(seqno: u64) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: "x".into() }
}

/// A store that begins every call and ends none.
#[derive(Debug, Default)]
struct Stuck(AtomicU64);

impl Stuck {
    async fn begin<T>(&self) -> T {
        self.0.fetch_add(1, Ordering::SeqCst);
        std::future::pending().await
    }
}

impl Consensus for Stuck {
    fn list_keys(&self) -> larder::KeyStream {
        larder::KeyStream::new(futures_util::stream::pending())
    }

    async fn head(&self, _: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.begin().await
    }

    async fn compare_and_set(
        &self,
        _: &str,
        _: Option<SeqNo>,
        _: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        self.begin().await
    }

    async fn scan(
        &self,
        _: &str,
        _: SeqNo,
        _: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        self.begin().await
    }

    async fn truncate(&self, _: &str, _: SeqNo) -> Result<usize, ConsensusError> {
        self.begin().await
    }

    fn durability(&self) -> larder::Durability {
        larder::Durability::Process
    }
}

/// The effects of the errors of head, compare-and-set, scan and truncate.
async fn effects(store: &impl Consensus) -> [Effect; 4] {
    let errors = [
        store.head("k").await.unwrap_err(),
        store.compare_and_set("k", None, version(1)).await.unwrap_err(),
        store.scan("k", SeqNo(0), 9).await.unwrap_err(),
        store.truncate("k", SeqNo(0)).await.unwrap_err(),
    ];
    for error in &errors {
        assert_eq!(error.retry(), Retry::Later, "{error:?}");
    }
    errors.map(|error| error.effect())
}

#[tokio::test(start_paused = true)]
async fn a_write_that_was_begun_is_unknown_when_its_time_is_over() {
    use Effect::{NotApplied, Unknown};
    let limit = Duration::from_secs(2);
    let stuck = Arc::new(Stuck::default());
    let store = Timeout::new(Arc::clone(&stuck), limit);
    let begun = tokio::time::Instant::now();
    assert_eq!(effects(&store).await, [NotApplied, Unknown, NotApplied, Unknown]);
    assert_eq!(begun.elapsed(), limit * 4);
    assert_eq!(stuck.0.load(Ordering::SeqCst), 4);
    let mut keys = store.list_keys();
    assert!(matches!(keys.next().await, Some(Err(ConsensusError::Determinate(_)))));
    assert!(keys.next().await.is_none());
    // Without time nothing is begun, and it is known that nothing was.
    let store = Timeout::new(Arc::clone(&stuck), Duration::ZERO);
    assert_eq!(effects(&store).await, [NotApplied; 4]);
    assert_eq!(stuck.0.load(Ordering::SeqCst), 4);
    let wrong = store.compare_and_set("k", Some(SeqNo(3)), version(3)).await;
    assert!(matches!(wrong, Err(ConsensusError::InvalidArgument(_))), "{wrong:?}");
}

/// Counters by their names and labels.
#[derive(Debug, Default)]
struct Counters(Mutex<BTreeMap<String, Arc<AtomicU64>>>);

impl Recorder for Counters {
    fn describe_counter(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_gauge(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn describe_histogram(&self, _: KeyName, _: Option<Unit>, _: SharedString) {}

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        let labels: Vec<_> = key.labels().map(metrics::Label::value).collect();
        let name = format!("{} {}", key.name(), labels.join(" "));
        Counter::from_arc(Arc::clone(self.0.lock().unwrap().entry(name).or_default()))
    }

    fn register_gauge(&self, _: &Key, _: &Metadata<'_>) -> Gauge {
        Gauge::noop()
    }

    fn register_histogram(&self, _: &Key, _: &Metadata<'_>) -> Histogram {
        Histogram::noop()
    }
}

#[tokio::test(start_paused = true)]
async fn calls_are_counted_by_what_came_of_them() {
    let counters = Counters::default();
    let unreliable = Unreliable::new(MemoryConsensus::default(), 5, 50);
    let (store, stuck) = metrics::with_local_recorder(&counters, || {
        (Measured::new(unreliable, "s"), Measured::new(Stuck::default(), "t"))
    });
    let mut told = BTreeMap::<&str, u64>::new();
    let (mut head, mut mismatched) = (None, 0);
    for turn in 0..200_u64 {
        let expected = if turn % 4 == 0 { Some(SeqNo(u64::MAX >> 2)) } else { head };
        let seqno = SeqNo(expected.map_or(0, |SeqNo(expected)| expected + 1));
        let new = VersionedData { seqno, data: "x".into() };
        let done = store.compare_and_set("k", expected, new).await;
        let word = match done {
            Ok(CaSResult::Committed) => "ok",
            Ok(CaSResult::ExpectationMismatch { current }) => {
                mismatched += 1;
                head = current;
                "mismatch"
            }
            Err(ConsensusError::Determinate(Determinate::Backend(_))) => "determinate",
            Err(_) => "indeterminate",
        };
        if word == "ok" {
            head = Some(seqno);
        }
        *told.entry(word).or_default() += 1;
    }
    assert!(mismatched > 0 && told.len() == 4, "{told:?}");
    assert!(store.compare_and_set("", None, version(1)).await.is_err());
    assert!(tokio::time::timeout(Duration::from_secs(1), stuck.head("k")).await.is_err());
    let count = |name: &str| {
        counters.0.lock().unwrap().get(name).map_or(0, |count| count.load(Ordering::SeqCst))
    };
    let of = |word: &str| count(&format!("larder_consensus_calls_total s compare_and_set {word}"));
    for (word, times) in told {
        assert_eq!(of(word), times, "{word}");
    }
    assert_eq!(of("invalid_argument"), 1);
    assert_eq!(count("larder_consensus_calls_total t head dropped"), 1);
}

#[tokio::test(start_paused = true)]
async fn nonces_find_out_what_became_of_a_write() {
    let (mut unknown, mut known) = (0, 0);
    for seed in 0..300 {
        let store = Nonced::new(Shaky::new(seed, 30, Hints::Lost));
        let done = store.compare_and_set("k", None, version(1)).await;
        // A rival writes the same bytes under the same number.
        let rival = Nonced::<Shaky>::seal(&version(1));
        let theirs = store.inner().truth().compare_and_set("k", None, rival).await.unwrap();
        match done {
            Ok(CaSResult::Committed) => {
                known += 1;
                assert_ne!(theirs, CaSResult::Committed);
            }
            Ok(CaSResult::ExpectationMismatch { .. }) => panic!("nobody was there before"),
            Err(ConsensusError::Indeterminate(_)) => unknown += 1,
            Err(_) => assert_eq!(theirs, CaSResult::Committed),
        }
    }
    assert!(known > unknown && unknown > 0, "{known} {unknown}");
}
