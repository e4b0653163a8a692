//! Caches with a tier on disk.

use std::path::Path;

use bytes::Bytes;
use larder::cache::{LogCache, Tiered};
use larder::{BoxError, ManualClock, SharedTier};
use larder_testkit::{Need, Place, Subject};

use super::{Candidate, encoded, memory};
use crate::spools::do_harm;

type Make = fn(&Path, &ManualClock, u64) -> Result<SharedTier<Bytes>, BoxError>;

pub(super) fn all() -> Vec<Candidate<SharedTier<Bytes>>> {
    let makes: [(&str, Make); 4] = [
        ("log", |folder, clock, capacity| Ok(SharedTier::new(disk(folder, clock, capacity)?))),
        ("encoded-log", |folder, clock, capacity| {
            Ok(SharedTier::new(encoded(disk(folder, clock, capacity)?, clock)?))
        }),
        ("memory-over-log", |folder, clock, capacity| {
            let near = memory(clock, capacity);
            let tier = Tiered::builder(near, disk(folder, clock, capacity)?);
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
        // Memory, disk, and memory that stands for a server.
        ("nested-log", |folder, clock, capacity| {
            let middle = SharedTier::new(encoded(disk(folder, clock, capacity)?, clock)?);
            let far = SharedTier::new(memory(clock, capacity));
            let below = Tiered::builder(middle, far).clock(clock.shared()).label("below").build();
            let near = SharedTier::new(memory(clock, capacity / 4));
            let tier = Tiered::builder(near, SharedTier::new(below));
            Ok(SharedTier::new(tier.clock(clock.shared()).build()))
        }),
    ];
    let mut all: Vec<Candidate<SharedTier<Bytes>>> = makes.map(|make| subject(make).into()).into();
    all.push(Subject::new("log-uri", by_uri).offering(REOPENS).into());
    all
}

const REOPENS: [Need; 2] = [Need::Reopen, Need::SecondOpen];

fn subject((name, make): (&'static str, Make)) -> Subject<SharedTier<Bytes>> {
    Subject::new(name, move || place(make, 64 << 20))
        .with_tight_place(move || place(make, 1 << 20))
        .offering([Need::Clock, Need::Damage])
        .offering(REOPENS)
}

fn place(make: Make, capacity: u64) -> Result<Place<SharedTier<Bytes>>, BoxError> {
    let folder = tempfile::tempdir()?;
    let (path, harmed) = (folder.path().to_path_buf(), folder.path().to_path_buf());
    let clock = ManualClock::default();
    let moved = clock.clone();
    let open = move || std::future::ready(make(&path, &clock, capacity));
    let place = Place::new(open).with_clock(moved);
    Ok(place.with_harm(move |harm| do_harm(&harmed, harm)).keeping(folder))
}

fn by_uri() -> Result<Place<SharedTier<Bytes>>, BoxError> {
    let folder = tempfile::tempdir()?;
    let uri = format!("log:{}?capacity=64MiB", folder.path().join("cache").display());
    let open = move || {
        let uri = uri.clone();
        async move { larder::open_cache(&uri).await }
    };
    Ok(Place::new(open).keeping(folder))
}

fn disk(folder: &Path, clock: &ManualClock, capacity: u64) -> Result<LogCache, BoxError> {
    let uri = format!("log:{}?capacity={capacity}", folder.display());
    Ok(LogCache::builder(&uri)?.clock(clock.shared()).open()?)
}
