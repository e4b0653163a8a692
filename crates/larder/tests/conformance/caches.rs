//! Every cache tier, bare and wrapped.

use std::sync::Arc;

use bytes::Bytes;
#[cfg(any(feature = "zstd", feature = "lz4"))]
use larder::cache::Compressor;
#[cfg(feature = "lz4")]
use larder::cache::Lz4Compressor;
#[cfg(feature = "zstd")]
use larder::cache::ZstdCompressor;
use larder::cache::{Encoded, Guarded, MemoryCache, NoCompression, RawCodec, Schema, Tiered};
use larder::compose::{
    AnyReadPolicy, AnyWritePolicy, OptimisticParallelWritePolicy, ParallelReadPolicy,
    RaceReadPolicy, RaceWritePolicy, RefillPolicy, SequentialWritePolicy,
};
use larder::registry::OpenError;
use larder::{BoxError, ManualClock, SharedTier, Tier};
use larder_testkit::{Need, Place, Subject, subjects};

use crate::Candidate;

#[cfg(feature = "postgres")]
#[path = "postgres.rs"]
mod postgres;
#[cfg(not(feature = "postgres"))]
mod postgres {
    pub(super) fn all() -> Vec<super::Candidate<super::SharedTier<super::Bytes>>> {
        Vec::new()
    }
}

#[cfg(feature = "log")]
#[path = "disk.rs"]
mod disk;
#[cfg(not(feature = "log"))]
mod disk {
    pub(super) fn all() -> Vec<super::Candidate<super::SharedTier<super::Bytes>>> {
        Vec::new()
    }
}

#[cfg(feature = "redis")]
#[path = "redis.rs"]
mod redis;
#[cfg(not(feature = "redis"))]
mod redis {
    pub(super) fn all() -> Vec<super::Candidate<super::SharedTier<super::Bytes>>> {
        Vec::new()
    }
}

#[path = "outages.rs"]
mod outages;

type Make = fn(ManualClock, u64) -> Result<SharedTier<Bytes>, BoxError>;

