//! What a law is given to work with.

use std::fmt::Display;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use larder_core::clock::random_u64;
use larder_core::error::chain;
use larder_core::{BoxError, Clock, ManualClock, SpoolId, SystemClock, Timestamp};

use crate::{Contract, Harm, Outage, Place, Random, Violation};

/// One law's view of a place: it opens the store, moves its clock and hands out ids and keys that
/// nobody else has.
///
/// Everything random comes from a seed that the report prints, except what keeps the names of two
/// runs apart.
#[derive(Clone, Debug)]
pub struct Stage<S> {
    place: Place<S>,
    seed: u64,
    nonce: u64,
    handed_out: Arc<AtomicU64>,
}

impl<S: Contract> Stage<S> {
    /// A stage on `place`, with all randomness from `seed`.
    pub fn new(place: Place<S>, seed: u64) -> Self {
        Self { place, seed, nonce: random_u64(), handed_out: Arc::default() }
    }

    /// Opens the store, which has to work.
    ///
    /// # Errors
    /// A violation with the error of the backend.
    pub async fn open(&self) -> Result<S, Violation> {
        self.place.open().await.map_err(|error| refused("the place did not open", &*error))
    }

    /// Opens the place without an opinion on whether that works.
    ///
    /// # Errors
    /// The error of the backend.
    pub async fn try_open(&self) -> Result<S, BoxError> {
        self.place.open().await
    }

    /// Closes `store` and opens the place again; `store` has to be the last handle.
    ///
    /// A contract without a call that ends the store gets a moment to let go of the place.
    ///
    /// # Errors
    /// A violation when closing or opening failed.
    pub async fn reopen(&self, store: S) -> Result<S, Violation> {
        store.close().await.map_err(|error| refused("the store did not close", &*error))?;
        let mut patience = if S::ENDS { 0 } else { 100 };
        loop {
            match self.place.open().await {
                Ok(store) => return Ok(store),
                Err(error) if patience == 0 => {
                    return Err(refused("the place did not open again", &*error));
                }
                Err(_) => patience -= 1,
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Closes `store` and opens the place with its gate closed; for laws that need
    /// [`Need::Gate`](crate::Need::Gate).
    ///
    /// # Errors
    /// A violation when closing or opening failed.
    pub async fn reopen_shut(&self, store: S) -> Result<S, Violation> {
        store.close().await.map_err(|error| refused("the store did not close", &*error))?;
        let opened = self.place.open_shut().await;
        opened.map_err(|error| refused("the place did not open with its gate closed", &*error))
    }

    /// Closes `store`, does the place some harm and opens it again; for laws that need
    /// [`Need::Damage`](crate::Need::Damage).
    ///
    /// # Errors
    /// A violation when closing or opening failed.
    pub async fn reopen_harmed(&self, store: S, harm: Harm<'_>) -> Result<S, Violation> {
        store.close().await.map_err(|error| refused("the store did not close", &*error))?;
        self.place.harm(harm).map_err(|error| refused("no harm was done", &*error))?;
        self.open().await
    }

    /// The outage that can come over a part of the store, and the way of another process to that part,
    /// which has none; for laws that need [`Need::Outage`](crate::Need::Outage).
    ///
    /// # Errors
    /// A violation when the place offers an outage but has none.
    pub fn outage(&self) -> Result<(Outage, S), Violation> {
        let outage = self.place.outage().cloned();
        outage.ok_or_else(|| Violation::new("the place offers an outage but has none"))
    }

    pub(crate) const fn seed(&self) -> u64 {
        self.seed
    }

    /// The clock of the store; for laws that need [`Need::Clock`](crate::Need::Clock).
    ///
    /// # Errors
    /// A violation when the place offers a clock but has none.
    pub fn clock(&self) -> Result<&ManualClock, Violation> {
        self.place.clock().ok_or_else(|| Violation::new("the place offers a clock but has none"))
    }

    /// The largest payload that the store takes; for laws that need
    /// [`Need::PayloadLimit`](crate::Need::PayloadLimit).
    ///
    /// # Errors
    /// A violation when the place offers a limit but has none.
    pub fn payload_max(&self) -> Result<u64, Violation> {
        self.place
            .payload_max()
            .ok_or_else(|| Violation::new("the place offers a payload limit but has none"))
    }

    /// The wall-clock time of the store.
    pub fn now(&self) -> Timestamp {
        self.place.clock().map_or_else(|| SystemClock.now(), Clock::now)
    }

    /// The monotonic time of the store, for deadlines.
    pub fn instant(&self) -> Instant {
        self.place.clock().map_or_else(|| SystemClock.instant(), Clock::instant)
    }

    /// Lets `time` pass for the store: moves its clock, or waits.
    pub async fn pass(&self, time: Duration) {
        match self.place.clock() {
            Some(clock) => clock.advance(time),
            None => tokio::time::sleep(time).await,
        }
    }

    /// A generator for this law; every call starts the same sequence.
    pub const fn random(&self) -> Random {
        Random::seeded(self.seed)
    }

    /// A spool id that nobody has used, created now.
    pub fn id(&self) -> SpoolId {
        SpoolId::created_at(self.now())
    }

    /// So many spool ids that nobody has used.
    pub fn ids(&self, count: usize) -> Vec<SpoolId> {
        (0..count).map(|_| self.id()).collect()
    }

    /// A key that nobody has used, with a readable part.
    pub fn key(&self, part: impl Display) -> String {
        let count = self.handed_out.fetch_add(1, Ordering::Relaxed);
        format!("law-{:016x}-{count}-{part}", self.nonce)
    }
}

fn refused(what: &str, error: &(dyn std::error::Error + 'static)) -> Violation {
    Violation::new(format!("{what}: {}", chain(error)))
}
