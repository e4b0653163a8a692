//! One load of a key at a time among many processes.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use larder_core::{KeyRef, SharedClock, SharedConsensus, SystemClock};
use tokio::time::{sleep, timeout};

use crate::recipes::{Attempt, Held, Lease};

/// Lets one process at a time load a key that several share a tier for; the others wait until its value
/// appears in that tier.
///
/// It saves the loader work and is no lock: whenever the consensus store cannot be asked, or a turn
/// takes longer than [`LoadLease::wait_max`], a process loads without it, which is counted. A holder
/// that dies is taken over after its time and a tenth.
///
/// Keys share 1,024 leases by their hash, so that the store does not grow with the keys. So now and
/// then a load waits for that of another key, and then takes its turn.
///
/// Every process has to use the same store and name.
#[derive(Clone, Debug)]
pub struct LoadLease(Arc<Shared>);

#[derive(Clone, Debug)]
struct Settings {
    store: SharedConsensus,
    name: String,
    ttl: Duration,
    wait_max: Duration,
    clock: SharedClock,
}

#[derive(Debug)]
struct Shared {
    settings: Settings,
    slots: Box<[OnceLock<Lease>]>,
    /// The store could not be asked: it is left alone until then.
    away_until: Mutex<Option<Instant>>,
}

/// What a load that asks for its turn is told.
#[derive(Debug)]
pub(in crate::cache) enum Turn {
    /// It is its turn.
    Mine(Turned),
    /// Somebody else's; ask again after this long, having looked for the value.
    Theirs(Duration),
    /// The store cannot be asked.
    Unreachable,
}

/// A turn to load.
#[derive(Clone, Copy, Debug)]
pub(in crate::cache) struct Turned {
    slot: usize,
    held: Held,
}

impl LoadLease {
    const SLOTS: usize = 1_024;
    /// How long one call of the store may take.
    const CALL_LIMIT: Duration = Duration::from_millis(500);
    /// How long a store that could not be asked is left alone.
    const AWAY_FOR: Duration = Duration::from_secs(1);
    /// How long to wait at most before the tier is looked at again.
    const LOOK_EVERY: Duration = Duration::from_millis(50);

    /// Leases in `store`, whose keys begin with `cache-load/NAME/`. A name is 1 to 900 bytes of text.
    pub fn new(store: SharedConsensus, name: impl Into<String>) -> Self {
        Self::with(Settings {
            store,
            name: name.into(),
            ttl: Duration::from_secs(5),
            wait_max: Duration::from_secs(10),
            clock: SystemClock::shared(),
        })
    }

    /// How long a turn lasts unless it is renewed, which it is for as long as the load runs.
    /// Default: 5 seconds. The shorter, the sooner a dead holder is replaced.
    #[must_use]
    pub fn ttl(self, ttl: Duration) -> Self {
        Self::with(Settings { ttl, ..self.0.settings.clone() })
    }

    /// How long a load waits for its turn or for the value before it goes ahead without; at most half
    /// of its hard timeout. Default: 10 seconds.
    #[must_use]
    pub fn wait_max(self, wait_max: Duration) -> Self {
        Self::with(Settings { wait_max, ..self.0.settings.clone() })
    }

    pub(in crate::cache) fn clocked(&self, clock: SharedClock) -> Self {
        Self::with(Settings { clock, ..self.0.settings.clone() })
    }

    fn with(settings: Settings) -> Self {
        let slots = (0..Self::SLOTS).map(|_| OnceLock::new()).collect();
        Self(Arc::new(Shared { settings, slots, away_until: Mutex::default() }))
    }

    /// How long a load with this hard timeout waits.
    pub(in crate::cache) fn patience(&self, hard_timeout: Duration) -> Duration {
        self.0.settings.wait_max.min(hard_timeout / 2)
    }

    /// Asks for the turn to load `key`.
    pub(in crate::cache) async fn turn(&self, key: KeyRef<'_>) -> Turn {
        let shared = &*self.0;
        let now = || shared.settings.clock.instant();
        if self.away().is_some_and(|until| now() < until) {
            return Turn::Unreachable;
        }
        let hash = rapidhash::v3::rapidhash_v3(key.as_str().as_bytes());
        let slot = usize::try_from(hash % Self::SLOTS as u64).unwrap_or(0);
        let asked = self.lease(slot).acquire(&shared.settings.store);
        match timeout(Self::CALL_LIMIT, asked).await {
            Ok(Ok(Attempt::Held(held))) => Turn::Mine(Turned { slot, held }),
            Ok(Ok(Attempt::Taken { retry_in })) => Turn::Theirs(retry_in.min(Self::LOOK_EVERY)),
            Ok(Err(_)) | Err(_) => {
                *self.away() = Some(now() + Self::AWAY_FOR);
                Turn::Unreachable
            }
        }
    }

    /// Does `work` in its turn, which is renewed meanwhile. A turn that is lost harms nothing.
    pub(in crate::cache) async fn during<T>(
        &self,
        turned: Turned,
        work: impl Future<Output = T>,
    ) -> T {
        let renewing = async {
            let mut held = turned.held;
            loop {
                sleep(self.0.settings.ttl / 3).await;
                let renewed = self.lease(turned.slot).renew(&self.0.settings.store, held);
                match timeout(Self::CALL_LIMIT, renewed).await {
                    Ok(Ok(Some(renewed))) => held = renewed,
                    Ok(Ok(None)) => return std::future::pending().await,
                    Ok(Err(_)) | Err(_) => {}
                }
            }
        };
        tokio::select! {
            biased;
            done = work => done,
            never = renewing => never,
        }
    }

    /// Gives a turn back.
    pub(in crate::cache) async fn give_back(&self, turned: Turned) {
        let released = self.lease(turned.slot).release(&self.0.settings.store, turned.held);
        // Otherwise it ends by itself.
        drop(timeout(Self::CALL_LIMIT, released).await);
    }

    fn lease(&self, slot: usize) -> &Lease {
        let Settings { name, ttl, clock, .. } = &self.0.settings;
        self.0.slots[slot].get_or_init(|| {
            Lease::new(format!("cache-load/{name}/{slot:03x}"), *ttl).with_clock(Arc::clone(clock))
        })
    }

    fn away(&self) -> MutexGuard<'_, Option<Instant>> {
        self.0.away_until.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
