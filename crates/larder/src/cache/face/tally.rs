//! The numbers of a cache, for its metrics and for its own statistics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::{Age, Source, TierUsage};
use metrics::{Counter, counter};

use super::super::load::LoadError;
use super::super::tallied::Tallied;
use super::{CacheStats, Entry};

/// Counts what a cache does. Counting allocates only at the first hit of a tier.
pub(super) struct Tally {
    name: String,
    hits: AtomicU64,
    /// The tiers that have answered so far; nobody nests more than a few.
    tiers: [OnceLock<(Source, Counter)>; 8],
    other_tiers: Counter,
    stale_hits: Tallied,
    negative_hits: Tallied,
    pub(super) misses: Tallied,
    pub(super) invalidated: Tallied,
    pub(super) puts: Tallied,
    pub(super) removes: Tallied,
    pub(super) errors: Tallied,
    pub(super) loads: Tallied,
    pub(super) refreshes: Tallied,
    pub(super) joined_loads: Tallied,
    pub(super) stale_served: Tallied,
    pub(super) superseded_loads: Tallied,
    load_errors: AtomicU64,
}

impl Tally {
    pub(super) fn new(name: &str) -> Self {
        let of = |metric: &'static str| Tallied::new(counter!(metric, "cache" => name.to_owned()));
        Self {
            name: name.to_owned(),
            hits: AtomicU64::new(0),
            tiers: Default::default(),
            other_tiers: hits_of(name, String::from("other")),
            stale_hits: of("larder_cache_stale_hits_total"),
            negative_hits: of("larder_cache_negative_hits_total"),
            misses: of("larder_cache_misses_total"),
            invalidated: of("larder_cache_invalidated_total"),
            puts: of("larder_cache_puts_total"),
            removes: of("larder_cache_removes_total"),
            errors: of("larder_cache_errors_total"),
            loads: of("larder_cache_loads_total"),
            refreshes: of("larder_cache_refreshes_total"),
            joined_loads: of("larder_cache_joined_loads_total"),
            stale_served: of("larder_cache_stale_served_total"),
            superseded_loads: of("larder_cache_superseded_loads_total"),
            load_errors: AtomicU64::new(0),
        }
    }

    pub(super) fn found<V>(&self, entry: &Entry<V>, describe: impl Fn(Source) -> String) {
        match (&entry.data, entry.source) {
            (None, _) => self.negative_hits.increment(),
            (Some(_), Some(source)) => {
                self.hits.fetch_add(1, Ordering::Relaxed);
                self.tier(source, describe).increment(1);
            }
            // It was loaded, and its look-up counted before.
            (Some(_), None) => {}
        }
        if entry.age == Age::Stale {
            self.stale_hits.increment();
        }
    }

    pub(super) fn load_error(&self, error: &LoadError) {
        self.load_errors.fetch_add(1, Ordering::Relaxed);
        let cache = self.name.clone();
        counter!("larder_cache_load_errors_total", "cache" => cache, "reason" => error.as_str())
            .increment(1);
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
            negative_hits: self.negative_hits.get(),
            misses: self.misses.get(),
            invalidated: self.invalidated.get(),
            puts: self.puts.get(),
            removes: self.removes.get(),
            errors: self.errors.get(),
            loads: self.loads.get(),
            load_errors: self.load_errors.load(Ordering::Relaxed),
            refreshes: self.refreshes.get(),
            joined_loads: self.joined_loads.get(),
            stale_served: self.stale_served.get(),
            superseded_loads: self.superseded_loads.get(),
            usage,
        }
    }
}

fn hits_of(cache: &str, tier: String) -> Counter {
    counter!("larder_cache_hits_total", "cache" => cache.to_owned(), "tier" => tier)
}
