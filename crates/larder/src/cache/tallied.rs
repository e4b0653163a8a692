//! A number that is both a metric and a statistic.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::Counter;

/// Counts for the program's metrics and for the statistics of its owner.
pub(super) struct Tallied {
    count: AtomicU64,
    metric: Counter,
}

impl Tallied {
    pub(super) const fn new(metric: Counter) -> Self {
        Self { count: AtomicU64::new(0), metric }
    }

    pub(super) fn increment(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.metric.increment(1);
    }

    pub(super) fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}
