//! The state machine of the gate: when a condition closes it, and when it opens again.
//!
//! Time is passed in. A condition that can pass goes this way:
//!
//! ```text
//!          holds            for close_after           no longer holds
//!  Clear ───────▶ Rising ─────────────────▶ Shedding ◀───────────────▶ Waning
//!    ▲              │ ends                     ▲          holds again     │ for open_after
//!    ├──────────────┘                          │ holds again              ▼
//!    └────────────────────────── for trial ────┴──────────────────────  Trial
//! ```
//!
//! Only `Shedding` and `Waning` refuse puts. On trial a condition that comes back closes the gate at
//! once, so that a lasting cause makes few callers wait for it. The others are `Latched` until they
//! are cured from outside.

use std::time::Duration;

use super::{Condition, HealthState, Reason};

/// How long a condition has to hold to close the gate, and to be gone to open it.
struct Rule {
    close_after: Duration,
    open_after: Duration,
    trial: Duration,
}

/// A full disk is told to callers one by one from the first; readiness changes when it lasts.
const NO_SPACE: Rule = Rule::new(15, 10, 15);
/// Looks at the free space are seconds apart, and the thresholds differ by direction.
const FREE: Rule = Rule::new(0, 5, 0);
/// The window is in the count of places.
const READ_ERRORS: Rule = Rule::new(0, 5, 0);
const BACKLOG: Rule = Rule::new(15, 5, 15);
/// How long one refusal counts when none follows and nothing was written.
const LINGER: Duration = Duration::from_secs(5);

impl Rule {
    const fn new(close_after: u64, open_after: u64, trial: u64) -> Self {
        Self {
            close_after: Duration::from_secs(close_after),
            open_after: Duration::from_secs(open_after),
            trial: Duration::from_secs(trial),
        }
    }

    const fn of(reason: Reason) -> Option<&'static Self> {
        match reason {
            Reason::WriteFailed | Reason::FolderGone | Reason::Structural => None,
            Reason::LowSpace | Reason::LowInodes => Some(&FREE),
            Reason::NoSpace => Some(&NO_SPACE),
            Reason::ReadErrors => Some(&READ_ERRORS),
            Reason::Backlog => Some(&BACKLOG),
        }
    }
}

/// What was seen since the last look.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[expect(clippy::struct_excessive_bools, reason = "each is a sign of its own")]
pub(crate) struct Signs {
    pub(crate) low_space: bool,
    pub(crate) low_inodes: bool,
    /// A put was refused by a full disk since the last look.
    pub(crate) no_space: bool,
    /// The last put that was tried was written.
    pub(crate) wrote: bool,
    pub(crate) read_errors: bool,
    pub(crate) backlog: bool,
}

/// Where a condition is on its way; the times are those at which it came there.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    Clear,
    Rising(Duration),
    Shedding(Duration),
    /// Since when it sheds, and since when it no longer holds.
    Waning(Duration, Duration),
    Trial(Duration),
    Latched(Duration),
}

impl Phase {
    fn next(self, holds: bool, now: Duration, rule: &Rule) -> Self {
        let past = |since: Duration, wait: Duration| now.saturating_sub(since) >= wait;
        match (self, holds) {
            (Self::Clear, true) if rule.close_after.is_zero() => Self::Shedding(now),
            (Self::Clear, true) => Self::Rising(now),
            (Self::Rising(since), true) if past(since, rule.close_after) => Self::Shedding(now),
            (Self::Rising(_), false) => Self::Clear,
            (Self::Shedding(since), false) => Self::Waning(since, now),
            (Self::Waning(since, _), true) => Self::Shedding(since),
            (Self::Waning(_, gone), false) if past(gone, rule.open_after) => {
                if rule.trial.is_zero() { Self::Clear } else { Self::Trial(now) }
            }
            (Self::Trial(_), true) => Self::Shedding(now),
            (Self::Trial(since), false) if past(since, rule.trial) => Self::Clear,
            (phase, _) => phase,
        }
    }

