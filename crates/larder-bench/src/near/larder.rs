//! larder: the cache that a service uses, and its parts.

use larder::cache::{Cache, CacheValue, Condition, MemoryCache, PutOptions, Tagged, Tags, Tiered};
use larder::compose::{ParallelReadPolicy, RaceReadPolicy};
use larder::{Clock as _, Key, Now, SharedTier, SystemClock, Tier};

use super::{Asked, Evicting, LIFE, Near, Pass, Text, pass, text};
use crate::error::Result;
use crate::subject::Work;

pub(crate) const FACE: &str = "larder";
pub(crate) const NOW: &str = "larder, get_now";
pub(crate) const NESTED: &str = "larder, handles in handles";

/// How many entries are put at a time.
const AT_ONCE: usize = 1_000;

/// `Cache::get`.
struct Face {
    name: &'static str,
    cache: Cache<Text>,
}

impl Near for Face {
    fn name(&self) -> &'static str {
        self.name
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.cache.get(one.key).await?, |hit| &hit.value)
    }
}

/// `Cache::get_now`.
struct Synchronous(Cache<Text>);

impl Near for Synchronous {
    fn name(&self) -> &'static str {
        NOW
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.0.get_now(one.key), |hit| &hit.value)
    }
}

type Memory = MemoryCache<Tagged<Text>>;

/// `Tier::read` of two static tiers, without the face.
struct Tiers(Tiered<Memory, Memory>);

impl Near for Tiers {
    fn name(&self) -> &'static str {
        "larder, tiers alone"
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.0.read(one.key).await?, |found| &found.value.data)
    }
}

fn memory(entries: usize) -> Memory {
    // With what an entry takes besides its value, there is room for all of them.
    let capacity = u64::try_from(entries).unwrap_or(u64::MAX).saturating_mul(512).max(16 << 20);
    MemoryCache::weighed(capacity, |tagged: &Tagged<Text>| {
        tagged.data.as_ref().map_or(0, |text| u64::try_from(text.len()).unwrap_or(u64::MAX))
    })
    .build()
}

/// A far tier that nobody is to reach.
fn far() -> Memory {
    memory(0)
}

async fn face(name: &'static str, tier: SharedTier<Tagged<Text>>, keys: &[Key]) -> Result<Face> {
    let cache = Cache::builder(tier).build();
    for some in keys.chunks(AT_ONCE) {
        let put = |key: &Key| (key.clone(), Text::from(text(key)), PutOptions::new().ttl(LIFE));
        cache.put_many(some.iter().map(put).collect()).await?;
    }
    Ok(Face { name, cache })
}

async fn tiers(keys: &[Key]) -> Result<Tiers> {
    let tiers = Tiered::builder(memory(keys.len()), far()).build();
    let now = SystemClock.now();
    for key in keys {
        let value = Tagged::new(Text::from(text(key)), Tags::NONE);
        let value = CacheValue::new(value).with_ttl(now, LIFE);
        tiers.write(key.as_ref(), value, Condition::Always).await?;
    }
    Ok(Tiers(tiers))
}

pub(super) async fn filled(keys: &[Key], all: bool) -> Result<Vec<Box<dyn Near>>> {
    let count = keys.len();
    let both = Tiered::builder(memory(count), far()).build();
    let usual = face(FACE, SharedTier::new(both), keys).await?;
    let mut subjects: Vec<Box<dyn Near>> = vec![Box::new(Synchronous(usual.cache.clone()))];
    subjects.push(Box::new(usual));
    let handles = Tiered::builder(SharedTier::new(memory(count)), SharedTier::new(far())).build();
    subjects.push(Box::new(face(NESTED, SharedTier::new(handles), keys).await?));
    subjects.push(Box::new(tiers(keys).await?));
    if all {
        let race = Tiered::builder(memory(count), memory(count)).read(RaceReadPolicy::default());
        let race = SharedTier::new(race.build());
        subjects.push(Box::new(face("larder, race", race, keys).await?));
        let parallel = Tiered::builder(memory(count), memory(count)).read(ParallelReadPolicy);
        let parallel = SharedTier::new(parallel.build());
        subjects.push(Box::new(face("larder, parallel", parallel, keys).await?));
    }
    Ok(subjects)
}

/// The memory tier alone, with room for so many entries of one weight.
struct Bounded(MemoryCache<()>);

impl Evicting for Bounded {
    fn name(&self) -> &'static str {
        FACE
    }

    fn ask(&self, key: &Key) -> bool {
        if let Now::Hit(_) = self.0.read_now(key.as_ref()) {
            return true;
        }
        let write = self.0.write(key.as_ref(), CacheValue::new(()), Condition::Always);
        // It is done without waiting.
        drop(futures_util::FutureExt::now_or_never(write));
        false
    }
}

pub(super) fn evicting(entries: usize) -> Result<Box<dyn Evicting>> {
    let of = |capacity| MemoryCache::weighed(capacity, |()| 0).build();
    // What one entry weighs, only the cache knows.
    let probe = Bounded(of(1 << 20));
    for key in super::keys(1)? {
        probe.ask(&key);
    }
    let weight = probe.0.usage().map_or(0, |usage| usage.bytes);
    Ok(Box::new(Bounded(of(weight * u64::try_from(entries)?))))
}
