//! The reference models on trial: they show how a subject is made, and that the laws can be kept.

use bytes::Bytes;
use larder_core::reference::ReferenceTier;
use larder_core::{
    BoxError, ManualClock, MemoryBus, MemoryConsensus, MemorySpool, SharedBus, SharedConsensus,
    SharedSpool, SharedTier,
};

use crate::{Need, Place, Subject};

/// The memory spool, on a manual clock.
pub fn memory_spool() -> Subject<SharedSpool> {
    let roomy = || memory_spool_place(MemorySpool::BYTES_MAX, MemorySpool::ENTRIES_MAX);
    let tight = || memory_spool_place(1 << 20, 64);
    Subject::new("memory", move || Ok(roomy()))
        .with_tight_place(move || Ok(tight()))
        .offering([Need::Clock, Need::PayloadLimit])
}

fn memory_spool_place(bytes_max: u64, entries_max: u64) -> Place<SharedSpool> {
    let clock = ManualClock::default();
    let spool = SharedSpool::new(MemorySpool::new(clock.shared(), bytes_max, entries_max));
    Place::new(move || std::future::ready(Ok::<_, BoxError>(spool.clone())))
        .with_clock(clock)
        .with_payload_max(bytes_max)
}

/// The memory consensus store.
pub fn memory_consensus() -> Subject<SharedConsensus> {
    let place = |capacity| {
        let store = SharedConsensus::new(MemoryConsensus::with_capacity(capacity));
        Place::new(move || std::future::ready(Ok::<_, BoxError>(store.clone())))
    };
    Subject::new("memory", move || Ok(place(MemoryConsensus::CAPACITY)))
        .with_tight_place(move || Ok(place(1 << 20)))
}

/// The bus within a process.
pub fn memory_bus() -> Subject<SharedBus> {
    Subject::new("memory", || {
        let bus = SharedBus::new(MemoryBus::new());
        Ok(Place::new(move || std::future::ready(Ok::<_, BoxError>(bus.clone()))))
    })
}

/// The reference cache tier, on a manual clock.
pub fn reference_tier() -> Subject<SharedTier<Bytes>> {
    Subject::new("reference", || {
        let clock = ManualClock::default();
        let tier = SharedTier::new(ReferenceTier::new("reference", clock.shared()));
        Ok(Place::new(move || std::future::ready(Ok::<_, BoxError>(tier.clone())))
            .with_clock(clock))
    })
    .offering([Need::Clock])
}
