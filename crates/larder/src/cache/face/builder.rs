//! The settings of a cache.

use std::sync::Arc;
use std::time::Duration;

use larder_core::clock::random_u64;
use larder_core::{HybridClock, SharedClock, SharedTier, SystemClock};
use tokio::sync::Semaphore;

use super::super::Tagged;
use super::super::coherence::{Coherence, CoherenceOptions, Membership};
use super::super::load::{Flights, Jitter, LoadLease, LoadOptions, Pauses};
use super::super::tags::Floors;
use super::tally::Tally;
use super::{Cache, Inner};
use crate::compose::{BoundedOffload, OffloadLimits};

/// The settings of a [`Cache`].
#[derive(Debug)]
pub struct CacheBuilder<V> {
    tier: SharedTier<Tagged<V>>,
    name: String,
    clock: SharedClock,
    default_ttl: Option<Duration>,
    tags_max: usize,
    load: LoadOptions,
    offload: Option<BoundedOffload>,
    waiters_max: usize,
    lease: Option<LoadLease>,
    seed: Option<u64>,
    coherence: Option<CoherenceOptions>,
}

impl<V: Clone + Send + Sync + 'static> CacheBuilder<V> {
    /// How many callers may wait for loads at a time, unless set otherwise.
    pub const WAITERS_MAX: usize = 65_536;

    /// How long a load, with the write of what it gave, may take in the background of its own.
    const LOAD_TIME_MAX: Duration = Duration::from_mins(2);

    pub(super) fn new(tier: SharedTier<Tagged<V>>) -> Self {
        Self {
            tier,
            name: String::from("default"),
            clock: SystemClock::shared(),
            default_ttl: None,
            tags_max: Floors::TAGS_MAX,
            load: LoadOptions::new(),
            offload: None,
            waiters_max: Self::WAITERS_MAX,
            lease: None,
            seed: None,
            coherence: None,
        }
    }

    /// The name in metrics and events. Default: `default`.
    #[must_use]
    pub fn name(mut self, name: impl Into<String>) -> Self {
        self.name = name.into();
        self
    }

    /// What decides about staleness and dates versions. Default: the system clock. Give the tiers
    /// the same one.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// How long a value lives whose put or load does not say it. Default: for ever.
    #[must_use]
    pub fn default_ttl(mut self, ttl: Duration) -> Self {
        self.default_ttl = Some(ttl);
        self
    }

    /// How many invalidated tags are remembered. Default: 65,536.
    #[must_use]
    pub fn tags_max(mut self, tags_max: usize) -> Self {
        self.tags_max = tags_max;
        self
    }

    /// How [`Cache::get_or_load`] loads. Default: [`LoadOptions::new`].
    #[must_use]
    pub fn load_options(mut self, options: LoadOptions) -> Self {
        self.load = options;
        self
    }

    /// Where loads run; its limits bound how many run at a time and for how long at most. Drain it
    /// at shutdown. Default: one of its own for 1,024 loads of at most two minutes.
    #[must_use]
    pub fn offload(mut self, offload: BoundedOffload) -> Self {
        self.offload = Some(offload);
        self
    }

    /// How many callers may wait for loads at a time. Default: [`CacheBuilder::WAITERS_MAX`].
    #[must_use]
    pub fn waiters_max(mut self, waiters_max: usize) -> Self {
        self.waiters_max = waiters_max;
        self
    }

    /// Keeps the copies of this process in step with the same cache in other processes. Default:
    /// nobody is told of changes, and nobody tells.
    ///
    /// It speaks and listens in the background of the runtime that it is built or first used in.
    #[must_use]
    pub fn coherence(mut self, options: CoherenceOptions) -> Self {
        self.coherence = Some(options);
        self
    }

    /// Lets one process at a time load a key, among all that share a tier. Default: none, so that each
    /// process loads a key that it lacks.
    #[must_use]
    pub fn load_lease(mut self, lease: LoadLease) -> Self {
        self.lease = Some(lease);
        self
    }

    /// Lets jitter repeat itself, for tests. Default: a random seed.
    #[must_use]
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    /// The cache.
    pub fn build(self) -> Cache<V> {
        let Self {
            tier,
            name,
            clock,
            default_ttl,
            tags_max,
            load,
            offload,
            waiters_max,
            lease,
            seed,
            coherence,
        } = self;
        let versions = HybridClock::new(Arc::clone(&clock));
        let start = versions.next();
        let waiters_max = waiters_max.min(Semaphore::MAX_PERMITS);
        let limits = OffloadLimits::new().with_max_task_time(Self::LOAD_TIME_MAX);
        let membership = coherence
            .map(|options| Membership::new(Coherence::new(&name, start.origin(), &clock, options)));
        let cache = Cache(Arc::new(Inner {
            membership,
            tally: Tally::new(&name),
            floors: Floors::new(start, tags_max),
            origin: start.origin(),
            lease: lease.map(|lease| lease.clocked(Arc::clone(&clock))),
            name,
            tier,
            clock,
            versions,
            default_ttl,
            load,
            flights: Flights::new(),
            pauses: Pauses::new(),
            jitter: Jitter::seeded(seed.unwrap_or_else(random_u64)),
            offload: offload.unwrap_or_else(|| BoundedOffload::new(limits)),
            waiting: Semaphore::new(waiters_max),
            waiters_max,
        }));
        cache.tell_repairs();
        cache.keep_up();
        cache
    }
}
