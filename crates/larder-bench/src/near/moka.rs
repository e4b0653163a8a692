//! moka, with a life for all entries.

use larder::Key;

use super::{Asked, Evicting, LIFE, Near, Pass, Text, pass, text};
use crate::subject::Work;

struct Blocking(moka::sync::Cache<Key, Text>);

impl Near for Blocking {
    fn name(&self) -> &'static str {
        "moka, sync"
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.0.get(one.key.as_str()), |text| text)
    }
}

struct Awaited(moka::future::Cache<Key, Text>);

impl Near for Awaited {
    fn name(&self) -> &'static str {
        "moka, future"
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.0.get(one.key.as_str()).await, |text| text)
    }
}

pub(super) async fn filled(keys: &[Key]) -> Vec<Box<dyn Near>> {
    let capacity = keys.len() as u64 * 2;
    let blocking = moka::sync::Cache::builder().max_capacity(capacity).time_to_live(LIFE).build();
    let awaited = moka::future::Cache::builder().max_capacity(capacity).time_to_live(LIFE).build();
    for key in keys {
        blocking.insert(key.clone(), text(key).into());
        awaited.insert(key.clone(), text(key).into()).await;
    }
    blocking.run_pending_tasks();
    awaited.run_pending_tasks().await;
    vec![Box::new(Blocking(blocking)), Box::new(Awaited(awaited))]
}

struct Bounded {
    name: &'static str,
    cache: moka::sync::Cache<Key, ()>,
}

impl Evicting for Bounded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ask(&self, key: &Key) -> bool {
        let there = self.cache.get(key.as_str()).is_some();
        if !there {
            self.cache.insert(key.clone(), ());
        }
        there
    }
}

pub(super) fn evicting(entries: usize) -> Vec<Box<dyn Evicting>> {
    use moka::policy::EvictionPolicy;
    let of = |name, policy| -> Box<dyn Evicting> {
        let cache = moka::sync::Cache::builder().max_capacity(entries as u64);
        Box::new(Bounded { name, cache: cache.eviction_policy(policy).build() })
    };
    vec![of("moka, TinyLFU", EvictionPolicy::tiny_lfu()), of("moka, LRU", EvictionPolicy::lru())]
}
