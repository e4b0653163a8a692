//! foyer: memory before a disk.

use foyer::{
    BlockEngineConfig, Cache, CacheBuilder, DeviceBuilder as _, EvictionConfig, FsDeviceBuilder,
    HybridCache, HybridCacheBuilder, LfuConfig, LruConfig, S3FifoConfig, SieveConfig,
};
use larder::Key;

use super::{Asked, Evicting, Near, Pass, pass, text};
use crate::error::Result;
use crate::subject::Work;

struct Hybrid {
    cache: HybridCache<String, String>,
    /// Its disk, as long as it lives.
    _folder: tempfile::TempDir,
}

impl Near for Hybrid {
    fn name(&self) -> &'static str {
        "foyer, hybrid"
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.cache.get(one.key.as_str()).await?, |entry| entry.value())
    }
}

struct Memory(Cache<String, String>);

impl Near for Memory {
    fn name(&self) -> &'static str {
        "foyer, memory"
    }

    fn pass<'a>(&'a self, asked: &'a [Asked<'a>]) -> Work<'a, Pass> {
        pass!(asked, |one| self.0.get(one.key.as_str()), |entry| entry.value())
    }
}

pub(super) async fn filled(keys: &[Key]) -> Result<Vec<Box<dyn Near>>> {
    let folder = tempfile::tempdir()?;
    let device = FsDeviceBuilder::new(folder.path()).with_capacity(64 << 20).build()?;
    // It writes to the disk what it evicts, and evicts nothing here.
    let cache = HybridCacheBuilder::new()
        .memory(keys.len() * 2)
        .storage()
        .with_engine_config(BlockEngineConfig::new(device))
        .build()
        .await?;
    let memory: Cache<String, String> = CacheBuilder::new(keys.len() * 2).build();
    for key in keys {
        cache.insert(key.as_str().to_owned(), text(key));
        memory.insert(key.as_str().to_owned(), text(key));
    }
    Ok(vec![Box::new(Hybrid { cache, _folder: folder }), Box::new(Memory(memory))])
}

struct Bounded {
    name: &'static str,
    cache: Cache<String, ()>,
}

impl Evicting for Bounded {
    fn name(&self) -> &'static str {
        self.name
    }

    fn ask(&self, key: &Key) -> bool {
        let there = self.cache.get(key.as_str()).is_some();
        if !there {
            self.cache.insert(key.as_str().to_owned(), ());
        }
        there
    }
}

pub(super) fn evicting(entries: usize) -> Vec<Box<dyn Evicting>> {
    let of = |name, eviction: EvictionConfig| -> Box<dyn Evicting> {
        // One shard: it loses nothing to uneven ones.
        let cache = CacheBuilder::new(entries).with_shards(1).with_eviction_config(eviction);
        Box::new(Bounded { name, cache: cache.build() })
    };
    vec![
        of("foyer, LRU", LruConfig::default().into()),
        of("foyer, LFU", LfuConfig::default().into()),
        of("foyer, S3-FIFO", S3FifoConfig::default().into()),
        of("foyer, SIEVE", SieveConfig.into()),
    ]
}
