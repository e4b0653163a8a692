//! multi-tier-cache: moka before another one that is never reached.

use std::sync::Arc;

use larder::Key;
use multi_tier_cache::{
    CacheManager, CacheStrategy, CacheSystemBuilder, MokaCache, MokaCacheConfig, TierConfig,
};

use super::{Asked, LIFE, Near, Pass, pass, text};
use crate::error::Result;
use crate::subject::Work;

struct MultiTier(Arc<CacheManager>);

impl Near for MultiTier {
    fn name(&self) -> &'static str {
        "multi-tier-cache"
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.0.get(one.key.as_str()).await?, |text| text)
    }
}

pub(super) async fn filled(keys: &[Key]) -> Result<Box<dyn Near>> {
    let moka = |max_capacity| -> Result<Arc<MokaCache>> {
        let config = MokaCacheConfig { max_capacity, time_to_live: LIFE, time_to_idle: LIFE };
        Ok(Arc::new(MokaCache::new(config)?))
    };
    let system = CacheSystemBuilder::new()
        .with_tier(moka(keys.len() as u64 * 2)?, TierConfig::as_l1())
        .with_tier(moka(1)?, TierConfig::as_l2())
        .build()
        .await?;
    let manager = Arc::clone(system.cache_manager());
    for key in keys {
        let value = text(key).into();
        manager.set_with_strategy(key.as_str(), value, CacheStrategy::Custom(LIFE)).await?;
    }
    Ok(Box::new(MultiTier(manager)))
}
