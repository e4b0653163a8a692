//! The ten edge cases of caches with tiers, each on every way through the library: two tiers and three,
//! joined at compile time and behind handles by policies from a config. The same cases over HTTP are in
//! `larder-cli/tests/promises.rs`; the table is in `docs/cache-promises.md`.

use std::time::Duration;

use bytes::Bytes;
use larder::cache::{Cache, PutOptions, Tagged, Tags, Tiered};
use larder::compose::{
    AnyOffload, AnyReadPolicy, AnyWritePolicy, BoundedOffload, Drained, OnLayerError,
};
use larder_core::{CacheValue, Condition, LayerState, ManualClock, SharedTier, Tier};

use crate::load::records;
use crate::scripted::{Scripted, key};

mod loads;
mod tiers;

/// How tiers are joined: every two of them in the same way.
#[derive(Clone)]
struct Settings {
    read: AnyReadPolicy,
    write: AnyWritePolicy,
    on_layer_error: OnLayerError,
    near_max: Option<Duration>,
    offload: AnyOffload,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            read: AnyReadPolicy::default(),
            write: AnyWritePolicy::default(),
            on_layer_error: OnLayerError::Miss,
            near_max: None,
            offload: BoundedOffload::default().into(),
        }
    }
}

/// One way through the library: what a service calls, and the stores that it ends in, the nearest first.
struct Path {
    name: &'static str,
    clock: ManualClock,
    cache: Cache<Bytes>,
    tier: SharedTier<Tagged<Bytes>>,
    leaves: Vec<Scripted>,
}

/// Two tiers as the settings say, of one kind or another.
macro_rules! joined {
    ($settings:expr, $clock:expr, $near:expr, $far:expr) => {{
        let settings = $settings.clone();
        let mut tiered = Tiered::builder($near, $far)
            .clock($clock.shared())
            .read(settings.read)
            .write(settings.write)
            .on_layer_error(settings.on_layer_error)
            .offload(settings.offload);
        if let Some(near_max) = settings.near_max {
            tiered = tiered.l1_ttl_max(near_max);
        }
        tiered.build()
    }};
}

/// Every way.
fn paths(settings: &Settings) -> [Path; 4] {
    ["static", "handles", "three static", "three handles"].map(|name| Path::new(name, settings))
}

impl Path {
    fn new(name: &'static str, settings: &Settings) -> Self {
        let clock = ManualClock::default();
        let labels = ["near", "middle", "far"];
        let labels = if name.starts_with("three") { &labels[..] } else { &[labels[0], labels[2]] };
        let leaves: Vec<_> = labels.iter().map(|label| Scripted::new(label, &clock)).collect();
        let at = |leaf: usize| records(&leaves[leaf], &clock);
        let handle = |leaf: usize| SharedTier::<Tagged<Bytes>>::new(at(leaf));
        let tier = match name {
            "static" => SharedTier::new(joined!(settings, clock, at(0), at(1))),
            "handles" => SharedTier::new(joined!(settings, clock, handle(0), handle(1))),
            "three static" => {
                let below = joined!(settings, clock, at(1), at(2));
                SharedTier::new(joined!(settings, clock, at(0), below))
            }
            _ => {
                let below = SharedTier::new(joined!(settings, clock, handle(1), handle(2)));
                SharedTier::new(joined!(settings, clock, handle(0), below))
            }
        };
        let cache = Cache::builder(tier.clone()).clock(clock.shared()).seed(1).build();
        Self { name, clock, cache, tier, leaves }
    }

    fn near(&self) -> &Scripted {
        &self.leaves[0]
    }

    fn far(&self) -> &Scripted {
        &self.leaves[self.leaves.len() - 1]
    }

    /// What another process sees that has this store alone.
    fn other(&self, leaf: &Scripted) -> Cache<Bytes> {
        let tier = SharedTier::new(records(&leaf.another_way(), &self.clock));
        Cache::builder(tier).clock(self.clock.shared()).build()
    }

    /// Puts past the tiers, into one store.
    async fn plant(&self, leaf: &Scripted, k: &str, value: &'static str, options: PutOptions) {
        let put = self.other(leaf).put(key(k), Bytes::from(value), options).await.unwrap();
        assert!(put.applied, "{}", self.name);
    }

    async fn put(&self, k: &str, value: &'static str, options: PutOptions) {
        let put = self.cache.put(key(k), Bytes::from(value), options).await.unwrap();
        assert!(put.applied, "{}", self.name);
    }

    /// Writes to the tier itself. (The face writes under a condition, which waits for every tier.)
    async fn write(&self, k: &str, value: &'static str) -> [LayerState; 2] {
        let value = CacheValue::new(Tagged::new(Bytes::from(value), Tags::NONE));
        self.tier.write(key(k), value, Condition::Always).await.unwrap().layers.unwrap()
    }

    /// What a service gets.
    async fn get(&self, k: &str) -> Option<Bytes> {
        self.cache.get(key(k)).await.unwrap().map(|hit| hit.value)
    }

    /// What one store has, with its life.
    async fn held(&self, leaf: &Scripted, k: &str) -> Option<CacheValue<Tagged<Bytes>>> {
        let tier = records(&leaf.another_way(), &self.clock);
        tier.read(key(k)).await.unwrap().map(|found| found.value)
    }

    /// The values that the stores have.
    async fn values(&self, k: &str) -> Vec<Option<Bytes>> {
        let mut values = Vec::new();
        for leaf in &self.leaves {
            values.push(self.held(leaf, k).await.and_then(|value| value.data.data));
        }
        values
    }

    /// Every store has this.
    async fn all_have(&self, k: &str, value: Option<&'static str>) {
        let wanted = vec![value.map(Bytes::from); self.leaves.len()];
        assert_eq!(self.values(k).await, wanted, "{} {k}", self.name);
    }

    /// Lets the nearest store lose its copy, as caches may.
    async fn lose_near(&self, k: &str) {
        let tier = records(&self.near().another_way(), &self.clock);
        Tier::<Tagged<Bytes>>::remove(&tier, key(k), Condition::Always).await.unwrap();
    }
}

async fn drained(offload: &BoundedOffload) {
    assert_eq!(offload.drain(Duration::from_secs(5)).await, Drained::Complete);
}
