//! A cache tier that may be slow or away, and must not hold up who asks it.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::random_u64;
use larder_core::{
    CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Effect, Found,
    GuardStats, Key, KeyRef, Now, RepairListener, SharedClock, Source, SystemClock, Tier,
    TierStats, TierUsage, WriteStatus,
};
use metrics::{Gauge, counter, gauge};
use tokio::time::timeout;

use super::tallied::Tallied;

mod breaker;
mod error;
mod options;

use breaker::{Breaker, Refusal, Turn, Verdict};
pub use error::GuardError;
pub use options::GuardOptions;

/// A cache tier with a time limit for every call and a circuit breaker.
///
/// Put it around a far layer, directly: then [`Tiered`](super::Tiered) treats a slow or open tier as
/// it treats a failing one. Reads are answered by the other layer, and what the tier misses of
/// writes and removes it owes until it confirms a later one.
///
/// # Time limits
/// A call that gets no answer within its limit is dropped. A read that was cut off did nothing
/// (`NotApplied`); a write, remove or clear may have happened or may happen yet (`Unknown`). Where
/// the tier has limits of its own, like Redis, let those here be longer: it knows better what was
/// sent.
///
/// # Circuit breaker
/// | state | what happens to a call |
/// |---|---|
/// | closed | it is made; when too many fail, by [`GuardOptions`], the breaker opens |
/// | open | it fails at once with [`GuardError::Open`], which says when the next one is let through |
/// | half-open, when the pause is over | one is made (no clear, which may take long), all others fail with [`GuardError::Probing`]; if it works the breaker closes, if it fails the pause doubles |
///
/// Failures are time limits and every [`CacheError::Backend`]. A miss, a condition that does not hold,
/// [`CacheError::TooLarge`] and [`CacheError::ConditionUnsupported`] are none, and the latter two
/// close nothing either. A call that its caller drops says nothing: let limits be shorter than the
/// patience of callers.
///
/// What the tier can say without waiting ([`Tier::read_now`]) is passed on in every state. A call
/// that is made costs no allocation and no lock while the breaker is closed.
///
/// # Metrics
/// With the label `tier`: `larder_cache_guard_timeouts_total`, `larder_cache_guard_failures_total`
/// (time limits included), `larder_cache_guard_refused_total`, `larder_cache_guard_opened_total` and
/// the gauge `larder_cache_guard_open` (1 while not closed). [`Guarded::stats`] has the same numbers:
/// keep an `Arc` of the guarded tier, which is a tier as well. Opening is a warning with the target
/// `larder::cache`, closing is told at info level.
///
/// # Cancel safety
/// As the tier. A dropped call frees the place of the probe.
///
/// ```
/// use larder::cache::{BreakerState, GuardOptions, Guarded, MemoryCache, Tiered};
/// use larder_core::{CacheValue, Condition, KeyRef, Tier};
/// use bytes::Bytes;
/// use std::sync::Arc;
/// use std::time::Duration;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let near: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).label("near").build();
/// # let remote: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).label("far").build();
/// let options = GuardOptions::new().read_limit(Duration::from_millis(50));
/// let far = Arc::new(Guarded::builder(remote).options(options).build());
/// let both = Tiered::builder(near, Arc::clone(&far)).build();
/// let key = KeyRef::new("k")?;
/// both.write(key, CacheValue::new(Bytes::from("v")), Condition::Always).await?;
/// assert_eq!(far.stats().state, BreakerState::Closed);
/// # Ok(()) }
/// ```
pub struct Guarded<T> {
    inner: T,
    label: Arc<str>,
    limits: Limits,
    breaker: Breaker,
    timeouts: Tallied,
    failures: Tallied,
    refused: Tallied,
    opened: Tallied,
    open: Gauge,
}

#[derive(Clone, Copy, Debug)]
struct Limits {
    read: Duration,
    write: Duration,
    clear: Duration,
}

/// Which limit a call has, and what it may do.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Read,
    Change,
    Clear,
}

impl Kind {
    /// The effect of a call that is cut off.
    const fn cut(self) -> Effect {
        match self {
            Self::Read => Effect::NotApplied,
            Self::Change | Self::Clear => Effect::Unknown,
        }
    }

    /// A clear may take long, and until the probe has ended nobody else gets through.
    const fn may_probe(self) -> bool {
        !matches!(self, Self::Clear)
    }
}

impl Limits {
    const fn of(self, kind: Kind) -> Duration {
        match kind {
            Kind::Read => self.read,
            Kind::Change => self.write,
            Kind::Clear => self.clear,
        }
    }
}

/// The settings of a [`Guarded`] tier.
#[derive(Debug)]
pub struct GuardedBuilder<T> {
    inner: T,
    label: Arc<str>,
    options: GuardOptions,
    clock: SharedClock,
    seed: Option<u64>,
}

impl<T> GuardedBuilder<T> {
    /// The name in metrics, events and errors. Default: the label of the tier. Two guards of one name
    /// share their metrics.
    #[must_use]
    pub fn label(mut self, label: impl Into<Arc<str>>) -> Self {
        self.label = label.into();
        self
    }

    /// Limits and breaker. Default: [`GuardOptions::new`].
    #[must_use]
    pub fn options(mut self, options: GuardOptions) -> Self {
        self.options = options;
        self
    }

    /// What the breaker measures windows and pauses with. Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Lets jitter repeat itself, for tests. Default: a random seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The guarded tier, closed.
    pub fn build(self) -> Guarded<T> {
        let Self { inner, label, options, clock, seed } = self;
        let of = |metric: &'static str| Tallied::new(counter!(metric, "tier" => label.to_string()));
        Guarded {
            timeouts: of("larder_cache_guard_timeouts_total"),
            failures: of("larder_cache_guard_failures_total"),
            refused: of("larder_cache_guard_refused_total"),
            opened: of("larder_cache_guard_opened_total"),
            open: gauge!("larder_cache_guard_open", "tier" => label.to_string()),
            limits: Limits {
                read: options.read_limit,
                write: options.write_limit,
                clear: options.clear_limit,
            },
            breaker: Breaker::new(options, clock, seed.unwrap_or_else(random_u64)),
            inner,
            label,
        }
    }
}

