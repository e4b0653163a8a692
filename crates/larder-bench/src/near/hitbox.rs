//! hitbox: moka before Redis, composed as its documentation does, through `CacheBackend::get`.

use hitbox::offload::OffloadManager;
use hitbox::{CacheContext, CacheKey, CacheValue};
use hitbox_backend::composition::policy::RefillPolicy;
use hitbox_backend::{CacheBackend as _, Compose as _, CompositionBackend};
use hitbox_core::ReadMode;
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};
use larder::Key;

use super::{Asked, Near, Pass, pass, text};
use crate::error::Result;
use crate::subject::Work;

struct Composed {
    cache: CompositionBackend<MokaBackend, RedisBackend, OffloadManager>,
    /// Made beforehand: a service makes one for each look-up.
    keys: Vec<CacheKey>,
}

impl Near for Composed {
    fn name(&self) -> &'static str {
        "hitbox"
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(
            asked,
            |one| {
                let key = self.keys.get(one.at).ok_or("there is no such key")?;
                let mut context = CacheContext::default().boxed();
                self.cache.get::<String>(key, &mut context).await.map_err(told)?
            },
            |value| value.data()
        )
    }
}

pub(super) async fn filled(keys: &[Key]) -> Result<Box<dyn Near>> {
    // Nobody listens there, and nobody asks: a hit in moka ends the look-up.
    let nowhere = ConnectionMode::single("redis://127.0.0.1:1/");
    let far = RedisBackend::builder().connection(nowhere).build()?;
    let near = MokaBackend::builder().max_entries(keys.len() as u64 * 2).build();
    let cache = near.compose(far, OffloadManager::with_defaults()).refill(RefillPolicy::Always);
    let keys: Vec<_> =
        keys.iter().map(|key| (CacheKey::from_str("user", key.as_str()), text(key))).collect();
    for (key, text) in &keys {
        // What a refill writes goes into moka alone.
        let mut context = CacheContext::default().boxed();
        context.set_read_mode(ReadMode::Refill);
        let value = CacheValue::new(text.clone(), None, None);
        cache.set::<String>(key, &value, &mut context).await.map_err(told)?;
    }
    Ok(Box::new(Composed { cache, keys: keys.into_iter().map(|(key, _)| key).collect() }))
}

/// Its errors cannot be handed to other threads.
#[expect(clippy::needless_pass_by_value, reason = "`map_err` hands it over")]
pub(crate) fn told(error: hitbox_backend::BackendError) -> String {
    error.to_string()
}
