//! What larder's memory tier is made of, with the same key, the same hash and the same look at the
//! clock, and nothing else: what there is to reach.

use larder::{Clock as _, Key, KeyRef, SharedClock, SystemClock, Timestamp};
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use rapidhash::fast::RandomState;

use super::{Asked, LIFE, Near, Pass, Text, pass, text};
use crate::subject::Work;

pub(crate) const NAME: &str = "quick_cache and a look at the clock";

#[derive(Clone)]
struct Timed {
    value: Text,
    expire: Option<Timestamp>,
}

struct Bare {
    cache: Cache<Key, Timed, UnitWeighter, RandomState>,
    clock: SharedClock,
}

impl Bare {
    fn get(&self, key: KeyRef<'_>) -> Option<Text> {
        let Timed { value, expire } = self.cache.get(key.as_str())?;
        let is_over = expire.is_some_and(|expire| self.clock.is_past(expire));
        (!is_over).then_some(value)
    }
}

impl Near for Bare {
    fn name(&self) -> &'static str {
        NAME
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.get(one.key), |text| text)
    }
}

pub(super) fn filled(keys: &[Key]) -> Box<dyn Near> {
    let capacity = keys.len() * 2;
    let cache = Cache::with(
        capacity,
        capacity as u64,
        UnitWeighter,
        RandomState::default(),
        DefaultLifecycle::default(),
    );
    let expire = Some(SystemClock.now().saturating_add(LIFE));
    for key in keys {
        cache.insert(key.clone(), Timed { value: text(key).into(), expire });
    }
    Box::new(Bare { cache, clock: SystemClock::shared() })
}
