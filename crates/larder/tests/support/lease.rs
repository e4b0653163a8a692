//! What a lease and a load lease have to do, whatever store they are in.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{Cache, LoadError, LoadLease, Tagged, memory};
use larder::recipes::{Attempt, Held, Lease};
use larder::{Consensus, KeyRef, ManualClock, SeqNo, SharedConsensus, SharedTier};

const TTL: Duration = Duration::from_secs(10);

async fn held(lease: &Lease, store: &SharedConsensus) -> Option<Held> {
    match lease.acquire(store).await.unwrap() {
        Attempt::Held(held) => Some(held),
        Attempt::Taken { .. } => None,
    }
}

/// One holder at a time, tokens that rise, renewal, takeover after a silence, and nothing left behind.
pub(crate) async fn one_at_a_time(store: &SharedConsensus) {
    let clock = ManualClock::default();
    let lease = || Lease::new("lease", TTL).with_clock(clock.shared());
    let (one, other) = (lease(), lease());
    let first = held(&one, store).await.unwrap();
    assert_eq!(held(&other, store).await, None);
    clock.advance(TTL / 2);
    let renewed = one.renew(store, first).await.unwrap().unwrap();
    assert_eq!(renewed.token(), first.token());
    one.release(store, renewed).await.unwrap();
    let second = held(&other, store).await.unwrap();
    assert!(second.token() > first.token());
    // It is silent from now on, and is taken over after its time as it was seen.
    assert_eq!(held(&one, store).await, None);
    clock.advance(TTL + TTL / 10);
    let third = held(&one, store).await.unwrap();
    assert!(third.token() > second.token());
    assert_eq!(other.renew(store, second).await.unwrap(), None);
    other.release(store, second).await.unwrap();
    assert_eq!(held(&other, store).await, None, "who has lost it takes nothing away");
    one.release(store, third).await.unwrap();
    assert_eq!(store.scan("lease", SeqNo(0), 9).await.unwrap().len(), 1, "versions that are left");
}

/// Many who want it at the same time: one gets it.
pub(crate) async fn contested(store: &SharedConsensus) {
    for round in 0..5 {
        let key = format!("contested/{round}");
        let attempts = (0..8).map(|_| {
            let (lease, store) = (Lease::new(key.as_str(), TTL), store.clone());
            tokio::spawn(async move { held(&lease, &store).await.is_some() })
        });
        let attempts: Vec<_> = attempts.collect();
        let mut holders = 0;
        for attempt in attempts {
            holders += usize::from(attempt.await.unwrap());
        }
        assert_eq!(holders, 1);
    }
}

/// Four processes over one tier and this store: each key is loaded once, but for loads that were made without a turn
/// because the store took too long, which are counted. That may happen on a busy machine, and is tried again.
pub(crate) async fn loads_once(store: &SharedConsensus) {
    const ROUNDS_MAX: usize = 40;
    let far: SharedTier<Tagged<Bytes>> = SharedTier::new(memory(8 << 20));
    let process = || {
        let lease = LoadLease::new(store.clone(), "test");
        Cache::builder(far.clone()).load_lease(lease).build()
    };
    let processes = [(); 4].map(|()| process());
    let mut in_time = 0;
    for round in 0..ROUNDS_MAX {
        let without = |processes: &[Cache<Bytes>]| -> u64 {
            processes.iter().map(|cache| cache.stats().unleased_loads).sum()
        };
        let (before, loads) = (without(&processes), Arc::new(AtomicU64::new(0)));
        let callers = processes.iter().flat_map(|cache| [cache.clone(), cache.clone()]);
        let callers = callers.map(|cache| {
            let loads = Arc::clone(&loads);
            tokio::spawn(async move {
                let name = format!("k{round}");
                let load = move || async move {
                    loads.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(20)).await;
                    Ok::<_, LoadError>(Bytes::from("loaded"))
                };
                let key = KeyRef::new(&name).unwrap();
                cache.get_or_load(key, load).await.unwrap().unwrap().value
            })
        });
        let callers: Vec<_> = callers.collect();
        for caller in callers {
            assert_eq!(caller.await.unwrap(), "loaded");
        }
        let (loads, without) = (loads.load(Ordering::SeqCst), without(&processes) - before);
        assert!(
            (1..=1 + without).contains(&loads),
            "{loads} loads, {without} of them without a turn"
        );
        if without == 0 {
            in_time += 1;
        } else {
            // A store that could not be asked is left alone for a second.
            tokio::time::sleep(Duration::from_millis(1_100)).await;
        }
        if in_time == 5 {
            return;
        }
    }
    panic!("the store answered in time for {in_time} of {ROUNDS_MAX} keys");
}
