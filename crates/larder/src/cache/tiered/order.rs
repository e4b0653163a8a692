//! The order of what this process does to one key.
//!
//! Every write and remove takes a [`Pass`] with a number. In each layer the calls of one key go
//! through a gate, one at a time, and a call that finds a later one already landed does not land
//! over it: it counts as done and replaced at once. A refill lands only if no write or remove of
//! the key was under way at any time since the read that wants it began.
//!
//! Only keys that something is being done to take memory. Beside them each stripe of keys has an
//! epoch, which every write, remove and clear moves; a stranger in the same stripe costs a refill,
//! never a wrong one.

use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard as StdGuard, PoisonError};

use larder_core::{Key, KeyRef};
use rapidhash::fast::RandomState;
use tokio::sync::{Mutex as Gate, MutexGuard, OwnedMutexGuard, RwLock, RwLockReadGuard};

use crate::compose::CompositionLayer;

const STRIPES: usize = 1024;

/// The order of what one composite does to its keys.
#[derive(Debug)]
pub(super) struct Order {
    next: AtomicU64,
    hasher: RandomState,
    stripes: Box<[Stripe]>,
    /// Held shared by every refill that is landing, so that a clear can wait for them.
    landing: RwLock<()>,
}

#[derive(Debug, Default)]
struct Stripe {
    epoch: AtomicU64,
    lanes: Mutex<HashMap<Key, Entry, RandomState>>,
}

#[derive(Debug, Default)]
struct Entry {
    lane: Arc<Lane>,
    users: usize,
    writers: usize,
}

/// What has landed of one key that is in use.
#[derive(Debug, Default)]
struct Lane {
    l1: Arc<Gate<Landed>>,
    l2: Arc<Gate<Landed>>,
}

/// The numbers of the last calls that have landed in a layer.
#[derive(Debug, Default)]
pub(super) struct Landed {
    /// Of any kind.
    any: u64,
    /// Of those that replace whatever is there. A write that is conditional on its version gives
    /// way to these only: between two such writes the versions decide.
    firm: u64,
    /// Of those that the layer has confirmed, so that what it held before is gone.
    settled: u64,
}

impl Landed {
    /// Whether a later call has landed over which this one must not land.
    pub(super) fn supersedes(&self, number: u64, by_version: bool) -> bool {
        number < if by_version { self.firm } else { self.any }
    }

    /// Whether what the layer held when this call began is gone, by a later call.
    pub(super) const fn is_past(&self, number: u64) -> bool {
        number < self.settled
    }

    /// Notes that a call lands, or may land.
    pub(super) fn note(&mut self, number: u64, by_version: bool) {
        self.any = self.any.max(number);
        if !by_version {
            self.firm = self.firm.max(number);
        }
    }

    /// Notes that a call has landed, and that what was there before is gone.
    pub(super) fn settle(&mut self, number: u64, by_version: bool) {
        self.note(number, by_version);
        self.settled = self.settled.max(number);
    }
}

/// The epoch of a key at the beginning of a read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Token(u64);

impl Order {
    pub(super) fn new() -> Self {
        Self {
            next: AtomicU64::new(1),
            hasher: RandomState::default(),
            stripes: (0..STRIPES).map(|_| Stripe::default()).collect(),
            landing: RwLock::default(),
        }
    }

    /// A number higher than every one before.
    pub(super) fn number(&self) -> u64 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    /// To be taken before a read asks any layer.
    pub(super) fn token(&self, key: KeyRef<'_>) -> Token {
        Token(self.stripe(key).epoch.load(Ordering::SeqCst))
    }

    /// Begins a write or remove of `key`; it ends when the pass is dropped.
    pub(super) fn begin(self: &Arc<Self>, key: KeyRef<'_>) -> Pass {
        let key = key.to_key();
        let stripe = self.stripe(key.as_ref());
        let mut lanes = stripe.lanes();
        let entry = lanes.entry(key.clone()).or_default();
        entry.users += 1;
        entry.writers += 1;
        let lane = Arc::clone(&entry.lane);
        stripe.epoch.fetch_add(1, Ordering::SeqCst);
        // Taken under the lock, so that numbers rise in the order in which passes are given.
        let number = self.number();
        drop(lanes);
        Pass { order: Arc::clone(self), lane, key, number, writes: true }
    }

