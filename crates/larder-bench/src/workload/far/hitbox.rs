//! hitbox: moka before Redis, refilled.

use std::sync::Arc;

use futures_util::future::try_join_all;
use hitbox::offload::OffloadManager;
use hitbox::{CacheContext, CacheKey, CacheValue};
use hitbox_backend::composition::policy::RefillPolicy;
use hitbox_backend::{Backend as _, CacheBackend as _, Compose as _, CompositionBackend};
use hitbox_core::ReadMode;
use hitbox_moka::MokaBackend;
use hitbox_redis::{ConnectionMode, RedisBackend};
use larder::Key;
use larder_testkit::service::RedisServer;

use super::Far;
use crate::error::Result;
use crate::near::told;
use crate::subject::Work;

struct Composed {
    name: &'static str,
    cache: CompositionBackend<MokaBackend, RedisBackend, OffloadManager>,
}

impl Far for Composed {
    fn get<'a>(&'a self, key: &'a Key) -> Work<'a, bool> {
        Box::pin(async move {
            let key = CacheKey::from_str("user", key.as_str());
            let mut context = CacheContext::default().boxed();
            let value = self.cache.get::<String>(&key, &mut context).await.map_err(told)?;
            let value = value.ok_or("a key that was written is missing")?;
            let far = context.read_mode() == ReadMode::Refill;
            if far {
                // What its own state machine does after such a hit.
                self.cache.set::<String>(&key, &value, &mut context).await.map_err(told)?;
            }
            Ok(far)
        })
    }

    fn name(&self) -> &'static str {
        self.name
    }
}

/// Composed after one read, so that the connection is there and all calls share it; and, for a
/// concurrency that does not use up the ports, as its documentation does: each call then works on a
/// clone without a connection, and opens one.
pub(super) async fn filled(
    server: &RedisServer,
    keys: &[Key],
    size: usize,
    concurrency: usize,
) -> Result<Vec<Arc<dyn Far>>> {
    let far = || RedisBackend::builder().connection(ConnectionMode::single(server.uri(0))).build();
    let composed = |name, far| {
        let near = MokaBackend::builder().max_entries(keys.len() as u64 / 100).build();
        let cache = near.compose(far, OffloadManager::with_defaults());
        Composed { name, cache: cache.refill(RefillPolicy::Always) }
    };
    let warm = far()?;
    warm.read(&CacheKey::from_str("user", "nobody")).await.map_err(told)?;
    let warm = composed("hitbox, connected before", warm);
    for some in keys.chunks(500) {
        let put = async |key: &Key| -> Result<()> {
            let mut context = CacheContext::default().boxed();
            let value = CacheValue::new("x".repeat(size), None, None);
            let key = CacheKey::from_str("user", key.as_str());
            Ok(warm.cache.set::<String>(&key, &value, &mut context).await.map_err(told)?)
        };
        try_join_all(some.iter().map(put)).await?;
    }
    let mut subjects: Vec<Arc<dyn Far>> = vec![Arc::new(warm)];
    if concurrency == 64 && size < 1_000 {
        subjects.push(Arc::new(composed("hitbox, as documented", far()?)));
    }
    Ok(subjects)
}
