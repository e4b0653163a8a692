//! What the engine knows of its health, in the words of the contract.

use larder_core::{Clock, SpoolCondition, SpoolHealth, SpoolStats, SystemClock};
use larder_log::{HealthReport, HealthState, Log, LogOptions, Reason};

/// Adds the conditions, and what was counted about them.
pub(super) fn tell(report: &HealthReport, options: &LogOptions, spool: &mut SpoolStats) {
    let now = SystemClock.now();
    for known in &report.conditions {
        let mut condition = SpoolCondition::new(known.reason.name(), known.reason.text());
        condition.state = match known.state {
            HealthState::Healthy => SpoolHealth::Healthy,
            HealthState::Degraded => SpoolHealth::Degraded,
            HealthState::Shedding => SpoolHealth::Shedding,
        };
        if condition.state != SpoolHealth::Healthy {
            condition.since = Some(now.saturating_sub(known.lasting));
            if let Some(figures) = figures(known.reason, report, options) {
                condition.what.push_str(&figures);
            }
        }
        spool.conditions.push(condition);
    }
    spool.details.extend([
        ("gate_closings", report.closings),
        ("gate_refused", report.refused),
        ("read_errors", report.read_errors),
    ]);
    if let Some(space) = report.space {
        spool.details.push(("free_bytes", space.free_bytes));
        // A file system without a number of inodes has none to run out of.
        if space.total_inodes > 0 {
            spool.details.push(("free_inodes", space.free_inodes));
        }
    }
}

/// What a store is told when the gate is closed for want of room.
pub(super) fn no_room(log: &Log) -> String {
    let Some(reason) = log.gate() else { return FULL.to_owned() };
    match figures(reason, &log.health(), log.options()) {
        Some(figures) => {
            format!("{}{figures}: free some on its file system, or lower the limit", reason.text())
        }
        None => FULL.to_owned(),
    }
}

/// What the system said of the device, and what to do.
pub(super) const FULL: &str =
    "its device is full: remove entries and compact, or free some beside it";

/// How much there is of what is short, and how much there should be.
fn figures(reason: Reason, report: &HealthReport, options: &LogOptions) -> Option<String> {
    let space = report.space?;
    match reason {
        Reason::LowSpace => {
            let (free, limit) = (space.free_bytes, options.min_free_space.of(space.total_bytes));
            Some(format!(": free_bytes={free} min_free_bytes={limit}"))
        }
        Reason::LowInodes => {
            let (free, limit) = (space.free_inodes, options.min_free_inodes.of(space.total_inodes));
            Some(format!(": free_inodes={free} min_free_inodes={limit}"))
        }
        _ => None,
    }
}
