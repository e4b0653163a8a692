//! The numbers of the coherence of a cache.

use metrics::{Gauge, counter, gauge};

use super::super::tallied::Tallied;

/// What the coherence of a cache has done since the cache was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct CoherenceStats {
    /// Whether every other process is heard. While it is not, copies live for a third of the bound.
    pub trusted: bool,
    /// How many other processes there are, as far as is known.
    pub peers: usize,
    /// Messages sent, heartbeats included.
    pub sent: u64,
    /// Attempts to send that failed; they are repeated.
    pub send_errors: u64,
    /// Changes that were not told because too many waited; the others know that.
    pub left_out: u64,
    /// Messages of other processes.
    pub received: u64,
    /// Changes of other processes.
    pub changes: u64,
    /// Times that something was missed.
    pub gaps: u64,
    /// Messages that could not be read; each counts as a gap.
    pub unreadable: u64,
    /// Versions that were too far in the future to be merged.
    pub refused_versions: u64,
    /// Times that all copies were forgotten, for whatever reason.
    pub forgotten: u64,
    /// Subscriptions that were made.
    pub subscriptions: u64,
}

pub(super) struct Tally {
    pub(super) trusted: Gauge,
    pub(super) peers: Gauge,
    pub(super) sent: Tallied,
    pub(super) send_errors: Tallied,
    pub(super) left_out: Tallied,
    pub(super) received: Tallied,
    pub(super) changes: Tallied,
    pub(super) gaps: Tallied,
    pub(super) unreadable: Tallied,
    pub(super) refused_versions: Tallied,
    pub(super) forgotten: Tallied,
    pub(super) subscriptions: Tallied,
}

impl Tally {
    pub(super) fn new(cache: &str) -> Self {
        let of = |metric: &'static str| Tallied::new(counter!(metric, "cache" => cache.to_owned()));
        let shown = |metric: &'static str| gauge!(metric, "cache" => cache.to_owned());
        Self {
            trusted: shown("larder_cache_bus_trusted"),
            peers: shown("larder_cache_bus_peers"),
            sent: of("larder_cache_bus_sent_total"),
            send_errors: of("larder_cache_bus_send_errors_total"),
            left_out: of("larder_cache_bus_left_out_total"),
            received: of("larder_cache_bus_received_total"),
            changes: of("larder_cache_bus_changes_total"),
            gaps: of("larder_cache_bus_gaps_total"),
            unreadable: of("larder_cache_bus_unreadable_total"),
            refused_versions: of("larder_cache_bus_refused_versions_total"),
            forgotten: of("larder_cache_bus_forgotten_total"),
            subscriptions: of("larder_cache_bus_subscriptions_total"),
        }
    }

    pub(super) fn stats(&self, trusted: bool, peers: usize) -> CoherenceStats {
        CoherenceStats {
            trusted,
            peers,
            sent: self.sent.get(),
            send_errors: self.send_errors.get(),
            left_out: self.left_out.get(),
            received: self.received.get(),
            changes: self.changes.get(),
            gaps: self.gaps.get(),
            unreadable: self.unreadable.get(),
            refused_versions: self.refused_versions.get(),
            forgotten: self.forgotten.get(),
            subscriptions: self.subscriptions.get(),
        }
    }
}
