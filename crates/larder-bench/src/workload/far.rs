//! Hits in a Redis server that are copied into memory, next to the bare client.
//!
//! The memory tier is so small beside the keys that nearly every look-up misses it: what is measured
//! is the way to the far tier and back, with the copy that makes room for itself.

#[cfg(feature = "hitbox")]
mod hitbox;

use std::sync::Arc;

use bytes::Bytes;
use larder::cache::{
    Cache, Encoded, MemoryCache, NoCompression, PutOptions, RawCodec, RedisCache, Schema,
    TaggedCodec, Tiered,
};
use larder::compose::{CompositionLayer, RefillPolicy};
use larder::{Key, SharedTier, Tier};
use larder_testkit::service::RedisServer;
use redis::aio::MultiplexedConnection;

use super::cache_extent;
use crate::args::CacheArgs;
use crate::bench::say;
use crate::clients::{self, Step};
use crate::error::Result;
use crate::near;
use crate::payload::{Payloads, Source};
use crate::row::{Row, bytes, float};
use crate::subject::Work;

/// The driver that larder uses, without larder: what there is to reach.
pub(crate) const BARE_CLIENT: &str = "redis client";

/// Payload size and concurrency.
const CELLS: [(usize, usize); 4] = [(100, 1), (100, 64), (100, 512), (10 << 10, 64)];
/// Keys for each cell, by the bytes that they take together.
const ALL_BYTES: usize = 64 << 20;
const KEYS_MAX: usize = 100_000;

/// Something that looks keys up.
trait Far: Send + Sync + 'static {
    /// Looks up `key`, which is there; whether it came from far away.
    fn get<'a>(&'a self, key: &'a Key) -> Work<'a, bool>;

    fn name(&self) -> &'static str;
}

/// `GET` on the driver's connection.
struct BareClient(MultiplexedConnection);

impl Far for BareClient {
    fn get<'a>(&'a self, key: &'a Key) -> Work<'a, bool> {
        Box::pin(async move {
            let place = format!("bare:{}", key.as_str());
            let mut connection = self.0.clone();
            let value: Option<Vec<u8>> =
                redis::cmd("GET").arg(place).query_async(&mut connection).await?;
            found(value.map(|_| ()), true)
        })
    }

    fn name(&self) -> &'static str {
        BARE_CLIENT
    }
}

/// The far tier alone.
struct BareTier(RedisCache);

impl Far for BareTier {
    fn get<'a>(&'a self, key: &'a Key) -> Work<'a, bool> {
        Box::pin(async move { found(self.0.read(key.as_ref()).await?, true) })
    }

    fn name(&self) -> &'static str {
        "larder, far tier alone"
    }
}

/// What a service has: memory over records over Redis, refilled, behind the face of the cache.
struct Whole(Cache<Bytes>);

impl Far for Whole {
    fn get<'a>(&'a self, key: &'a Key) -> Work<'a, bool> {
        Box::pin(async move {
            let hit = self.0.get(key.as_ref()).await?;
            let far = hit.as_ref().and_then(larder::cache::Hit::layer);
            found(hit, far == Some(CompositionLayer::L2))
        })
    }

    fn name(&self) -> &'static str {
        "larder"
    }
}

fn found<T>(value: Option<T>, far: bool) -> Result<bool> {
    value.map(|_| far).ok_or_else(|| "a key that was written is missing".into())
}

struct Looking {
    far: Arc<dyn Far>,
    keys: Arc<Vec<Key>>,
    source: Source,
    near: Arc<std::sync::atomic::AtomicU64>,
}

impl Step for Looking {
    async fn step(&mut self) -> Result<usize> {
        let at = self.source.below(self.keys.len());
        let key = self.keys.get(at).ok_or("there is nothing to look up")?;
        if !self.far.get(key).await? {
            self.near.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }
        Ok(0)
    }
}

pub(crate) async fn run(arguments: &CacheArgs) -> Result<Vec<Row>> {
    let (rounds, cell) = cache_extent(arguments);
    let (payloads, mut rows) = (Payloads::new(), Vec::new());
    for (size, concurrency) in CELLS {
        let server = RedisServer::start()?;
        let keys_max = if arguments.smoke { 1_000 } else { KEYS_MAX };
        let keys = Arc::new(near::keys((ALL_BYTES / size).min(keys_max))?);
        let mut subjects = filled(&server, &keys, payloads.source(size), concurrency).await?;
        let name = format!("{} x {concurrency}", bytes(size));
        for round in 0..rounds {
            say(&format!("far, round {} of {rounds}, {name}", round + 1));
            for subject in &subjects {
                let near = Arc::default();
                let clients = (0..concurrency).map(|_| Looking {
                    far: Arc::clone(subject),
                    keys: Arc::clone(&keys),
                    source: payloads.source(0),
                    near: Arc::clone(&near),
                });
                let clients = clients.collect();
                let measured = clients::tasks(clients, cell, &std::env::temp_dir()).await?;
                let near = near.load(std::sync::atomic::Ordering::Relaxed);
                let row = Row::new("far", subject.name(), &name, round);
                let near = float(near) / float(measured.operations);
                rows.push(row.with_measured(&measured).with("hits_near", near));
            }
            subjects.rotate_left(1);
        }
    }
    Ok(rows)
}

/// The subjects on `server`, with a value of `size` bytes under each key.
async fn filled(
    server: &RedisServer,
    keys: &[Key],
    mut source: Source,
    #[cfg_attr(not(feature = "hitbox"), expect(unused, reason = "there is nobody else"))]
    concurrency: usize,
) -> Result<Vec<Arc<dyn Far>>> {
    let size = source.payload().len();
    let client = redis::Client::open(server.uri(0))?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let open = |name: &str| RedisCache::builder(&format!("{}?namespace={name}", server.uri(0)));
    let tier = open("tier")?.attach();
    let records = Encoded::new(
        open("whole")?.attach(),
        TaggedCodec(RawCodec),
        NoCompression,
        Schema::new("bench", "bytes", 1)?,
    );
    // A hundredth of what is looked up.
    let near = MemoryCache::builder(u64::try_from(keys.len() * (size + 200) / 100)?);
    let both = Tiered::builder(near.build(), records).refill(RefillPolicy::Always).build();
    let whole = Cache::builder(SharedTier::new(both)).build();
    for some in keys.chunks(1_000) {
        let mut pipeline = redis::pipe();
        let mut values = Vec::with_capacity(some.len());
        for key in some {
            let value = source.payload();
            pipeline.set(format!("bare:{}", key.as_str()), &value[..]).ignore();
            values.push((key.clone(), value));
        }
        pipeline.exec_async(&mut connection).await?;
        let plain =
            |(key, value): &(Key, Bytes)| (key.clone(), larder::CacheValue::new(value.clone()));
        tier.write_many(values.iter().map(plain).collect(), larder::Condition::Always).await?;
        let put = |(key, value)| (key, value, PutOptions::new());
        whole.put_many(values.into_iter().map(put).collect()).await?;
    }
    #[cfg_attr(not(feature = "hitbox"), expect(unused_mut, reason = "there is nobody else"))]
    let mut subjects: Vec<Arc<dyn Far>> =
        vec![Arc::new(BareClient(connection)), Arc::new(BareTier(tier)), Arc::new(Whole(whole))];
    #[cfg(feature = "hitbox")]
    subjects.extend(hitbox::filled(server, keys, size, concurrency).await?);
    Ok(subjects)
}
