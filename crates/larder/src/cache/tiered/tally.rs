//! What a layer has been asked for in vain, and what was copied into it.

use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::{CacheError, Found, TierStats};
use metrics::counter;

use super::super::tallied::Tallied;
use super::debts::Debts;
use crate::compose::CompositionLayer;

/// The numbers of one layer. Hits in memory are not among them: they have to cost nothing here, and
/// who asks knows them by their source.
pub(super) struct LayerTally {
    misses: Tallied,
    /// The metric of errors is that of the composition.
    errors: AtomicU64,
    refills: AtomicU64,
}

impl LayerTally {
    pub(super) fn new(composition: &str, layer: CompositionLayer) -> Self {
        let misses = counter!(
            "larder_cache_layer_misses_total",
            "composition" => composition.to_owned(),
            "layer" => layer.as_str()
        );
        Self { misses: Tallied::new(misses), errors: AtomicU64::new(0), refills: AtomicU64::new(0) }
    }

    /// Counts what the layer said when it was asked for one key.
    pub(super) fn heard<V>(&self, said: &Result<Option<Found<V>>, CacheError>) {
        match said {
            Ok(Some(_)) => {}
            Ok(None) => self.missed(),
            Err(_) => self.failed(),
        }
    }

    /// The layer does not hold a key.
    pub(super) fn missed(&self) {
        self.misses.increment();
    }

    /// The layer failed a read.
    pub(super) fn failed(&self) {
        self.errors.fetch_add(1, Ordering::Relaxed);
    }

    /// The layer took a copy of what the other one has.
    pub(super) fn refilled(&self) {
        self.refills.fetch_add(1, Ordering::Relaxed);
    }

    /// The statistics of the tiers inside the layer as they are seen from above it.
    pub(super) fn above(
        &self,
        inside: Vec<TierStats>,
        composition: &str,
        second: bool,
        debts: &Debts,
    ) -> impl Iterator<Item = TierStats> {
        let sole = inside.len() == 1;
        let (refills, owed) = (self.refills.load(Ordering::Relaxed), debts.owed_keys());
        let unwritten = debts.unwritten();
        let (misses, errors) = (self.misses.get(), self.errors.load(Ordering::Relaxed));
        inside.into_iter().map(move |mut tier| {
            tier.path = format!("{composition}.{}", tier.path);
            tier.source = tier.source.below(second);
            // Those of several tiers inside are counted where they are joined.
            if sole {
                tier.misses = misses;
                tier.errors = errors;
            }
            // A copy goes to all of them, and what is owed none of them may answer for.
            tier.refills += refills;
            match owed {
                Some(keys) => tier.owed_keys += keys,
                None => tier.owes_all = true,
            }
            tier.unwritten_debts += unwritten;
            tier
        })
    }
}

impl std::fmt::Debug for LayerTally {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("LayerTally").finish_non_exhaustive()
    }
}