impl<T> Guarded<T> {
    /// A guard of `tier`, to be refined.
    pub fn builder<V>(tier: T) -> GuardedBuilder<T>
    where
        T: Tier<V>,
    {
        GuardedBuilder {
            label: Arc::from(tier.label()),
            inner: tier,
            options: GuardOptions::new(),
            clock: SystemClock::shared(),
            seed: None,
        }
    }

    /// What it has done so far, and what it lets through now.
    pub fn stats(&self) -> GuardStats {
        let (state, retry_in) = self.breaker.state();
        GuardStats {
            state,
            retry_in,
            opened: self.opened.get(),
            timeouts: self.timeouts.get(),
            failures: self.failures.get(),
            refused: self.refused.get(),
        }
    }

    /// Makes a call if the breaker lets it through.
    async fn guard<A>(
        &self,
        operation: &'static str,
        kind: Kind,
        call: impl Future<Output = Result<A, CacheError>>,
    ) -> Result<A, CacheError> {
        let permit = self.breaker.admit(kind.may_probe());
        let permit = permit.map_err(|refusal| self.refuse(operation, refusal))?;
        let answer = self.limited(operation, kind, call).await;
        let verdict = match &answer {
            Ok(_) => Verdict::Works,
            Err(CacheError::TooLarge { .. } | CacheError::ConditionUnsupported) => Verdict::Silent,
            Err(_) => {
                self.failures.increment();
                Verdict::Fails
            }
        };
        if let Some(turn) = permit.end(verdict) {
            self.tell(turn);
        }
        answer
    }

    /// Makes a call within the time limit of its kind.
    async fn limited<A>(
        &self,
        operation: &'static str,
        kind: Kind,
        call: impl Future<Output = Result<A, CacheError>>,
    ) -> Result<A, CacheError> {
        let limit = self.limits.of(kind);
        timeout(limit, call).await.unwrap_or_else(|_| {
            self.timeouts.increment();
            Err(GuardError::TimedOut { tier: Arc::clone(&self.label), limit }
                .of(operation, kind.cut()))
        })
    }

    #[cold]
    fn refuse(&self, operation: &'static str, refusal: Refusal) -> CacheError {
        self.refused.increment();
        let tier = Arc::clone(&self.label);
        let error = match refusal {
            Refusal::Open { retry_in } => GuardError::Open { tier, retry_in },
            Refusal::Probing => GuardError::Probing { tier },
        };
        error.of(operation, Effect::NotApplied)
    }

    #[cold]
    fn tell(&self, turn: Turn) {
        let tier = &*self.label;
        match turn {
            Turn::Opened => {
                self.opened.increment();
                self.open.set(1.0);
                tracing::warn!(target: "larder::cache", tier, "a cache tier has failed too often and is left alone");
            }
            Turn::StaysOpen => {
                tracing::debug!(target: "larder::cache", tier, "a cache tier still fails");
            }
            Turn::Closed => {
                self.open.set(0.0);
                tracing::info!(target: "larder::cache", tier, "a cache tier works again");
            }
        }
    }
}

#[deny(clippy::missing_trait_methods)]
impl<V, T> Tier<V> for Guarded<T>
where
    V: Clone + Send + Sync + 'static,
    T: Tier<V>,
{
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<V>>, CacheError> {
        match self.inner.read_now(key) {
            Now::Hit(found) => Ok(Some(found)),
            Now::Miss => Ok(None),
            Now::Ask => {
                let call = self.inner.read(key);
                self.guard("read", Kind::Read, call).await
            }
        }
    }

    fn read_now(&self, key: KeyRef<'_>) -> Now<V> {
        self.inner.read_now(key)
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<V>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        let call = self.inner.write(key, value, condition);
        self.guard("write", Kind::Change, call).await
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        let call = self.inner.remove(key, condition);
        self.guard("remove", Kind::Change, call).await
    }

    async fn read_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Found<V>>>, CacheError> {
        let call = self.inner.read_many(keys);
        self.guard("read", Kind::Read, call).await
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let call = self.inner.write_many(entries, condition);
        self.guard("write", Kind::Change, call).await
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        let call = self.inner.remove_many(keys, condition);
        self.guard("remove", Kind::Change, call).await
    }

    async fn clear(&self) -> Result<(), CacheError> {
        self.guard("clear", Kind::Clear, self.inner.clear()).await
    }

    /// Within the time limit, also while the breaker is open: what is only here has to go.
    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        let call = self.inner.forget(key, condition);
        self.limited("forget", Kind::Change, call).await
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        self.limited("forget", Kind::Clear, self.inner.forget_all()).await
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn describe(&self, source: Source) -> String {
        self.inner.describe(source)
    }

    fn conditions(&self) -> Conditions {
        self.inner.conditions()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn usage(&self) -> Option<TierUsage> {
        self.inner.usage()
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        let mut tiers = self.inner.tier_stats();
        for tier in &mut tiers {
            tier.guard = Some(self.stats());
        }
        tiers
    }

    fn on_repair(&self, listener: &RepairListener) {
        self.inner.on_repair(listener);
    }
}

impl<T: fmt::Debug> fmt::Debug for Guarded<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Guarded")
            .field("inner", &self.inner)
            .field("breaker", &self.breaker.state().0)
            .finish_non_exhaustive()
    }
}