    const fn state(self) -> HealthState {
        match self {
            Self::Clear => HealthState::Healthy,
            Self::Rising(_) | Self::Trial(_) => HealthState::Degraded,
            Self::Shedding(_) | Self::Waning(..) | Self::Latched(_) => HealthState::Shedding,
        }
    }

    const fn since(self) -> Option<Duration> {
        match self {
            Self::Clear => None,
            Self::Rising(since)
            | Self::Shedding(since)
            | Self::Waning(since, _)
            | Self::Trial(since)
            | Self::Latched(since) => Some(since),
        }
    }
}

/// All conditions of one log.
#[derive(Debug)]
pub(crate) struct Machine {
    phases: [Phase; Reason::ALL.len()],
    now: Duration,
    /// When puts were last refused by a full disk, unless one was written since.
    refused_at: Option<Duration>,
    closings: u64,
}

impl Default for Machine {
    fn default() -> Self {
        let phases = [Phase::Clear; Reason::ALL.len()];
        Self { phases, now: Duration::ZERO, refused_at: None, closings: 0 }
    }
}

impl Machine {
    /// Judges the conditions that can pass. Time that goes backwards counts as standing still.
    pub(crate) fn observe(&mut self, now: Duration, signs: Signs) {
        self.now = now.max(self.now);
        if signs.no_space {
            self.refused_at = Some(self.now);
        }
        if signs.wrote {
            self.refused_at = None;
        }
        let lingers = |at: Duration| self.now.saturating_sub(at) < LINGER;
        let no_space = self.refused_at.is_some_and(lingers);
        let open = self.shedding().is_none();
        for (reason, phase) in Reason::ALL.into_iter().zip(&mut self.phases) {
            let Some(rule) = Rule::of(reason) else { continue };
            let holds = match reason {
                Reason::LowSpace => signs.low_space,
                Reason::LowInodes => signs.low_inodes,
                Reason::NoSpace => no_space,
                Reason::ReadErrors => signs.read_errors,
                Reason::Backlog => signs.backlog,
                Reason::WriteFailed | Reason::FolderGone | Reason::Structural => false,
            };
            *phase = phase.next(holds, self.now, rule);
        }
        self.count_closing(open);
    }

    /// Closes the gate for a reason that does not pass.
    pub(crate) fn raise(&mut self, reason: Reason) {
        let open = self.shedding().is_none();
        if !reason.passes()
            && let Some(phase @ Phase::Clear) = self.phases.get_mut(reason as usize)
        {
            *phase = Phase::Latched(self.now);
        }
        self.count_closing(open);
    }

    /// Ends a reason that was cured from outside.
    pub(crate) fn acknowledge(&mut self, reason: Reason) {
        if let Some(phase) = self.phases.get_mut(reason as usize) {
            *phase = Phase::Clear;
        }
    }

    /// Whether the condition holds, or did so lately.
    pub(crate) fn is_clear(&self, reason: Reason) -> bool {
        self.phases.get(reason as usize).is_none_or(|phase| *phase == Phase::Clear)
    }

    /// The gravest reason to refuse puts.
    pub(crate) fn shedding(&self) -> Option<Reason> {
        let sheds = |phase: &Phase| phase.state() == HealthState::Shedding;
        Reason::ALL.into_iter().zip(&self.phases).find(|(_, phase)| sheds(phase)).map(|(r, _)| r)
    }

    pub(crate) fn state(&self) -> HealthState {
        self.phases.iter().map(|phase| phase.state()).max().unwrap_or_default()
    }

    pub(crate) fn conditions(&self) -> Vec<Condition> {
        let told = |(reason, phase): (Reason, &Phase)| Condition {
            reason,
            state: phase.state(),
            lasting: phase.since().map_or(Duration::ZERO, |at| self.now.saturating_sub(at)),
        };
        Reason::ALL.into_iter().zip(&self.phases).map(told).collect()
    }

    pub(crate) const fn closings(&self) -> u64 {
        self.closings
    }

    fn count_closing(&mut self, was_open: bool) {
        self.closings += u64::from(was_open && self.shedding().is_some());
    }
}

#[cfg(test)]
mod tests;
