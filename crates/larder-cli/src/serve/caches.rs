//! From the config of a cache to a cache.

use std::collections::BTreeMap;

use bytes::Bytes;
use larder::cache::{
    Cache, CoherenceOptions, DebtLedger, Encoded, Guarded, RawCodec, Schema, Tagged, TaggedCodec,
    Tiered,
};
use larder::compose::BoundedOffload;
use larder::{Address, SharedSpool, SharedTier, Tier, Topic};

use super::config::CacheConfig;
use crate::exit::Exit;
use crate::stores;

/// The version of what the daemon writes into tiers of bytes.
const RECORD: u32 = 1;

/// Opens the cache `name`: one tier, or two that are joined by the policies of its config.
///
/// What two tiers leave to the background runs on `offload`; what they owe is in one of `spools`, by
/// address, which is opened if it is not there.
pub(crate) async fn open(
    name: &str,
    config: &CacheConfig,
    offload: &BoundedOffload,
    spools: &mut BTreeMap<String, SharedSpool>,
) -> Result<Cache<Bytes>, Exit> {
    let l1 = config.l1.as_ref().map(|uri| uri.0.as_str()).unwrap_or_default();
    let near = tier(name, l1, config).await?;
    let tier = match &config.l2 {
        None => near,
        Some(l2) => {
            let mut tiered = Tiered::builder(near, tier(name, &l2.0, config).await?)
                .label(name)
                .offload(offload.clone())
                .read(config.read)
                .write(config.write)
                .refill(config.refill.0);
            if let Some(ttl_max) = config.l1_ttl_max {
                tiered = tiered.l1_ttl_max(ttl_max);
            }
            if let Some(debts) = &config.debts {
                let opened = ledger(name, &debts.0, spools).await;
                tiered = tiered.debts(opened.map_err(|exit| exit.at(&debts_of(name)))?);
            }
            SharedTier::new(tiered.build())
        }
    };
    let mut cache = Cache::builder(tier).name(name);
    if let Some(bus) = &config.bus {
        let topic =
            Topic::new(name).map_err(|error| Exit::usage(format!("cache {name}: {error}")))?;
        let mut options = CoherenceOptions::new(larder::registry::attach_bus(&bus.0)?, topic);
        if let Some(staleness) = config.bus_staleness {
            options = options.staleness_max(staleness);
        }
        cache = cache.coherence(options);
    }
    Ok(cache.build())
}

/// Where the debts of a cache are configured.
pub(crate) fn debts_of(name: &str) -> String {
    format!("cache.{name}.debts")
}

/// What the cache `name` owes, in the spool at `uri`.
async fn ledger(
    name: &str,
    uri: &str,
    spools: &mut BTreeMap<String, SharedSpool>,
) -> Result<DebtLedger, Exit> {
    if !spools.contains_key(uri) {
        spools.insert(uri.to_owned(), stores::open_spool(uri).await?);
    }
    let spool = spools.get(uri).cloned().ok_or_else(|| Exit::failed("the spool is gone"))?;
    DebtLedger::open(spool, name).await.map_err(Exit::from)
}

/// A tier of the cache `name`; behind a network with a circuit breaker. A server that cannot be reached now is not waited for: the daemon
/// starts and serves without it, as it does when the server goes away later.
async fn tier(
    name: &str,
    uri: &str,
    config: &CacheConfig,
) -> Result<SharedTier<Tagged<Bytes>>, Exit> {
    if let Some(typed) = larder::registry::open_typed_cache(uri)? {
        return Ok(typed);
    }
    let schema = Schema::new(name, "larder.tagged-bytes", RECORD)
        .map_err(|error| Exit::usage(format!("cache {name}: {error}")))?;
    let store = match uri.parse::<Address>()?.scheme() {
        // It reads its folder, which may take a while.
        "log" => stores::open_cache(uri).await?,
        _ => larder::registry::attach_cache(uri)?,
    };
    let mut records = Encoded::new(store, TaggedCodec(RawCodec), config.compress, schema);
    if let Some(bytes) = config.compress_from {
        records = records.compress_from(usize::try_from(bytes).unwrap_or(usize::MAX));
    }
    let options = larder::registry::guard_options(uri)?.filter(|_| config.breaker);
    let Some(options) = options else { return Ok(SharedTier::new(records)) };
    let options = options.pause(config.breaker_pause).pause_max(config.breaker_pause_max);
    // Two caches may have tiers of the same label: their breakers must not share a gauge.
    let label = format!("{name}.{}", Tier::<Tagged<Bytes>>::label(&records));
    Ok(SharedTier::new(Guarded::builder(records).options(options).label(label).build()))
}
