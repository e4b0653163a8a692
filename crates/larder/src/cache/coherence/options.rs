//! How a cache keeps in step with other processes.

use std::time::Duration;

use larder_core::{SharedBus, Topic};

/// How a cache keeps in step with the same cache in other processes.
///
/// # The bound
/// After a put or remove has returned in one process, another one serves the old value for at most
/// [`staleness_max`](Self::staleness_max), whatever happens to the bus; as a rule for the time of one
/// message, well below a millisecond on one machine.
///
/// - A process that does not hear itself or one of the others for a third of it doubts its
///   copies: from then on none is served that is older than a third of the bound. What is shared
///   is asked more often, nothing else changes.
/// - A process that finds that it has missed something forgets its copies at once.
///
/// The bound supposes that the shared tier was written. It does not hold against a process that could
/// never reach the bus, or was cut off from it, alone, for longer than
/// [`forget_after`](Self::forget_after): it says so by a warning and by its statistics.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct CoherenceOptions {
    /// What carries the messages.
    pub bus: SharedBus,
    /// What they are about: the same in all processes that share the cache, and nowhere else.
    pub topic: Topic,
    /// For how long an old value may be served at most. Default: 6 s; at least 60 ms.
    pub staleness_max: Duration,
    /// After which silence a process that has not said goodbye counts as gone. Default: 10 minutes.
    ///
    /// Until then the others doubt their copies, because it may be alive and only cut off.
    pub forget_after: Duration,
    /// How many changes may wait to be told; beyond that the others are told that they missed some.
    /// Default: 65,536.
    pub changes_max: usize,
}

impl CoherenceOptions {
    /// The default of `staleness_max`.
    pub const STALENESS_MAX: Duration = Duration::from_secs(6);
    /// The least `staleness_max` that is kept to.
    pub const STALENESS_LEAST: Duration = Duration::from_millis(60);
    /// The default of `forget_after`.
    pub const FORGET_AFTER: Duration = Duration::from_mins(10);
    /// The default of `changes_max`.
    pub const CHANGES_MAX: usize = 65_536;

    /// The defaults, for a bus and a topic.
    pub const fn new(bus: SharedBus, topic: Topic) -> Self {
        Self {
            bus,
            topic,
            staleness_max: Self::STALENESS_MAX,
            forget_after: Self::FORGET_AFTER,
            changes_max: Self::CHANGES_MAX,
        }
    }

    /// Serves an old value for at most `staleness_max`.
    #[must_use]
    pub const fn staleness_max(mut self, staleness_max: Duration) -> Self {
        self.staleness_max = staleness_max;
        self
    }

    /// Takes a silent process for gone after `silence`.
    #[must_use]
    pub const fn forget_after(mut self, silence: Duration) -> Self {
        self.forget_after = silence;
        self
    }

    /// Lets so many changes wait to be told.
    #[must_use]
    pub const fn changes_max(mut self, changes_max: usize) -> Self {
        self.changes_max = changes_max;
        self
    }

    /// The silence after which others are in doubt: one message may take it to get to the bus,
    /// another one from there, and then it takes one more to be missed.
    pub(super) fn silence_max(&self) -> Duration {
        self.staleness_max.max(Self::STALENESS_LEAST) / 3
    }
}
