//! The numbers of a cache, for its metrics and for its own statistics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::{Age, Source, TierUsage};
use metrics::{Counter, counter};

use super::{CacheStats, Hit};

/// Counts what a cache does. Counting allocates only at the first hit of a tier.
pub(super) struct Tally {
    name: String,
    hits: AtomicU64,
    /// The tiers that have answered so far; nobody nests more than a few.
    tiers: [OnceLock<(Source, Counter)>; 8],
    other_tiers: Counter,
    pub(super) stale_hits: Tallied,
    pub(super) misses: Tallied,
    pub(super) invalidated: Tallied,
    pub(super) puts: Tallied,
    pub(super) removes: Tallied,
    pub(super) errors: Tallied,
}

/// A number that is both a metric and a statistic.
pub(super) struct Tallied {
    count: AtomicU64,
    metric: Counter,
}

impl Tallied {
    pub(super) fn increment(&self) {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.metric.increment(1);
    }

    fn get(&self) -> u64 {
        self.count.load(Ordering::Relaxed)
    }
}

impl Tally {
    pub(super) fn new(name: &str) -> Self {
        let of = |metric: &'static str| Tallied {
            count: AtomicU64::new(0),
            metric: counter!(metric, "cache" => name.to_owned()),
        };
        Self {
            name: name.to_owned(),
            hits: AtomicU64::new(0),
            tiers: Default::default(),
            other_tiers: hits_of(name, String::from("other")),
            stale_hits: of("larder_cache_stale_hits_total"),
            misses: of("larder_cache_misses_total"),
            invalidated: of("larder_cache_invalidated_total"),
            puts: of("larder_cache_puts_total"),
            removes: of("larder_cache_removes_total"),
            errors: of("larder_cache_errors_total"),
        }
    }

    pub(super) fn hit<V>(&self, hit: &Hit<V>, describe: impl Fn(Source) -> String) {
        self.hits.fetch_add(1, Ordering::Relaxed);
        self.tier(hit.source, describe).increment(1);
        if hit.age == Age::Stale {
            self.stale_hits.increment();
        }
    }

    fn tier(&self, source: Source, describe: impl Fn(Source) -> String) -> &Counter {
        for slot in &self.tiers {
            let (known, counter) =
                slot.get_or_init(|| (source, hits_of(&self.name, describe(source))));
            if *known == source {
                return counter;
            }
        }
        &self.other_tiers
    }

    pub(super) fn stats(&self, usage: Option<TierUsage>) -> CacheStats {
        CacheStats {
            hits: self.hits.load(Ordering::Relaxed),
            stale_hits: self.stale_hits.get(),
            misses: self.misses.get(),
            invalidated: self.invalidated.get(),
            puts: self.puts.get(),
            removes: self.removes.get(),
            errors: self.errors.get(),
            usage,
        }
    }
}

fn hits_of(cache: &str, tier: String) -> Counter {
    counter!("larder_cache_hits_total", "cache" => cache.to_owned(), "tier" => tier)
}