    /// Leave to change in `layer` what follows from reads since `token` was taken, unless something was
    /// written or removed since then or is under way. Nothing else of this process lands there meanwhile.
    pub(super) async fn land(
        self: &Arc<Self>,
        layer: CompositionLayer,
        key: KeyRef<'_>,
        token: Token,
    ) -> Option<Landing<'_>> {
        let no_clear = self.landing.read().await;
        let pass = self.visit(key, token)?;
        let gate = match layer {
            CompositionLayer::L1 => &pass.lane.l1,
            CompositionLayer::L2 => &pass.lane.l2,
        };
        let gate = Arc::clone(gate).lock_owned().await;
        // Somebody may have begun while the gate was awaited; later ones wait for it.
        if self.token(key).0 != token.0 {
            return None;
        }
        Some(Landing { _gate: gate, pass, _no_clear: no_clear })
    }

    /// A pass that is no write, given only if nothing was written since `token`.
    fn visit(self: &Arc<Self>, key: KeyRef<'_>, token: Token) -> Option<Pass> {
        let stripe = self.stripe(key);
        let mut lanes = stripe.lanes();
        let busy = lanes.get(key.as_str()).is_some_and(|entry| entry.writers > 0);
        if busy || stripe.epoch.load(Ordering::SeqCst) != token.0 {
            return None;
        }
        let key = key.to_key();
        let entry = lanes.entry(key.clone()).or_default();
        entry.users += 1;
        let lane = Arc::clone(&entry.lane);
        drop(lanes);
        Some(Pass { order: Arc::clone(self), lane, key, number: self.number(), writes: false })
    }

    /// Voids the tokens of every read that is under way, and waits for the refills that are
    /// landing now.
    pub(super) async fn void_reads(&self) {
        let _alone = self.landing.write().await;
        for stripe in &self.stripes {
            stripe.epoch.fetch_add(1, Ordering::SeqCst);
        }
    }

    /// The keys that are being written or removed now.
    pub(super) fn writing(&self) -> Vec<Key> {
        let mut keys = Vec::new();
        for stripe in &self.stripes {
            let lanes = stripe.lanes();
            let writing = lanes.iter().filter(|(_, entry)| entry.writers > 0);
            keys.extend(writing.map(|(key, _)| key.clone()));
        }
        keys
    }

    fn stripe(&self, key: KeyRef<'_>) -> &Stripe {
        let hash = self.hasher.hash_one(key.as_str());
        let at = usize::try_from(hash % STRIPES as u64).unwrap_or(0);
        &self.stripes[at]
    }

    /// How many keys take memory, for tests.
    #[cfg(test)]
    fn lanes_in_use(&self) -> usize {
        self.stripes.iter().map(|stripe| stripe.lanes().len()).sum()
    }
}

impl Stripe {
    fn lanes(&self) -> StdGuard<'_, HashMap<Key, Entry, RandomState>> {
        // Nothing under the lock can panic half-way, so a poisoned state is a sound one.
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Leave to land a refill or to pay a debt, as long as it lives.
#[derive(Debug)]
pub(super) struct Landing<'a> {
    // Dropped in this order: the gate opens before the key is given up.
    _gate: OwnedMutexGuard<Landed>,
    pass: Pass,
    _no_clear: RwLockReadGuard<'a, ()>,
}

impl Landing<'_> {
    pub(super) const fn number(&self) -> u64 {
        self.pass.number
    }
}

/// A write, remove or refill of one key that is under way.
#[derive(Debug)]
pub(super) struct Pass {
    order: Arc<Order>,
    lane: Arc<Lane>,
    key: Key,
    number: u64,
    writes: bool,
}

