//! From an address to a live store: the only room that names every backend.
//!
//! | scheme | contracts | parameters |
//! |---|---|---|
//! | `memory:` | cache, spool, consensus, bus | `capacity` (256MiB), for a spool also `max_entries`; none for a bus |
//! | `log:PATH` | spool, consensus | `segment`, `recycle`, `max_bytes`, `max_entries`, `max_payload`, `sync_interval`, `min_free_space`, `min_free_inodes`, `compact_bytes_per_second`, `scrub_bytes_per_second`; for a spool also `store_deadline` |
//! | `log:PATH` | cache | `capacity` (1GiB), `max_entries` (one for each KiB), `timeout` (1s) |
//! | `redis://HOST:PORT/DB` | cache, bus | `namespace` (larder), `timeout` (1s), for a cache `max_value` (65MiB); with `rediss:` (TLS) also `ca` (a file) |
//! | `etcd://HOST:PORT,.../PREFIX` | consensus | `timeout` (5s), `max_payload` (1472KiB); with `etcds:` (TLS) also `ca`, `cert` and `key` (files) |
//! | `s3://BUCKET/PREFIX` | consensus | `endpoint`, `region`, `ca` (a file), `timeout` (10s), `connections` (64), `max_object` (16MiB) |
//! | `postgres://USER@HOST:PORT/DB` | cache, consensus, bus | `schema` (larder), `timeout` (1s; consensus 5s), `connections` (8; bus 2), `sslmode` (disable), `ca`, `sslcert` and `sslkey` (files); for a cache also `max_value` (65MiB), for consensus `max_payload` (64MiB) |

use std::sync::OnceLock;
#[cfg(any(feature = "log", feature = "redis", feature = "postgres"))]
use std::time::Duration;

use bytes::Bytes;
use larder_core::{
    BackendError, Effect, Failure, MemoryBus, MemoryConsensus, MemorySpool, Retry, SharedBus,
    SharedConsensus, SharedSpool, SharedTier, SystemClock,
};

use crate::address::{Address, AddressError};
#[cfg(feature = "postgres")]
use crate::bus::PostgresBus;
#[cfg(feature = "redis")]
use crate::bus::RedisBus;
#[cfg(feature = "postgres")]
use crate::cache::PostgresCache;
#[cfg(feature = "redis")]
use crate::cache::RedisCache;
use crate::cache::{GuardOptions, MemoryCache, Weight};
#[cfg(feature = "etcd")]
use crate::consensus::EtcdConsensus;
#[cfg(feature = "s3")]
use crate::consensus::ObjectConsensus;
#[cfg(feature = "postgres")]
use crate::consensus::PostgresConsensus;

/// Opens the spool at `uri`.
///
/// Needs a tokio runtime. The embedded engine reads its folder before this returns.
///
/// # Errors
/// [`OpenError`]; whatever it is, nothing that was stored is touched.
///
/// # Cancel safety
/// An open that is dropped may go on in the background and holds the place until it is done.
pub async fn open_spool(uri: &str) -> Result<SharedSpool, OpenError> {
    let address: Address = uri.parse()?;
    match address.scheme() {
        "memory" => {
            let (bytes, entries) = memory_spool_bounds(address)?;
            Ok(SharedSpool::new(MemorySpool::new(SystemClock::shared(), bytes, entries)))
        }
        #[cfg(feature = "log")]
        "log" => log::open_spool(address).await,
        _ => Err(unknown_scheme(&address, "spool", SPOOLS)),
    }
}

/// Opens the consensus store at `uri`.
///
/// # Errors
/// As [`open_spool`].
///
/// # Cancel safety
/// As [`open_spool`].
pub async fn open_consensus(uri: &str) -> Result<SharedConsensus, OpenError> {
    let address: Address = uri.parse()?;
    match address.scheme() {
        "memory" => {
            let capacity = sole_capacity(address)?.unwrap_or(MemoryConsensus::CAPACITY);
            Ok(SharedConsensus::new(MemoryConsensus::with_capacity(capacity)))
        }
        #[cfg(feature = "log")]
        "log" => log::open_consensus(address).await,
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => {
            let store = PostgresConsensus::at(PostgresConsensus::settings(address)?).await?;
            Ok(SharedConsensus::new(store))
        }
        #[cfg(feature = "etcd")]
        "etcd" | "etcds" => {
            let store = EtcdConsensus::at(EtcdConsensus::settings(address)?).await?;
            Ok(SharedConsensus::new(store))
        }
        #[cfg(feature = "s3")]
        "s3" => {
            let store = ObjectConsensus::at(ObjectConsensus::settings(address)?).await?;
            Ok(SharedConsensus::new(store))
        }
        _ => Err(unknown_scheme(&address, "consensus store", CONSENSUS)),
    }
}

