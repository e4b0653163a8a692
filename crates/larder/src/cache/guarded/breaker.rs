//! When a tier is left alone, and when it is tried again.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use larder_core::{BreakerState, SharedClock};

use super::GuardOptions;
use crate::cache::load::Jitter;

/// A circuit breaker.
///
/// While it is closed, admitting a call and hearing of its success touch two atomics; only failures
/// take the lock and ask the clock. It remembers numbers, not calls, and needs no timer: the pause
/// ends for the first call that comes after it.
#[derive(Debug)]
pub(super) struct Breaker {
    options: GuardOptions,
    clock: SharedClock,
    jitter: Jitter,
    /// Even while closed, odd otherwise. What began in one era tells nothing in another.
    era: AtomicU64,
    /// The calls that went well or failed while it was closed.
    heard: AtomicU64,
    phase: Mutex<Phase>,
}

#[derive(Clone, Copy, Debug)]
enum Phase {
    /// With what has failed lately, if anything has.
    Closed(Option<Window>),
    /// Half-open from `until` on.
    Open { until: Instant, pause: Duration },
    /// Half-open, and the one call that may find out is under way.
    Probing { since: Instant, pause: Duration },
}

/// The failures of a stretch of time that began with one.
#[derive(Clone, Copy, Debug)]
struct Window {
    ends: Instant,
    failures: u64,
    /// What was heard before it began.
    before: u64,
}

/// What a call tells about the tier.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    Works,
    Fails,
    /// Nothing: the caller made a mistake, or left.
    Silent,
}

/// What the end of a call has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Turn {
    Opened,
    /// A probe has failed.
    StaysOpen,
    Closed,
}

/// Why a call is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Refusal {
    Open { retry_in: Duration },
    Probing,
}

/// Leave to make a call. One that is dropped has told nothing.
#[derive(Debug)]
pub(super) struct Permit<'a> {
    breaker: &'a Breaker,
    era: u64,
    probe: bool,
    ended: bool,
}

/// Longer times are cut to this one, so that no moment is out of range.
const TIME_MAX: Duration = Duration::from_hours(24);

impl Breaker {
    pub(super) fn new(mut options: GuardOptions, clock: SharedClock, seed: u64) -> Self {
        options.window = options.window.min(TIME_MAX);
        options.pause_max = options.pause_max.min(TIME_MAX);
        options.pause = options.pause.min(options.pause_max);
        Self {
            options,
            clock,
            jitter: Jitter::seeded(seed),
            era: AtomicU64::new(0),
            heard: AtomicU64::new(0),
            phase: Mutex::new(Phase::Closed(None)),
        }
    }

    /// Lets a call through while closed, and as the probe if it may be that.
    pub(super) fn admit(&self, may_probe: bool) -> Result<Permit<'_>, Refusal> {
        let era = self.era.load(Ordering::Acquire);
        if era.is_multiple_of(2) { Ok(self.permit(era, false)) } else { self.probe(may_probe) }
    }

    /// Admits the one call that may find out whether the tier works again.
    #[cold]
    fn probe(&self, may_probe: bool) -> Result<Permit<'_>, Refusal> {
        let now = self.clock.instant();
        let mut phase = self.lock();
        let era = self.era.load(Ordering::Acquire);
        match *phase {
            Phase::Closed(_) => Ok(self.permit(era, false)),
            Phase::Open { until, pause } if may_probe && until <= now => {
                *phase = Phase::Probing { since: until, pause };
                Ok(self.permit(era, true))
            }
            Phase::Open { until, .. } => {
                Err(Refusal::Open { retry_in: until.saturating_duration_since(now) })
            }
            Phase::Probing { .. } => Err(Refusal::Probing),
        }
    }

    const fn permit(&self, era: u64, probe: bool) -> Permit<'_> {
        Permit { breaker: self, era, probe, ended: false }
    }

    /// What it lets through, and for how long it lets nothing through.
    pub(super) fn state(&self) -> (BreakerState, Option<Duration>) {
        let now = self.clock.instant();
        match *self.lock() {
            Phase::Closed(_) => (BreakerState::Closed, None),
            Phase::Open { until, .. } if now < until => {
                (BreakerState::Open, Some(until.saturating_duration_since(now)))
            }
            Phase::Open { .. } | Phase::Probing { .. } => (BreakerState::HalfOpen, None),
        }
    }

    /// Notes a failure while closed.
    #[cold]
    fn failed(&self, era: u64) -> Option<Turn> {
        let now = self.clock.instant();
        let mut phase = self.lock();
        if self.era.load(Ordering::Acquire) != era {
            return None;
        }
        let Phase::Closed(lately) = &mut *phase else { return None };
        let before = self.heard.fetch_add(1, Ordering::Relaxed);
        let mut window = lately.filter(|window| now < window.ends).unwrap_or(Window {
            ends: now + self.options.window,
            failures: 0,
            before,
        });
        window.failures += 1;
        *lately = Some(window);
        let calls = (before + 1).saturating_sub(window.before);
        let enough = window.failures >= u64::from(self.options.failures_min)
            && window.failures * 100 >= calls * u64::from(self.options.failure_percent);
        if !enough {
            return None;
        }
        self.open(&mut phase, now, self.options.pause);
        self.era.fetch_add(1, Ordering::Release);
        Some(Turn::Opened)
    }

    /// Hears of the probe.
    #[cold]
    fn probed(&self, verdict: Verdict) -> Option<Turn> {
        let now = self.clock.instant();
        let mut phase = self.lock();
        let Phase::Probing { since, pause } = *phase else { return None };
        match verdict {
            Verdict::Works => {
                *phase = Phase::Closed(None);
                self.era.fetch_add(1, Ordering::Release);
                Some(Turn::Closed)
            }
            Verdict::Fails => {
                let longer = pause.saturating_mul(2).min(self.options.pause_max);
                self.open(&mut phase, now, longer);
                Some(Turn::StaysOpen)
            }
            // The next one is the probe.
            Verdict::Silent => {
                *phase = Phase::Open { until: since, pause };
                None
            }
        }
    }

    fn open(&self, phase: &mut Phase, now: Instant, pause: Duration) {
        let shortened = self.jitter.share(self.options.jitter_percent).shorten(pause);
        *phase = Phase::Open { until: now + shortened, pause };
    }

    fn lock(&self) -> MutexGuard<'_, Phase> {
        // Nothing under the lock can panic half-way, so a poisoned phase is a sound one.
        self.phase.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Permit<'_> {
    /// Tells what became of the call.
    pub(super) fn end(mut self, verdict: Verdict) -> Option<Turn> {
        self.ended = true;
        let breaker = self.breaker;
        match verdict {
            _ if self.probe => breaker.probed(verdict),
            Verdict::Works => {
                if breaker.era.load(Ordering::Acquire) == self.era {
                    breaker.heard.fetch_add(1, Ordering::Relaxed);
                }
                None
            }
            Verdict::Fails => breaker.failed(self.era),
            Verdict::Silent => None,
        }
    }
}

impl Drop for Permit<'_> {
    fn drop(&mut self) {
        if self.probe && !self.ended {
            self.breaker.probed(Verdict::Silent);
        }
    }
}

#[cfg(test)]
mod tests;