impl Pass {
    pub(super) fn key(&self) -> KeyRef<'_> {
        self.key.as_ref()
    }

    pub(super) const fn number(&self) -> u64 {
        self.number
    }

    /// Waits for the calls of this key to `layer` that came before.
    pub(super) async fn gate(&self, layer: CompositionLayer) -> MutexGuard<'_, Landed> {
        match layer {
            CompositionLayer::L1 => self.lane.l1.lock().await,
            CompositionLayer::L2 => self.lane.l2.lock().await,
        }
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let stripe = self.order.stripe(self.key.as_ref());
        let mut lanes = stripe.lanes();
        if self.writes {
            stripe.epoch.fetch_add(1, Ordering::SeqCst);
        }
        let Some(entry) = lanes.get_mut(self.key.as_str()) else { return };
        entry.users = entry.users.saturating_sub(1);
        if self.writes {
            entry.writers = entry.writers.saturating_sub(1);
        }
        if entry.users == 0 {
            lanes.remove(self.key.as_str());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> KeyRef<'static> {
        KeyRef::new("k").unwrap()
    }

    #[tokio::test]
    async fn a_refill_lands_when_nothing_was_written_since_its_read_began() {
        let order = Arc::new(Order::new());
        drop(order.begin(key()));
        let token = order.token(key());
        assert!(order.land(CompositionLayer::L1, key(), token).await.is_some());
    }

    #[tokio::test]
    async fn a_refill_gives_way_to_a_write_that_began_or_ended_after_its_read_began() {
        let order = Arc::new(Order::new());
        let before = order.token(key());
        let write = order.begin(key());
        let during = order.token(key());
        assert!(order.land(CompositionLayer::L1, key(), before).await.is_none());
        assert!(order.land(CompositionLayer::L1, key(), during).await.is_none());
        drop(write);
        assert!(order.land(CompositionLayer::L1, key(), during).await.is_none());
    }

    #[tokio::test]
    async fn a_write_waits_for_a_refill_that_is_landing() {
        let order = Arc::new(Order::new());
        let token = order.token(key());
        let landing = order.land(CompositionLayer::L1, key(), token).await;
        assert!(landing.is_some());
        let write = order.begin(key());
        let limit = std::time::Duration::from_millis(20);
        let gate = || tokio::time::timeout(limit, write.gate(CompositionLayer::L1));
        assert!(gate().await.is_err());
        drop(landing);
        assert!(gate().await.is_ok());
    }

    #[tokio::test]
    async fn a_refill_that_waits_for_another_gives_way_to_a_write_that_begins_meanwhile() {
        let order = Arc::new(Order::new());
        let token = order.token(key());
        let landing = order.land(CompositionLayer::L1, key(), token).await;
        let waiting = {
            let order = Arc::clone(&order);
            tokio::spawn(
                async move { order.land(CompositionLayer::L1, key(), token).await.is_some() },
            )
        };
        tokio::task::yield_now().await;
        let _write = order.begin(key());
        drop(landing);
        assert!(!waiting.await.unwrap());
    }

    #[tokio::test]
    async fn a_clear_voids_reads_that_are_under_way() {
        let order = Arc::new(Order::new());
        let token = order.token(key());
        order.void_reads().await;
        assert!(order.land(CompositionLayer::L1, key(), token).await.is_none());
    }

    #[tokio::test]
    async fn keys_that_nothing_is_done_to_take_no_memory() {
        let order = Arc::new(Order::new());
        let passes = [order.begin(key()), order.begin(key())];
        assert_eq!((order.lanes_in_use(), order.writing().len()), (1, 1));
        drop(passes);
        let token = order.token(key());
        drop(order.land(CompositionLayer::L1, key(), token).await);
        assert_eq!(order.lanes_in_use(), 0);
    }

    #[test]
    fn versions_decide_between_conditional_writes_and_order_between_all_others() {
        let mut landed = Landed::default();
        landed.note(2, true);
        assert!(landed.supersedes(1, false) && !landed.supersedes(1, true));
        landed.note(3, false);
        assert!(landed.supersedes(2, true) && !landed.supersedes(4, false));
    }
}
