//! How a value is loaded and kept.

use std::time::Duration;

/// How a cache loads values, and how long it keeps what was loaded.
///
/// What a [`Loaded`](super::Loaded) says about its own life goes before these. The defaults: kept
/// as long as the cache's default, never stale, refreshed in the background once stale, given up
/// after 30 seconds.
///
/// # What a caller waits for
/// | the cache has | the caller gets |
/// |---|---|
/// | a fresh value | it, at once |
/// | a stale one | it: at once, or when the load has not ended after `soft_timeout`, or has failed |
/// | none | what the loader gives, or its error; an error after `hard_timeout` |
///
/// ```
/// use larder::cache::LoadOptions;
/// use std::time::Duration;
///
/// // Fresh for a minute, usable for an hour; nobody waits for a refresh longer than 50 ms.
/// let options = LoadOptions::new()
///     .ttl(Duration::from_hours(1))
///     .stale_after(Duration::from_mins(1))
///     .soft_timeout(Duration::from_millis(50))
///     .jitter_percent(10);
/// # let _ = options;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct LoadOptions {
    /// How long a loaded value lives; `None`: the default of the cache.
    pub ttl: Option<Duration>,
    /// When a loaded value is due for a refresh; `None`: never.
    pub stale_after: Option<Duration>,
    /// How long it is remembered that there is no value. Default: 5 seconds.
    pub negative_ttl: Duration,
    /// How much shorter lives are made at random, in percent of themselves, so that values which
    /// were loaded together do not expire together. Default: 0. Beyond 100 it is 100.
    pub jitter_percent: u8,
    /// After which part of the life, in percent, a fresh value is refreshed in the background, if
    /// it is asked for. Of the time until it is stale, or until it expires when it never is.
    /// `None`, the default: not before it is stale.
    pub eager_refresh_percent: Option<u8>,
    /// How long a caller waits for a refresh before it gets the stale value. The load goes on.
    /// Default: zero, so that nobody waits.
    pub soft_timeout: Duration,
    /// How long a loader may take before it is dropped, and how long a caller waits who has
    /// nothing to fall back on. Default: 30 seconds.
    pub hard_timeout: Duration,
    /// How long no refresh is tried after one has failed; each further failure doubles it, up to
    /// `back_off_max`. Meanwhile the stale value is served. Default: 1 second.
    pub back_off: Duration,
    /// The longest pause after failures. Default: 30 seconds.
    pub back_off_max: Duration,
}

impl LoadOptions {
    /// The defaults.
    pub const fn new() -> Self {
        Self {
            ttl: None,
            stale_after: None,
            negative_ttl: Duration::from_secs(5),
            jitter_percent: 0,
            eager_refresh_percent: None,
            soft_timeout: Duration::ZERO,
            hard_timeout: Duration::from_secs(30),
            back_off: Duration::from_secs(1),
            back_off_max: Duration::from_secs(30),
        }
    }

    /// A loaded value lives for `ttl`.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// A loaded value is due for a refresh `after` its load.
    #[must_use]
    pub const fn stale_after(mut self, after: Duration) -> Self {
        self.stale_after = Some(after);
        self
    }

    /// That there is no value is remembered for `ttl`; zero: not at all.
    #[must_use]
    pub const fn negative_ttl(mut self, ttl: Duration) -> Self {
        self.negative_ttl = ttl;
        self
    }

    /// Lives are up to this much shorter than asked for, at random.
    #[must_use]
    pub const fn jitter_percent(mut self, percent: u8) -> Self {
        self.jitter_percent = percent;
        self
    }

    /// A fresh value is refreshed in the background after this part of its life.
    #[must_use]
    pub const fn eager_refresh_percent(mut self, percent: u8) -> Self {
        self.eager_refresh_percent = Some(percent);
        self
    }

    /// A caller who could be given a stale value waits so long for a fresh one.
    #[must_use]
    pub const fn soft_timeout(mut self, timeout: Duration) -> Self {
        self.soft_timeout = timeout;
        self
    }

    /// A loader is dropped after `timeout`.
    #[must_use]
    pub const fn hard_timeout(mut self, timeout: Duration) -> Self {
        self.hard_timeout = timeout;
        self
    }

    /// The pause after a failed refresh is `first`, and doubles up to `longest`.
    #[must_use]
    pub const fn back_off(mut self, first: Duration, longest: Duration) -> Self {
        self.back_off = first;
        self.back_off_max = longest;
        self
    }
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self::new()
    }
}
