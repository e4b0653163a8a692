//! The numbers of a cache, for its metrics and for its own statistics.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::{Age, Source, TierStats, TierUsage};
use metrics::{Counter, counter};

use super::super::load::LoadError;
use super::super::tallied::{Spread, Tallied};
use super::{CacheStats, Entry};

/// What one tier has answered.
struct Answers {
    hits: Spread,
    metric: Counter,
    stale: AtomicU64,
}

/// Counts what a cache does. Counting allocates only at the first hit of a tier.
pub(super) struct Tally {
    name: String,
    /// The tiers that have answered so far; nobody nests more than a few.
    tiers: [OnceLock<(Source, Answers)>; 8],
    other_tiers: Answers,
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
    pub(super) spared_loads: Tallied,
    pub(super) unleased_loads: Tallied,
    load_errors: AtomicU64,
}

impl Tally {
    pub(super) fn new(name: &str) -> Self {
        let of = |metric: &'static str| Tallied::new(counter!(metric, "cache" => name.to_owned()));
        Self {
            name: name.to_owned(),
            tiers: Default::default(),
            other_tiers: answers_of(name, String::from("other")),
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
            spared_loads: of("larder_cache_spared_loads_total"),
            unleased_loads: of("larder_cache_unleased_loads_total"),
            load_errors: AtomicU64::new(0),
        }
    }

    pub(super) fn found<V>(&self, entry: &Entry<V>, describe: impl Fn(Source) -> String) {
        match (&entry.data, entry.source) {
            (Some(_), Some(source)) => return self.hit(source, entry.age, describe),
            (None, _) => self.negative_hits.increment(),
            // It was loaded, and its look-up counted before.
            (Some(_), None) => {}
        }
        if entry.age == Age::Stale {
            self.stale_hits.increment();
        }
    }

    /// Counts a value that a tier gave.
    #[inline]
    pub(super) fn hit(&self, source: Source, age: Age, describe: impl Fn(Source) -> String) {
        let answers = match self.tiers[0].get() {
            Some((known, answers)) if *known == source => answers,
            _ => self.tier(source, describe),
        };
        answers.hits.increment();
        answers.metric.increment(1);
        if age == Age::Stale {
            answers.stale.fetch_add(1, Ordering::Relaxed);
            self.stale_hits.increment();
        }
    }

    pub(super) fn load_error(&self, error: &LoadError) {
        self.load_errors.fetch_add(1, Ordering::Relaxed);
        let cache = self.name.clone();
        counter!("larder_cache_load_errors_total", "cache" => cache, "reason" => error.as_str())
            .increment(1);
    }

    fn tier(&self, source: Source, describe: impl Fn(Source) -> String) -> &Answers {
        for slot in &self.tiers {
            let (known, answers) =
                slot.get_or_init(|| (source, answers_of(&self.name, describe(source))));
            if *known == source {
                return answers;
            }
        }
        &self.other_tiers
    }

    /// The statistics of the cache, with what its tiers say of themselves.
    pub(super) fn stats(&self, usage: Option<TierUsage>, mut tiers: Vec<TierStats>) -> CacheStats {
        let answered = || self.tiers.iter().filter_map(OnceLock::get);
        for tier in &mut tiers {
            if let Some((_, answers)) = answered().find(|(source, _)| *source == tier.source) {
                tier.hits = answers.hits.get();
                tier.stale_hits = answers.stale.load(Ordering::Relaxed);
            }
        }
        if let [sole] = &mut tiers[..] {
            // Nothing above it tells the two apart.
            sole.misses = self.misses.get();
            sole.errors = self.errors.get();
        }
        let hits = answered().map(|(_, answers)| answers).chain([&self.other_tiers]);
        CacheStats {
            hits: hits.map(|answers| answers.hits.get()).sum(),
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
            spared_loads: self.spared_loads.get(),
            unleased_loads: self.unleased_loads.get(),
            usage,
            tiers,
        }
    }
}

fn answers_of(cache: &str, tier: String) -> Answers {
    let metric = counter!("larder_cache_hits_total", "cache" => cache.to_owned(), "tier" => tier);
    Answers { hits: Spread::new(), metric, stale: AtomicU64::new(0) }
}