pub(crate) fn all() -> Vec<Candidate<SharedTier<Bytes>>> {
    let wrappers: [(&str, Make); 12] = [
        ("memory", |clock, capacity| Ok(SharedTier::new(memory(&clock, capacity)))),
        ("arc-of-memory", |clock, capacity| {
            let inner = SharedTier::new(memory(&clock, capacity));
            Ok(SharedTier::new(Arc::new(inner)))
        }),
        ("encoded", |clock, capacity| {
            Ok(SharedTier::new(encoded(memory(&clock, capacity), &clock)?))
        }),
        ("guarded", |clock, capacity| {
            let tier = Guarded::builder(memory(&clock, capacity)).clock(clock.shared());
            Ok(SharedTier::new(tier.build()))
        }),
        // Nothing is known without waiting: every read passes the guard.
        ("guarded-encoded", |clock, capacity| {
            let tier = Guarded::builder(encoded(memory(&clock, capacity), &clock)?);
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
        ("tiered-over-guarded", |clock, capacity| {
            let far = encoded(memory(&clock, capacity / 2), &clock)?;
            let far = Guarded::builder(far).clock(clock.shared()).build();
            let tier = Tiered::builder(memory(&clock, capacity / 2), far);
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
        ("tiered", |clock, capacity| {
            let (l1, l2) = (memory(&clock, capacity / 2), memory(&clock, capacity / 2));
            Ok(SharedTier::new(Tiered::builder(l1, l2).clock(clock.shared()).build()))
        }),
        ("tiered-sequential", |clock, capacity| {
            Ok(policies(&clock, capacity, AnyReadPolicy::default(), SequentialWritePolicy))
        }),
        ("tiered-race", |clock, capacity| {
            Ok(policies(&clock, capacity, RaceReadPolicy::default(), RaceWritePolicy::default()))
        }),
        ("tiered-parallel", |clock, capacity| {
            Ok(policies(&clock, capacity, ParallelReadPolicy, OptimisticParallelWritePolicy))
        }),
        // Nothing is in L1 unless it was written there: every read has to find its way.
        ("tiered-over-refusing-l1", |clock, capacity| {
            let (l1, l2) = (memory(&clock, 0), memory(&clock, capacity));
            let tier = Tiered::builder(l1, l2).refill(RefillPolicy::Never);
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
        ("nested", |clock, capacity| {
            let far = SharedTier::new(encoded(memory(&clock, capacity / 2), &clock)?);
            let middle = SharedTier::new(memory(&clock, capacity / 4));
            let below = Tiered::builder(middle, far).clock(clock.shared()).label("below").build();
            let near = SharedTier::new(memory(&clock, capacity / 4));
            let tier = Tiered::builder(near, SharedTier::new(below));
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
    ];
    let mut all: Vec<Candidate<SharedTier<Bytes>>> = vec![subjects::reference_tier().into()];
    all.push(
        Subject::new("memory-uri", || Ok(Place::new(|| larder::open_cache("memory:")))).into(),
    );
    all.extend(wrappers.map(|(name, make)| subject(name, make).into()));
    all.extend(packed());
    all.extend(outages::all());
    all.extend(disk::all());
    all.extend(redis::all());
    all.extend(postgres::all());
    all
}

/// Two memory tiers under policies that are chosen at run time, as from a config.
fn policies(
    clock: &ManualClock,
    capacity: u64,
    read: impl Into<AnyReadPolicy>,
    write: impl Into<AnyWritePolicy>,
) -> SharedTier<Bytes> {
    let layer = || SharedTier::new(memory(clock, capacity / 2));
    let tier = Tiered::builder(layer(), layer()).read(read.into()).write(write.into());
    SharedTier::new(tier.clock(clock.shared()).build())
}

/// A tier on a manual clock, with 64 MiB or, where it has to be tight, 1 MiB.
fn subject(name: &str, make: Make) -> Subject<SharedTier<Bytes>> {
    Subject::new(name, move || place(make, 64 << 20))
        .with_tight_place(move || place(make, 1 << 20))
        .offering([Need::Clock])
}

fn place(make: Make, capacity: u64) -> Result<Place<SharedTier<Bytes>>, BoxError> {
    let clock = ManualClock::default();
    let tier = make(clock.clone(), capacity)?;
    let open = move || std::future::ready(Ok::<_, OpenError>(tier.clone()));
    Ok(Place::new(open).with_clock(clock))
}

fn memory(clock: &ManualClock, capacity: u64) -> MemoryCache<Bytes> {
    MemoryCache::builder(capacity).clock(clock.shared()).build()
}

/// Records whose payloads are compressed however short they are. Without a tight place: what the laws
/// fill one with shrinks to nothing.
fn packed() -> Vec<Candidate<SharedTier<Bytes>>> {
    let makes: &[(&str, Make)] = &[
        #[cfg(feature = "zstd")]
        ("encoded-zstd", |clock, capacity| compressing(&clock, capacity, ZstdCompressor::new())),
        #[cfg(feature = "lz4")]
        ("encoded-lz4", |clock, capacity| compressing(&clock, capacity, Lz4Compressor)),
    ];
    let subject = |(name, make): &(&str, Make)| {
        let make = *make;
        Subject::new(*name, move || place(make, 64 << 20)).offering([Need::Clock]).into()
    };
    makes.iter().map(subject).collect()
}

#[cfg(any(feature = "zstd", feature = "lz4"))]
fn compressing(
    clock: &ManualClock,
    capacity: u64,
    compressor: impl Compressor,
) -> Result<SharedTier<Bytes>, BoxError> {
    let schema = Schema::new("laws", "bytes", 1)?;
    let tier = Encoded::new(memory(clock, capacity), RawCodec, compressor, schema);
    Ok(SharedTier::new(tier.compress_from(0).with_clock(clock.shared())))
}

fn encoded(store: impl Tier<Bytes>, clock: &ManualClock) -> Result<impl Tier<Bytes>, BoxError> {
    let schema = Schema::new("laws", "bytes", 1)?;
    Ok(Encoded::new(store, RawCodec, NoCompression, schema).with_clock(clock.shared()))
}
