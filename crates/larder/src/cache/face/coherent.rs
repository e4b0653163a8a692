//! A cache in step with the same cache in other processes.

use std::sync::{Arc, Weak};

use bytes::Bytes;
use larder_core::{
    CacheError, Condition, Effect, Failure as _, Key, KeyRef, Now, Repair, RepairListener,
    Tier as _, Version, WriteStatus,
};
use tokio::runtime::Handle;
use tokio::time::timeout;

use super::super::Tagged;
use super::super::coherence::{Change, Coherence, CoherenceStats, Received};
use super::super::load::Flight;
use super::hit::Entry;
use super::{Cache, Inner};

type FlightOf<V> = Arc<Flight<Entry<V>>>;

impl<V: Clone + Send + Sync + 'static> Cache<V> {
    /// What it says to and hears of other processes; `None` without
    /// [`CacheBuilder::coherence`](super::CacheBuilder::coherence).
    pub fn coherence(&self) -> Option<CoherenceStats> {
        self.0.membership.as_ref().map(|membership| membership.coherence.stats())
    }

    /// Tells what is left to be told, and says goodbye to the other processes, so that they need
    /// not wait for this one. For a shutdown: from now on copies live for a short time only.
    ///
    /// Takes at most a second. Dropping the last handle says goodbye as well, but nobody waits for
    /// it then.
    ///
    /// # Cancel safety
    /// When the future is dropped the others may find out by the silence only.
    pub async fn leave(&self) {
        if let Some(membership) = &self.0.membership {
            membership.leave().await;
        }
    }

    /// Speaks and listens, if that was asked for and a runtime is there.
    pub(super) fn keep_up(&self) {
        if let Some(membership) = &self.0.membership {
            let cache = Arc::downgrade(&self.0);
            membership.keep_up(|coherence| listen(cache, coherence));
        }
    }

    /// What the tiers have at hand, as long as they may be believed.
    pub(super) fn read_now(&self, key: KeyRef<'_>) -> Now<Tagged<V>> {
        match &self.0.membership {
            Some(membership) if !membership.coherence.vouches() => Now::Ask,
            _ => self.0.tier.read_now(key),
        }
    }

    /// Lets nothing be read from private layers that may be too old. `false`: they cannot be made
    /// to forget it, and must not be asked.
    pub(super) async fn vouch(&self) -> bool {
        let Some(membership) = &self.0.membership else { return true };
        let coherence = &membership.coherence;
        if coherence.vouches() {
            return true;
        }
        self.keep_up();
        let _turn = coherence.turn.lock().await;
        if coherence.vouches() {
            return true;
        }
        let is_news = coherence.doubt("somebody is silent");
        self.forget_copies(coherence, is_news).await
    }

    /// Notes what is being done to `key`, to be told when it has been done.
    pub(super) fn notice<'a>(
        &'a self,
        key: KeyRef<'a>,
        of: fn(Key, Version) -> Change,
    ) -> Notice<'a, V> {
        Notice { cache: self, key, of, version: None, told: self.0.membership.is_some() }
    }

    /// Tells the other processes of a change.
    pub(super) fn tell(&self, change: impl FnOnce() -> Change) {
        if let Some(membership) = &self.0.membership {
            membership.coherence.tell(change());
            self.keep_up();
        }
    }

    /// Tells the other processes of what the tiers have put right on their own: by then they may have
    /// copies of what was there before.
    pub(super) fn tell_repairs(&self) {
        let cache = Arc::downgrade(&self.0);
        self.0.tier.on_repair(&RepairListener::new(move |repair| {
            let Some(cache) = cache.upgrade().map(Cache) else { return };
            let version = cache.0.versions.next();
            // Not as a put, which spares copies that look newer: what they are copies of was replaced or
            // removed, whatever its version.
            cache.tell(|| match repair {
                Repair::Key(key) => Change::Remove(key.to_key(), version),
                Repair::All => Change::Clear(version),
            });
        }));
    }

    /// Takes in what was heard.
    async fn receive(&self, coherence: &Coherence, frame: Bytes) {
        let Received { changes, missed } = coherence.hear(frame);
        if missed {
            self.renounce(coherence).await;
        }
        for change in changes {
            self.follow(coherence, change).await;
        }
    }

    /// Does to the private layers what another process has done.
    async fn follow(&self, coherence: &Coherence, change: Change) {
        let inner = &*self.0;
        let version = change.version();
        let merged = inner.merge(version);
        if !merged {
            coherence.version_refused();
        }
        // A version from nowhere says nothing about what is older.
        let floor = if merged { version } else { inner.versions.next() };
        match change {
            Change::Put(key, _) if merged => {
                self.forget(key.as_ref(), Condition::IfNewerThan(version), false).await;
            }
            Change::Put(key, _) => self.forget(key.as_ref(), Condition::Always, false).await,
            // Its process may not have heard of the put that made the copy here, so their versions
            // cannot be compared. It is a copy only.
            Change::Remove(key, _) => self.forget(key.as_ref(), Condition::Always, true).await,
            Change::RemoveTag(tag, _) => inner.floors.raise(&tag, floor),
            Change::Clear(_) => {
                inner.floors.raise_all(floor);
                self.renounce(coherence).await;
            }
        }
    }

    /// Forgets the copies of one key, and lets no load that is under way land. One that is landing
    /// is waited for in the background; after a remove it is taken back wherever it has landed.
    async fn forget(&self, key: KeyRef<'_>, condition: Condition, removed: bool) {
        let inner = &*self.0;
        let landing = inner.flights.supersede(key);
        inner.pauses.end(key);
        if inner.tier.forget(key, condition).await.is_err() {
            inner.tally.errors.increment();
            // What cannot be dropped alone goes with all the rest, or nothing is read.
            if let Some(membership) = &inner.membership {
                membership.coherence.revoke();
            }
        }
        self.afterwards(landing, condition, removed);
    }

    /// Forgets all copies at once: something was missed.
    async fn renounce(&self, coherence: &Coherence) {
        let _turn = coherence.turn.lock().await;
        coherence.revoke();
        self.forget_copies(coherence, true).await;
    }

    /// Forgets all copies; with `loads` also what is being loaded. Whether that worked.
    async fn forget_copies(&self, coherence: &Coherence, loads: bool) -> bool {
        let inner = &*self.0;
        let start = coherence.now();
        let landing = if loads { inner.flights.supersede_all() } else { Vec::new() };
        // Tags may have been removed without a word.
        inner.floors.doubt(inner.versions.next());
        let forgotten = inner.tier.forget_all().await;
        coherence.forgot();
        self.afterwards(landing, Condition::Always, true);
        if forgotten.is_ok() {
            coherence.grant(start);
        } else {
            inner.tally.errors.increment();
        }
        forgotten.is_ok()
    }

    /// Undoes what loads are doing that could not be called back.
    fn afterwards(&self, landing: Vec<FlightOf<V>>, condition: Condition, removed: bool) {
        if landing.is_empty() {
            return;
        }
        let Ok(runtime) = Handle::try_current() else { return };
        let cache = self.clone();
        runtime.spawn(async move {
            let tier = &cache.0.tier;
            for flight in landing {
                flight.ended().await;
                let that_one = Condition::IfVersionIs(Some(flight.version()));
                let undone = if removed && tier.conditions().supports(that_one) {
                    tier.remove(flight.key(), that_one).await.map(drop)
                } else {
                    tier.forget(flight.key(), condition).await
                };
                if undone.is_err() {
                    cache.0.tally.errors.increment();
                }
            }
        });
    }
}

