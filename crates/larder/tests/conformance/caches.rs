//! Every cache tier, bare and wrapped.

use std::sync::Arc;

use bytes::Bytes;
use larder::cache::{Encoded, MemoryCache, NoCompression, RawCodec, Schema};
use larder::registry::OpenError;
use larder::{BoxError, ManualClock, SharedTier, Tier};
use larder_testkit::{Need, Place, Subject, subjects};

use crate::Candidate;

type Make = fn(ManualClock, u64) -> Result<SharedTier<Bytes>, BoxError>;

pub(crate) fn all() -> Vec<Candidate<SharedTier<Bytes>>> {
    let wrappers: [(&str, Make); 3] = [
        ("memory", |clock, capacity| Ok(SharedTier::new(memory(&clock, capacity)))),
        ("arc-of-memory", |clock, capacity| {
            let inner = SharedTier::new(memory(&clock, capacity));
            Ok(SharedTier::new(Arc::new(inner)))
        }),
        ("encoded", |clock, capacity| {
            Ok(SharedTier::new(encoded(memory(&clock, capacity), &clock)?))
        }),
    ];
    let mut all: Vec<Candidate<SharedTier<Bytes>>> = vec![subjects::reference_tier().into()];
    all.extend(wrappers.map(|(name, make)| subject(name, make).into()));
    all
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

fn encoded(store: impl Tier<Bytes>, clock: &ManualClock) -> Result<impl Tier<Bytes>, BoxError> {
    let schema = Schema::new("laws", "bytes", 1)?;
    Ok(Encoded::new(store, RawCodec, NoCompression, schema).with_clock(clock.shared()))
}
