//! A thousand callers who want what nobody has: one load, however the tiers are put together.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use larder::cache::{Cache, MemoryCache, Tagged, Tiered};
use larder::compose::{AnyReadPolicy, AnyWritePolicy};
use larder_core::{ManualClock, SharedTier};
use tokio::sync::Barrier;

use super::{Broken, Loader, bytes, payload, records, settle};
use crate::scripted::{Scripted, key};

const CALLERS: usize = 1_000;

fn memory(clock: &ManualClock) -> MemoryCache<Tagged<Bytes>> {
    MemoryCache::builder(8 << 20).clock(clock.shared()).build()
}

/// A cache on tiers that are known when it is compiled, on handles in handles, and on three tiers; each
/// with the store at its far end.
fn stacks() -> [(&'static str, Cache<Bytes>, Scripted); 3] {
    let clock = ManualClock::default();
    let stores = [(); 3].map(|()| Scripted::new("far", &clock));
    let far = |at: usize| records(&stores[at], &clock);
    let compiled = Tiered::builder(memory(&clock), far(0)).clock(clock.shared()).build();
    let handles = Tiered::builder(SharedTier::new(memory(&clock)), SharedTier::new(far(1)))
        .clock(clock.shared())
        .read(AnyReadPolicy::default())
        .write(AnyWritePolicy::default())
        .build();
    let below = Tiered::builder(memory(&clock), far(2)).clock(clock.shared()).build();
    let three = Tiered::builder(memory(&clock), below).clock(clock.shared()).build();
    let tiers = [SharedTier::new(compiled), SharedTier::new(handles), SharedTier::new(three)];
    let caches = tiers.map(|tier| Cache::builder(tier).clock(clock.shared()).build());
    let [one, two, three] = caches;
    let [first, second, third] = stores;
    [("compiled", one, first), ("handles", two, second), ("three", three, third)]
}

#[tokio::test]
async fn a_thousand_callers_are_one_load_and_one_write() {
    for (stack, cache, store) in stacks() {
        let loader = Loader::default();
        let mut callers = Vec::new();
        for _ in 0..CALLERS {
            let (cache, load) = (cache.clone(), loader.load());
            callers.push(tokio::spawn(async move { cache.get_or_load(key("k"), load).await }));
        }
        settle().await;
        assert_eq!(loader.calls(), 1, "{stack}");
        loader.answer(0, bytes("v")).await;
        for caller in callers {
            assert_eq!(payload(caller.await.unwrap()), Some(bytes("v")), "{stack}");
        }
        let stats = cache.stats();
        assert_eq!((stats.loads, stats.joined_loads), (1, CALLERS as u64 - 1), "{stack}");
        assert_eq!((loader.calls(), store.writes()), (1, 1), "{stack}");
    }
}

/// All at once, on threads that really are in one another's way.
#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_thousand_callers_on_many_threads_are_one_load() {
    for round in 0..10 {
        for (stack, cache, _) in stacks() {
            let (calls, start) = (Arc::new(AtomicUsize::new(0)), Arc::new(Barrier::new(CALLERS)));
            let mut callers = Vec::new();
            for _ in 0..CALLERS {
                let (cache, calls) = (cache.clone(), Arc::clone(&calls));
                let start = Arc::clone(&start);
                callers.push(tokio::spawn(async move {
                    start.wait().await;
                    let load = move || async move {
                        calls.fetch_add(1, Ordering::SeqCst);
                        tokio::task::yield_now().await;
                        Ok::<_, Broken>(bytes("v"))
                    };
                    cache.get_or_load(key("k"), load).await
                }));
            }
            for caller in callers {
                assert_eq!(payload(caller.await.unwrap()), Some(bytes("v")), "{stack}");
            }
            let calls = calls.load(Ordering::SeqCst);
            assert_eq!(calls, 1, "{stack}, in round {round}");
        }
    }
}
