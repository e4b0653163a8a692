//! What a guard allows and when it gives a tier up.

use std::time::Duration;

/// The time limits and the circuit breaker of a [`Guarded`](super::Guarded) tier.
///
/// The defaults: a second for a call, opened when half of at least five calls within ten seconds
/// have failed, tried again after a second, later after up to thirty.
///
/// ```
/// use larder::cache::GuardOptions;
/// use std::time::Duration;
///
/// let options = GuardOptions::new()
///     .read_limit(Duration::from_millis(50))
///     .write_limit(Duration::from_millis(200))
///     .pause(Duration::from_millis(500));
/// assert_eq!(options.failure_percent, 50);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct GuardOptions {
    /// How long a read may take, of one key or many. Default: 1 second.
    pub read_limit: Duration,
    /// How long a write or remove may take, of one key or many. Default: 1 second.
    pub write_limit: Duration,
    /// How long a clear may take. Default: 70 seconds.
    pub clear_limit: Duration,
    /// How long failures are counted together: from the first one on. Default: 10 seconds, at most
    /// a day.
    pub window: Duration,
    /// How many calls have to fail within a window, at least, before the breaker opens. Default: 5.
    /// Zero is one.
    pub failures_min: u32,
    /// Which part of the calls within a window has to fail, in percent. Default: 50. With 0 only
    /// `failures_min` counts, and beyond 100 the breaker never opens.
    pub failure_percent: u8,
    /// How long a tier is left alone when the breaker opens; each probe that fails doubles it, up to
    /// `pause_max`. Default: 1 second.
    pub pause: Duration,
    /// The longest pause. Default: 30 seconds, at most a day.
    pub pause_max: Duration,
    /// How much shorter pauses are made at random, in percent of themselves, so that processes do
    /// not probe in step. Default: 20. Beyond 100 it is 100.
    pub jitter_percent: u8,
}

impl GuardOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            read_limit: Duration::from_secs(1),
            write_limit: Duration::from_secs(1),
            clear_limit: Duration::from_secs(70),
            window: Duration::from_secs(10),
            failures_min: 5,
            failure_percent: 50,
            pause: Duration::from_secs(1),
            pause_max: Duration::from_secs(30),
            jitter_percent: 20,
        }
    }

    /// Sets `read_limit`.
    #[must_use]
    pub const fn read_limit(mut self, limit: Duration) -> Self {
        self.read_limit = limit;
        self
    }

    /// Sets `write_limit`.
    #[must_use]
    pub const fn write_limit(mut self, limit: Duration) -> Self {
        self.write_limit = limit;
        self
    }

    /// Sets `clear_limit`.
    #[must_use]
    pub const fn clear_limit(mut self, limit: Duration) -> Self {
        self.clear_limit = limit;
        self
    }

    /// Sets `window`.
    #[must_use]
    pub const fn window(mut self, window: Duration) -> Self {
        self.window = window;
        self
    }

    /// Sets `failures_min`.
    #[must_use]
    pub const fn failures_min(mut self, failures: u32) -> Self {
        self.failures_min = failures;
        self
    }

    /// Sets `failure_percent`.
    #[must_use]
    pub const fn failure_percent(mut self, percent: u8) -> Self {
        self.failure_percent = percent;
        self
    }

    /// Sets `pause`.
    #[must_use]
    pub const fn pause(mut self, pause: Duration) -> Self {
        self.pause = pause;
        self
    }

    /// Sets `pause_max`.
    #[must_use]
    pub const fn pause_max(mut self, pause: Duration) -> Self {
        self.pause_max = pause;
        self
    }

    /// Sets `jitter_percent`.
    #[must_use]
    pub const fn jitter_percent(mut self, percent: u8) -> Self {
        self.jitter_percent = percent;
        self
    }
}

impl Default for GuardOptions {
    fn default() -> Self {
        Self::new()
    }
}