/// Listens as long as there is a cache.
async fn listen<V: Clone + Send + Sync + 'static>(
    cache: Weak<Inner<V>>,
    coherence: Arc<Coherence>,
) {
    let upgrade = || cache.upgrade().map(Cache);
    loop {
        let mut subscription = coherence.subscribe().await;
        // What was made before it may be out of date by now.
        let Some(cache) = upgrade() else { return };
        cache.renounce(&coherence).await;
        drop(cache);
        loop {
            let next = timeout(coherence.beat(), subscription.next()).await;
            let Some(cache) = upgrade() else { return };
            match next {
                Ok(Ok(frame)) => cache.receive(&coherence, frame).await,
                Ok(Err(error)) => {
                    coherence.lost(&error);
                    cache.renounce(&coherence).await;
                    break;
                }
                Err(_) => {}
            }
            coherence.renew();
            cache.vouch().await;
        }
    }
}

/// A change that is under way. It is told when this is dropped, unless nothing has happened: so a
/// change whose future is dropped half-way is told as well.
pub(super) struct Notice<'a, V: Clone + Send + Sync + 'static> {
    cache: &'a Cache<V>,
    key: KeyRef<'a>,
    of: fn(Key, Version) -> Change,
    /// The version of what was written; a later one will do as well.
    version: Option<Version>,
    told: bool,
}

impl<V: Clone + Send + Sync + 'static> Notice<'_, V> {
    /// Notes that the key has what was written with this version.
    pub(super) fn wrote(&mut self, status: WriteStatus, version: Option<Version>) {
        self.version = version;
        self.told &= status.applied;
    }

    /// Notes that the change has failed.
    pub(super) fn failed(&mut self, error: &CacheError) {
        self.told &= error.effect() == Effect::Unknown;
    }
}

impl<V: Clone + Send + Sync + 'static> Drop for Notice<'_, V> {
    fn drop(&mut self) {
        if self.told {
            let version = self.version.unwrap_or_else(|| self.cache.0.versions.next());
            self.cache.tell(|| (self.of)(self.key.to_key(), version));
        }
    }
}
