//! Layers that answer what a test tells them, when it tells them, and remember what happened.

use std::error::Error;
use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use larder::compose::{
    BoundedOffload, CompositionReadPolicy, CompositionWritePolicy, Counted, LayerCall, Observer,
    OffloadLimits, OnLayerError, ReadRequest, WriteRequest,
};
use larder_core::{CacheValue, Clock, Effect, Failure, ManualClock, Retry, Timestamp, Version};

pub(crate) type Value = CacheValue<&'static str>;

/// The error of a scripted layer, with a cause of its own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Oops {
    pub(crate) layer: &'static str,
    pub(crate) effect: Effect,
    pub(crate) retry: Retry,
    cause: Cause,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cause(pub(crate) &'static str);

impl Oops {
    pub(crate) const fn of(layer: &'static str) -> Self {
        Self { layer, effect: Effect::Unknown, retry: Retry::Never, cause: Cause(layer) }
    }

    pub(crate) const fn not_applied(mut self) -> Self {
        self.effect = Effect::NotApplied;
        self
    }

    pub(crate) const fn later(mut self) -> Self {
        self.retry = Retry::Later;
        self
    }
}

impl fmt::Display for Oops {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} is down", self.layer)
    }
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} was unplugged", self.0)
    }
}

impl Error for Cause {}

impl Error for Oops {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(&self.cause)
    }
}

impl Failure for Oops {
    fn effect(&self) -> Effect {
        self.effect
    }

    fn retry(&self) -> Retry {
        self.retry
    }
}

/// One layer call that gives `answer` after `delay`.
#[derive(Clone)]
pub(crate) struct Layer<A> {
    answer: Result<A, Oops>,
    delay: Duration,
    seen: Arc<Seen>,
}

#[derive(Default)]
struct Seen {
    polled: AtomicUsize,
    finished: AtomicUsize,
    cut_off: AtomicUsize,
}

impl<A: Clone + Send + Sync + 'static> Layer<A> {
    pub(crate) fn new(answer: Result<A, Oops>, delay: Duration) -> Self {
        Self { answer, delay, seen: Arc::default() }
    }

    pub(crate) fn now(answer: Result<A, Oops>) -> Self {
        Self::new(answer, Duration::ZERO)
    }

    pub(crate) fn in_ms(answer: Result<A, Oops>, ms: u64) -> Self {
        Self::new(answer, Duration::from_millis(ms))
    }

    /// How many of its futures were polled at least once.
    pub(crate) fn polled(&self) -> usize {
        self.seen.polled.load(Ordering::SeqCst)
    }

    /// How many of its futures ran to their end.
    pub(crate) fn finished(&self) -> usize {
        self.seen.finished.load(Ordering::SeqCst)
    }

    /// How many of its futures were polled and then dropped before their end.
    pub(crate) fn cut_off(&self) -> usize {
        self.seen.cut_off.load(Ordering::SeqCst)
    }

    fn run(&self) -> impl Future<Output = Result<A, Oops>> + Send + 'static {
        let Self { answer, delay, seen } = self.clone();
        async move {
            seen.polled.fetch_add(1, Ordering::SeqCst);
            let mut end = End { seen, finished: false };
            if !delay.is_zero() {
                tokio::time::sleep(delay).await;
            }
            end.finished = true;
            answer
        }
    }
}

struct End {
    seen: Arc<Seen>,
    finished: bool,
}

impl Drop for End {
    fn drop(&mut self) {
        let counter = if self.finished { &self.seen.finished } else { &self.seen.cut_off };
        counter.fetch_add(1, Ordering::SeqCst);
    }
}

impl<A: Clone + Send + Sync + 'static> LayerCall<A, Oops> for &Layer<A> {
    fn call(&self) -> impl Future<Output = Result<A, Oops>> + Send {
        self.run()
    }

    fn call_owned(&self) -> impl Future<Output = Result<A, Oops>> + Send + 'static {
        self.run()
    }
}

/// What a composite would own: everything a request borrows.
pub(crate) struct Stage {
    pub(crate) clock: ManualClock,
    pub(crate) offload: BoundedOffload,
    pub(crate) observer: Observer,
    pub(crate) on_layer_error: OnLayerError,
    pub(crate) counted: Counted,
}

impl Stage {
    pub(crate) fn new() -> Self {
        Self {
            clock: ManualClock::default(),
            offload: BoundedOffload::default(),
            observer: Observer::new("stage"),
            on_layer_error: OnLayerError::Miss,
            counted: Counted::Both,
        }
    }

    /// With a background that refuses everything.
    pub(crate) fn refusing() -> Self {
        let offload = BoundedOffload::new(OffloadLimits::new().with_max_tasks(0));
        Self { offload, ..Self::new() }
    }

    pub(crate) fn failing(on_layer_error: OnLayerError) -> Self {
        Self { on_layer_error, ..Self::new() }
    }

    pub(crate) fn now(&self) -> Timestamp {
        self.clock.now()
    }

    pub(crate) fn read_request(&self) -> ReadRequest<'_, str, BoundedOffload> {
        ReadRequest {
            key: "key",
            clock: &self.clock,
            on_layer_error: self.on_layer_error,
            offload: &self.offload,
            observer: &self.observer,
        }
    }

    pub(crate) fn write_request(&self) -> WriteRequest<'_, str, BoundedOffload> {
        WriteRequest {
            key: "key",
            counted: self.counted,
            offload: &self.offload,
            observer: &self.observer,
        }
    }

    pub(crate) async fn read(
        &self,
        policy: &impl CompositionReadPolicy,
        l1: &Layer<Option<Value>>,
        l2: &Layer<Option<Value>>,
    ) -> Result<larder::compose::ReadResult<Value, Oops>, larder::compose::CompositionError<Oops>>
    {
        policy.execute_with(self.read_request(), l1, l2).await
    }

    pub(crate) async fn write(
        &self,
        policy: &impl CompositionWritePolicy,
        l1: &Layer<()>,
        l2: &Layer<()>,
    ) -> Result<larder::compose::Outcome<Oops>, larder::compose::CompositionError<Oops>> {
        policy.execute_with(self.write_request(), l1, l2).await
    }

    // Values, relative to the stage's clock.

    pub(crate) fn fresh(&self, data: &'static str) -> Value {
        CacheValue::new(data)
            .with_ttl(self.now(), Duration::from_secs(100))
            .with_stale_after(self.now(), Duration::from_secs(50))
    }

    pub(crate) fn stale(&self, data: &'static str) -> Value {
        let mut value = self.fresh(data);
        value.stale = Some(self.now());
        value
    }

    pub(crate) fn expired(&self, data: &'static str) -> Value {
        let mut value = self.fresh(data);
        value.expire = Some(self.now());
        value
    }
}

pub(crate) fn version(reading: u64) -> Version {
    Version::from_parts(reading, 1)
}

pub(crate) const L1_DOWN: Oops = Oops::of("near");
pub(crate) const L2_DOWN: Oops = Oops::of("far");
