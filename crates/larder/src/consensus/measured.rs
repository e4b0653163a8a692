//! What a store does, in numbers.

use std::time::{Duration, Instant};

use larder_core::{
    CaSResult, Clock as _, Consensus, ConsensusError, Durability, Failure as _, KeyStream, SeqNo,
    SystemClock, VersionedData,
};
use metrics::{Counter, Histogram, counter, histogram};

/// A store whose calls are counted and timed, for whatever collects the `metrics` of the program.
///
/// | metric | labels | |
/// |---|---|---|
/// | `larder_consensus_calls_total` | `store`, `operation`, `outcome` | calls that ended |
/// | `larder_consensus_duration_seconds` | `store`, `operation` | how long they took, dropped ones included |
///
/// `operation` is `head`, `compare_and_set`, `scan` or `truncate`. `outcome` is `ok`, `mismatch`,
/// `invalid_argument`, `determinate`, `indeterminate`, or `dropped` when the caller left: of a compare-and-set
/// or truncation nobody knows then what became of it. Keys and data are in no label. A listing is not counted.
///
/// ```
/// use larder::consensus::Measured;
/// use larder::{Consensus, MemoryConsensus};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::ConsensusError> {
/// let store = Measured::new(MemoryConsensus::default(), "orders");
/// assert_eq!(store.head("key").await?, None);
/// # Ok(()) }
/// ```
pub struct Measured<C> {
    store: C,
    head: Meter,
    compare_and_set: Meter,
    scan: Meter,
    truncate: Meter,
}

/// The numbers of one operation.
struct Meter {
    outcomes: [Counter; OUTCOMES.len()],
    duration: Histogram,
}

const OUTCOMES: [&str; 6] =
    ["ok", "mismatch", "invalid_argument", "determinate", "indeterminate", "dropped"];

/// How a call ended.
#[derive(Clone, Copy)]
enum Outcome {
    Ok,
    Mismatch,
    InvalidArgument,
    Determinate,
    Indeterminate,
    Dropped,
}

impl Outcome {
    const fn place(self) -> usize {
        match self {
            Self::Ok => 0,
            Self::Mismatch => 1,
            Self::InvalidArgument => 2,
            Self::Determinate => 3,
            Self::Indeterminate => 4,
            Self::Dropped => 5,
        }
    }

    fn of(error: &ConsensusError) -> Self {
        match error {
            ConsensusError::InvalidArgument(_) => Self::InvalidArgument,
            _ if error.effect() == larder_core::Effect::NotApplied => Self::Determinate,
            _ => Self::Indeterminate,
        }
    }
}

impl Meter {
    fn new(store: &str, operation: &'static str) -> Self {
        let outcomes = OUTCOMES.map(|outcome| {
            counter!("larder_consensus_calls_total", "store" => store.to_owned(),
                     "operation" => operation, "outcome" => outcome)
        });
        let duration = histogram!("larder_consensus_duration_seconds", "store" => store.to_owned(),
                                  "operation" => operation);
        Self { outcomes, duration }
    }

    /// Measures a call.
    async fn measure<T>(
        &self,
        call: impl Future<Output = Result<T, ConsensusError>>,
        judge: impl Fn(&T) -> Outcome,
    ) -> Result<T, ConsensusError> {
        let mut under_way =
            UnderWay { meter: self, begun: SystemClock.instant(), outcome: Outcome::Dropped };
        let result = call.await;
        under_way.outcome = match &result {
            Ok(answer) => judge(answer),
            Err(error) => Outcome::of(error),
        };
        result
    }
}

/// A call that is under way; what it came to is counted in the end.
struct UnderWay<'a> {
    meter: &'a Meter,
    begun: Instant,
    outcome: Outcome,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let took: Duration = SystemClock.instant().saturating_duration_since(self.begun);
        self.meter.duration.record(took);
        if let Some(counter) = self.meter.outcomes.get(self.outcome.place()) {
            counter.increment(1);
        }
    }
}

impl<C> Measured<C> {
    /// `store`, whose numbers get the label `name`.
    pub fn new(store: C, name: &str) -> Self {
        let of = |operation| Meter::new(name, operation);
        let (head, compare_and_set) = (of("head"), of("compare_and_set"));
        Self { store, head, compare_and_set, scan: of("scan"), truncate: of("truncate") }
    }
}

fn ok<T>(_: &T) -> Outcome {
    Outcome::Ok
}

#[deny(clippy::missing_trait_methods)]
impl<C: Consensus> Consensus for Measured<C> {
    fn list_keys(&self) -> KeyStream {
        self.store.list_keys()
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.head.measure(self.store.head(key), ok).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        let call = self.store.compare_and_set(key, expected, new);
        let judge = |result: &CaSResult| match result {
            CaSResult::Committed => Outcome::Ok,
            CaSResult::ExpectationMismatch { .. } => Outcome::Mismatch,
        };
        self.compare_and_set.measure(call, judge).await
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        self.scan.measure(self.store.scan(key, from, limit), ok).await
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        self.truncate.measure(self.store.truncate(key, seqno), ok).await
    }

    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        self.store.changed(key, seen).await;
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }
}

impl<C: std::fmt::Debug> std::fmt::Debug for Measured<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_tuple("Measured").field(&self.store).finish()
    }
}
