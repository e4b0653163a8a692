//! What requests share: the open stores, the bounds and the counters.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::cache::Cache;
use larder::compose::{BoundedOffload, Drained};
use larder::consensus::Measured;
use larder::{Clock, SharedConsensus, SharedSpool, Spool, SystemClock};
use tokio::sync::Semaphore;
use tracing::{error, info, warn};

use super::caches;
use super::config::{Config, Limits};
use super::metrics::Metrics;
use crate::exit::Exit;
use crate::stores;

/// One running daemon.
#[derive(Debug)]
pub(crate) struct App {
    pub(crate) limits: Limits,
    pub(crate) caches: BTreeMap<String, Cache<Bytes>>,
    /// Where caches of two tiers let slower calls end.
    offload: BoundedOffload,
    /// Where caches write down what their tiers owe, by address.
    ledgers: BTreeMap<String, SharedSpool>,
    pub(crate) spools: BTreeMap<String, SharedSpool>,
    pub(crate) consensus: SharedConsensus,
    pub(crate) metrics: Metrics,
    /// The memory of bodies on their way in, in KiB.
    pub(crate) bodies: Arc<Semaphore>,
    started: Instant,
    closing: AtomicBool,
    requests: AtomicU64,
}

impl App {
    /// Opens every store of `config`; when one fails those that are open are closed again.
    pub(crate) async fn open(config: Config, metrics: Metrics) -> Result<Self, Exit> {
        let offload = BoundedOffload::default();
        let mut caches = BTreeMap::new();
        let mut ledgers = BTreeMap::new();
        for (name, cache) in config.cache {
            let opened = caches::open(&name.0, &cache, &offload, &mut ledgers).await?;
            caches.insert(name.0, opened);
        }
        let mut spools = BTreeMap::new();
        for (name, spool) in config.spool {
            let uri = spool.l1.map(|uri| uri.0).unwrap_or_default();
            spools.insert(name.0, stores::open_spool(&uri).await?);
        }
        let uri = config.consensus.uri.map(|uri| uri.0).unwrap_or_default();
        let consensus = stores::open_consensus(&uri).await?;
        let consensus = SharedConsensus::new(Measured::new(consensus, "default"));
        let kib = usize::try_from(config.limits.bodies / 1024).unwrap_or(usize::MAX);
        Ok(Self {
            limits: config.limits,
            caches,
            offload,
            ledgers,
            spools,
            consensus,
            metrics,
            bodies: Arc::new(Semaphore::new(kib.min(Semaphore::MAX_PERMITS))),
            started: SystemClock.instant(),
            closing: AtomicBool::new(false),
            requests: AtomicU64::new(0),
        })
    }

    /// Why the daemon should get no traffic; empty when it should.
    pub(crate) fn not_ready(&self) -> Vec<String> {
        let mut reasons = Vec::new();
        if self.closing.load(Ordering::Relaxed) {
            reasons.push("shutting down".to_owned());
        }
        for (name, spool) in &self.spools {
            if let Some(reason) = spool.unhealthy_reason() {
                reasons.push(format!("spool {name}: {reason}"));
            }
        }
        reasons
    }

    /// From now on the daemon is not ready.
    pub(crate) fn begin_to_close(&self) {
        self.closing.store(true, Ordering::Relaxed);
    }

    /// Flushes and closes every store.
    pub(crate) async fn close(&self) -> Result<(), Exit> {
        if let Drained::Aborted { tasks } = self.offload.drain(self.limits.drain).await {
            warn!(tasks, "writes of a second tier were cut off: they did not end in time");
        }
        // All at once: each has a second to say goodbye to other daemons.
        futures_util::future::join_all(self.caches.values().map(Cache::leave)).await;
        let mut result = Ok(());
        let ledgers = self.ledgers.iter().map(|(uri, spool)| (stores::shown(uri), spool));
        let spools = self.spools.iter().map(|(name, spool)| (name.clone(), spool));
        for (name, spool) in ledgers.chain(spools) {
            let closed = tokio::time::timeout(self.limits.drain, spool.shutdown()).await;
            let closed = match closed {
                Ok(closed) => closed.map_err(Exit::from),
                Err(_) => Err(Exit::failed("the last flush did not end in time")),
            };
            if let Err(exit) = closed {
                error!(spool = %name, error = exit.message(), "the spool did not close cleanly");
                result = Err(exit.at(&format!("spool {name}")));
            }
        }
        info!("stopped");
        result
    }

    pub(crate) fn uptime(&self) -> Duration {
        SystemClock.instant().saturating_duration_since(self.started)
    }

    /// The number of a new request: unique in this process, which is all that a log needs.
    pub(crate) fn next_request(&self) -> u64 {
        self.requests.fetch_add(1, Ordering::Relaxed) + 1
    }
}