/// Opens the cache tier at `uri`, for values of bytes.
///
/// # Errors
/// As [`open_spool`].
///
/// # Cancel safety
/// As [`open_spool`].
pub async fn open_cache(uri: &str) -> Result<SharedTier<Bytes>, OpenError> {
    match uri.parse::<Address>()?.scheme() {
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(SharedTier::new(RedisCache::open(uri).await?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(SharedTier::new(PostgresCache::open(uri).await?)),
        #[cfg(feature = "log")]
        "log" => log::open_cache(uri).await,
        _ => attach_cache(uri),
    }
}

/// As [`open_cache`], without asking a server whether it is there: a cache behind a network fails in
/// its calls until it can be reached.
///
/// For a far tier, which must not keep a service from starting. Needs a tokio runtime for its calls. A
/// cache on disk is opened as by [`open_cache`], which blocks while it reads its folder.
///
/// # Errors
/// [`OpenError::Address`]; for a cache on disk as [`open_cache`].
pub fn attach_cache(uri: &str) -> Result<SharedTier<Bytes>, OpenError> {
    let address: Address = uri.parse()?;
    match address.scheme() {
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(SharedTier::new(RedisCache::builder(uri)?.attach())),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(SharedTier::new(PostgresCache::builder(uri)?.attach())),
        #[cfg(feature = "log")]
        "log" => Ok(SharedTier::new(crate::cache::LogCache::builder(uri)?.open()?)),
        _ => match open_typed_cache(uri)? {
            Some(tier) => Ok(tier),
            None => Err(unknown_scheme(&address, "cache", CACHES)),
        },
    }
}

/// The bus at `uri`, without asking a server whether it is there: its calls fail until it can be
/// reached.
///
/// `memory:` is one bus for the whole process.
///
/// # Errors
/// [`OpenError::Address`].
pub fn attach_bus(uri: &str) -> Result<SharedBus, OpenError> {
    static MEMORY: OnceLock<MemoryBus> = OnceLock::new();
    let address: Address = uri.parse()?;
    match address.scheme() {
        "memory" => {
            memory_bus(address)?;
            Ok(SharedBus::new(MEMORY.get_or_init(MemoryBus::new).clone()))
        }
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(SharedBus::new(RedisBus::attach(uri)?)),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(SharedBus::new(PostgresBus::at(address)?)),
        _ => Err(unknown_scheme(&address, "bus", BUSES)),
    }
}

/// Checks the address of a spool as far as that goes without opening it.
///
/// # Errors
/// [`OpenError::Address`].
pub fn check_spool(uri: &str) -> Result<(), OpenError> {
    let address: Address = uri.parse()?;
    match address.scheme() {
        "memory" => Ok(memory_spool_bounds(address).map(drop)?),
        #[cfg(feature = "log")]
        "log" => Ok(log::spool_options(address).map(drop)?),
        _ => Err(unknown_scheme(&address, "spool", SPOOLS)),
    }
}

/// Checks the address of a consensus store as far as that goes without opening it.
///
/// # Errors
/// As [`check_spool`].
pub fn check_consensus(uri: &str) -> Result<(), OpenError> {
    let address: Address = uri.parse()?;
    match address.scheme() {
        "memory" => Ok(sole_capacity(address).map(drop)?),
        #[cfg(feature = "log")]
        "log" => Ok(log::consensus_options(address).map(drop)?),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(PostgresConsensus::settings(address).map(drop)?),
        #[cfg(feature = "etcd")]
        "etcd" | "etcds" => Ok(EtcdConsensus::settings(address).map(drop)?),
        #[cfg(feature = "s3")]
        "s3" => Ok(ObjectConsensus::settings(address).map(drop)?),
        _ => Err(unknown_scheme(&address, "consensus store", CONSENSUS)),
    }
}

/// Checks the address of a bus as far as that goes without opening it.
///
/// # Errors
/// As [`check_spool`].
pub fn check_bus(uri: &str) -> Result<(), OpenError> {
    attach_bus(uri).map(drop)
}

/// Checks the address of a cache tier as far as that goes without opening it.
///
/// # Errors
/// As [`check_spool`].
pub fn check_cache(uri: &str) -> Result<(), OpenError> {
    let address: Address = uri.parse()?;
    match address.scheme() {
        "memory" => Ok(sole_capacity(address).map(drop)?),
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(RedisCache::builder(uri).map(drop)?),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(PostgresCache::builder(uri).map(drop)?),
        #[cfg(feature = "log")]
        "log" => Ok(crate::cache::LogCache::builder(uri).map(drop)?),
        _ => Err(unknown_scheme(&address, "cache", CACHES)),
    }
}

/// How a guard of the cache tier at `uri` should be set: the defaults, with time limits that are longer
/// than those of the address, which know better what was sent. `None` for a tier in memory, which needs
/// none.
///
/// ```
/// use std::time::Duration;
///
/// assert_eq!(larder::registry::guard_options("memory:")?, None);
/// # #[cfg(feature = "redis")] {
/// let options = larder::registry::guard_options("redis://cache:6379/0?timeout=100ms")?;
/// assert!(options.is_some_and(|options| options.read_limit > Duration::from_millis(100)));
/// # }
/// # Ok::<_, larder::registry::OpenError>(())
/// ```
///
/// # Errors
/// As [`check_cache`].
pub fn guard_options(uri: &str) -> Result<Option<GuardOptions>, OpenError> {
    check_cache(uri)?;
    match uri.parse::<Address>()?.scheme() {
        #[cfg(feature = "redis")]
        "redis" | "rediss" => Ok(Some(beyond(RedisCache::builder(uri)?.call_limit()))),
        // A disk may hang as a network does.
        #[cfg(feature = "log")]
        "log" => Ok(Some(beyond(crate::cache::LogCache::builder(uri)?.call_limit()))),
        #[cfg(feature = "postgres")]
        "postgres" | "postgresql" => Ok(Some(beyond(PostgresCache::builder(uri)?.call_limit()))),
        _ => Ok(None),
    }
}

/// A guard of a tier whose calls end by themselves after `limit`.
#[cfg(any(feature = "log", feature = "redis", feature = "postgres"))]
fn beyond(limit: Duration) -> GuardOptions {
    let limit = limit.saturating_add(limit / 4).saturating_add(Duration::from_millis(100));
    GuardOptions::new().read_limit(limit).write_limit(limit)
}

/// Opens the cache tier at `uri` for values of any type, which only memory can hold.
///
/// Other tiers hold bytes: `None` for their schemes; put an [`Encoded`](crate::cache::Encoded) over
/// what [`open_cache`] gives.
///
/// # Errors
/// As [`open_cache`], for a `memory:` address.
pub fn open_typed_cache<V>(uri: &str) -> Result<Option<SharedTier<V>>, OpenError>
where
    V: Weight + Clone + Send + Sync + 'static,
{
    let address: Address = uri.parse()?;
    if address.scheme() != "memory" {
        return Ok(None);
    }
    let capacity = sole_capacity(address)?.unwrap_or(MEMORY_CACHE_CAPACITY);
    Ok(Some(SharedTier::new(MemoryCache::<V>::builder(capacity).label("memory").build())))
}

/// Removes the schema that a `postgres:` address names, with everything that is in it; one that is not
/// there is no error.
///
/// For places that were made to be thrown away. Other parameters of the address do not matter.
///
/// # Errors
/// [`OpenError::Address`], and [`OpenError::Unavailable`] with an effect in its source. After at most five
/// seconds.
///
/// # Cancel safety
/// Dropped before it completes, the schema may be gone or not, but not in part.
#[cfg(feature = "postgres")]
pub async fn drop_schema(uri: &str) -> Result<(), OpenError> {
    use crate::driver::postgres::{Endpoint, Schema, drop_schema};
    let mut address: Address = uri.parse()?;
    let (endpoint, schema) = (Endpoint::take(&mut address)?, Schema::take(&mut address)?);
    drop_schema(&endpoint, &schema).await
}

/// Removes what is below the prefix that an `etcd:` or `s3:` address names, whoever made it; nothing there is no
/// error.
///
/// For places that were made to be thrown away. Prefixes that go on with this one are others and stay. In a bucket
/// a prefix is required.
///
/// # Errors
/// As [`open_consensus`], and [`OpenError::Unavailable`] with an effect in its source.
///
/// # Cancel safety
/// Dropped before it completes, everything may be gone or nothing; in a bucket also some of the objects.
#[cfg(any(feature = "etcd", feature = "s3"))]
pub async fn drop_prefix(uri: &str) -> Result<(), OpenError> {
    let address: Address = uri.parse()?;
    match address.scheme() {
        #[cfg(feature = "etcd")]
        "etcd" | "etcds" => EtcdConsensus::drop_prefix(EtcdConsensus::settings(address)?).await,
        #[cfg(feature = "s3")]
        "s3" => ObjectConsensus::drop_prefix(ObjectConsensus::settings(address)?).await,
        _ => Err(unknown_scheme(&address, "place with a prefix", PREFIXED)),
    }
}

/// The schemes of places with a prefix.
#[cfg(any(feature = "etcd", feature = "s3"))]
const PREFIXED: &[(&str, bool)] = &[
    ("etcd", cfg!(feature = "etcd")),
    ("etcds", cfg!(feature = "etcd-tls")),
    ("s3", cfg!(feature = "s3")),
];

/// The capacity of a `memory:` cache that states none: 256 MiB.
pub const MEMORY_CACHE_CAPACITY: u64 = 256 << 20;

/// Why a store could not be opened. Whatever it is, nothing that was stored is touched.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The address makes no sense. Retry `Never`.
    #[error(transparent)]
    Address(#[from] AddressError),
    /// Another process, or this one, has the place open. Retry `Later`.
    #[error("{place} is in use{}: close it there first", by(*pid))]
    Locked {
        /// The place.
        place: String,
        /// The process that holds it, when it says so.
        pid: Option<u32>,
    },
    /// A newer release wrote the place. Retry `Never`.
    #[error("{place} was written by a newer release: {what}")]
    Newer {
        /// The place.
        place: String,
        /// Which format was found and which are known.
        what: String,
    },
    /// The place is damaged in a way that this contract cannot serve. Retry `Never`.
    #[error("{place} is damaged: {what}; look at it with: larder verify {place}")]
    Damaged {
        /// The place.
        place: String,
        /// What was found.
        what: String,
    },
    /// The folder holds what belongs to another contract. Retry `Never`.
    #[error("{place} holds {holds}: name another folder")]
    OtherContract {
        /// The place.
        place: String,
        /// What is in it.
        holds: &'static str,
    },
    /// The place cannot be used: permissions, a file in the way, no space, no connection.
    #[error("cannot open {place}")]
    Unavailable {
        /// The place.
        place: String,
        /// What went wrong; it says whether repeating helps.
        #[source]
        source: BackendError,
    },
}

fn by(pid: Option<u32>) -> String {
    pid.map(|pid| format!(" by process {pid}")).unwrap_or_default()
}

impl Failure for OpenError {
    fn effect(&self) -> Effect {
        Effect::NotApplied
    }

    fn retry(&self) -> Retry {
        match self {
            Self::Address(_)
            | Self::Newer { .. }
            | Self::Damaged { .. }
            | Self::OtherContract { .. } => Retry::Never,
            Self::Locked { .. } => Retry::Later,
            Self::Unavailable { source, .. } => source.retry(),
        }
    }
}

const SPOOLS: &[(&str, bool)] = &[("memory", true), ("log", cfg!(feature = "log"))];
const CONSENSUS: &[(&str, bool)] = &[
    ("memory", true),
    ("log", cfg!(feature = "log")),
    ("postgres", cfg!(feature = "postgres")),
    ("etcd", cfg!(feature = "etcd")),
    ("etcds", cfg!(feature = "etcd-tls")),
    ("s3", cfg!(feature = "s3")),
];
/// The schemes of buses.
const BUSES: &[(&str, bool)] = &[
    ("memory", true),
    ("redis", cfg!(feature = "redis")),
    ("rediss", cfg!(feature = "redis-tls")),
    ("postgres", cfg!(feature = "postgres")),
];
/// The schemes of caches, and whether this build has them.
const CACHES: &[(&str, bool)] = &[
    ("memory", true),
    ("log", cfg!(feature = "log")),
    ("redis", cfg!(feature = "redis")),
    ("rediss", cfg!(feature = "redis-tls")),
    ("postgres", cfg!(feature = "postgres")),
];

fn unknown_scheme(address: &Address, contract: &'static str, known: &[(&str, bool)]) -> OpenError {
    let scheme = address.scheme().to_owned();
    let known = known.iter().filter(|(_, is_built)| *is_built);
    let known = known.map(|(scheme, _)| format!("{scheme}:")).collect::<Vec<_>>().join(", ");
    AddressError::UnknownScheme { scheme, contract, known }.into()
}

/// The bounds of a `memory:` spool: bytes and entries.
fn memory_spool_bounds(mut address: Address) -> Result<(u64, u64), AddressError> {
    let bytes = memory_capacity(&mut address)?.unwrap_or(MemorySpool::BYTES_MAX);
    let entries = address.take_count("max_entries")?.unwrap_or(MemorySpool::ENTRIES_MAX);
    address.finish(&["capacity", "max_entries"])?;
    Ok((bytes, entries))
}

/// That a `memory:` address of a bus says nothing else.
fn memory_bus(address: Address) -> Result<(), AddressError> {
    if !address.place().is_empty() {
        let problem = "names no place: write it as memory:";
        return Err(AddressError::BadPlace { scheme: address.scheme().into(), problem });
    }
    address.finish(&[])
}

/// The capacity of a `memory:` address that takes no other parameter.
fn sole_capacity(mut address: Address) -> Result<Option<u64>, AddressError> {
    let capacity = memory_capacity(&mut address)?;
    address.finish(&["capacity"])?;
    Ok(capacity)
}

fn memory_capacity(address: &mut Address) -> Result<Option<u64>, AddressError> {
    if !address.place().is_empty() {
        let problem = "names no place: write it as memory: or memory:?capacity=256MiB";
        return Err(AddressError::BadPlace { scheme: address.scheme().into(), problem });
    }
    address.take_bytes("capacity")
}

#[cfg(feature = "log")]
mod log {
    use std::path::{Path, PathBuf};

    use bytes::Bytes;
    use larder_core::{SharedConsensus, SharedSpool, SharedTier};
    use larder_log::LogOptions;

    use super::OpenError;
    use crate::address::{Address, AddressError};
    use crate::cache::LogCache;
    use crate::consensus::LogConsensus;
    use crate::driver::log as driver;
    use crate::spool::{LogSpool, LogSpoolOptions};

    /// Those of every `log:` address.
    const COMMON: [&str; 10] = [
        "segment",
        "recycle",
        "max_bytes",
        "max_entries",
        "max_payload",
        "sync_interval",
        "min_free_space",
        "min_free_inodes",
        "compact_bytes_per_second",
        "scrub_bytes_per_second",
    ];
    const STORE_DEADLINE: &str = "store_deadline";

    pub(super) async fn open_spool(address: Address) -> Result<SharedSpool, OpenError> {
        let (path, options) = spool_options(address)?;
        blocking(path, move |path| LogSpool::open(path, options)).await.map(SharedSpool::new)
    }

    pub(super) async fn open_cache(uri: &str) -> Result<SharedTier<Bytes>, OpenError> {
        let builder = LogCache::builder(uri)?;
        let path = builder.folder().to_path_buf();
        blocking(path, move |_| builder.open()).await.map(SharedTier::new)
    }

    pub(super) async fn open_consensus(address: Address) -> Result<SharedConsensus, OpenError> {
        let (path, options) = consensus_options(address)?;
        blocking(path, move |path| LogConsensus::open(path, options))
            .await
            .map(SharedConsensus::new)
    }

    pub(super) fn spool_options(
        mut address: Address,
    ) -> Result<(PathBuf, LogSpoolOptions), AddressError> {
        let path = folder(&address)?;
        let mut options = LogSpoolOptions { log: log_options(&mut address)?, ..Default::default() };
        if let Some(deadline) = address.take_duration(STORE_DEADLINE)? {
            options.store_deadline = deadline;
        }
        address.finish(&[&COMMON[..], &[STORE_DEADLINE]].concat())?;
        Ok((path, options))
    }

    pub(super) fn consensus_options(
        mut address: Address,
    ) -> Result<(PathBuf, LogOptions), AddressError> {
        let path = folder(&address)?;
        let options = log_options(&mut address)?;
        address.finish(&COMMON)?;
        Ok((path, options))
    }

    fn folder(address: &Address) -> Result<PathBuf, AddressError> {
        if address.place().is_empty() {
            let problem = "has to name a folder, as in log:./data";
            return Err(AddressError::BadPlace { scheme: "log".into(), problem });
        }
        Ok(PathBuf::from(address.place()))
    }

    fn log_options(address: &mut Address) -> Result<LogOptions, AddressError> {
        let mut options = LogOptions {
            max_bytes: address.take_bytes("max_bytes")?,
            max_entries: address.take_count("max_entries")?,
            ..LogOptions::default()
        };
        if let Some(bytes) = address.take_bytes("segment")? {
            options.segment_bytes = bytes;
        }
        if let Some(bytes) = address.take_bytes("recycle")? {
            options.recycle_bytes = bytes;
        }
        if let Some(bytes) = address.take_bytes("max_payload")? {
            options.max_payload_bytes = bytes;
        }
        if let Some(rate) = address.take_bytes("compact_bytes_per_second")? {
            options.compact_bytes_per_second = rate;
        }
        if let Some(rate) = address.take_bytes("scrub_bytes_per_second")? {
            options.scrub_bytes_per_second = rate;
        }
        if let Some(interval) = address.take_duration("sync_interval")? {
            options.sync_interval = interval;
        }
        options.min_free_space = address.take_free_space("min_free_space")?.unwrap_or_default();
        options.min_free_inodes = address.take_free_count("min_free_inodes")?.unwrap_or_default();
        Ok(options)
    }

    /// Reads the folder on a thread that may block.
    async fn blocking<T: Send + 'static>(
        path: PathBuf,
        open: impl FnOnce(&Path) -> Result<T, OpenError> + Send + 'static,
    ) -> Result<T, OpenError> {
        let place = path.display().to_string();
        let opened = tokio::task::spawn_blocking(move || open(&path)).await;
        opened.unwrap_or_else(|panicked| {
            Err(OpenError::Unavailable { place, source: driver::harmless("open", panicked) })
        })
    }

    #[cfg(test)]
    mod tests {
        use super::*;

        #[test]
        fn rates_of_the_background_are_taken_by_every_log() {
            let uri = "log:./x?compact_bytes_per_second=1MiB&scrub_bytes_per_second=0";
            let (_, spool) = spool_options(uri.parse().unwrap()).unwrap();
            let (_, consensus) = consensus_options(uri.parse().unwrap()).unwrap();
            for log in [spool.log, consensus] {
                assert_eq!(log.compact_bytes_per_second, 1 << 20);
                assert_eq!(log.scrub_bytes_per_second, 0);
            }
        }

        #[test]
        fn unknown_parameter_is_told_all_that_there_are() {
            let uri = "log:./x?store_deadlin=1s";
            let spool = spool_options(uri.parse().unwrap()).unwrap_err().to_string();
            let consensus = consensus_options(uri.parse().unwrap()).unwrap_err().to_string();
            for name in COMMON {
                assert!(spool.contains(name) && consensus.contains(name), "{name}: {consensus}");
            }
            let deadline = format!(", {STORE_DEADLINE}");
            assert!(spool.contains(&deadline) && !consensus.contains(&deadline), "{spool}");
        }
    }
}
