//! One layer of a tiered cache, and the calls that policies make to it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use larder_core::{
    CacheError, CacheValue, Condition, DeleteStatus, Effect, Failure, Found, KeyRef, SharedClock,
    Tier, WriteStatus,
};
use tokio::sync::MutexGuard;

use super::debts::{Debts, Loss, Owed};
use super::order::{Landed, Order, Pass};
use super::tally::LayerTally;
use crate::compose::{CompositionLayer, LayerCall};

/// A layer with what it owes.
#[derive(Debug)]
pub(super) struct Layer<L> {
    pub(super) tier: L,
    pub(super) which: CompositionLayer,
    pub(super) debts: Arc<Debts>,
    pub(super) tally: LayerTally,
    /// How long a copy may live here at most.
    pub(super) ttl_max: Option<Duration>,
}

impl<L> Layer<L> {
    /// A hit of this layer as the composite's caller sees it.
    #[inline]
    pub(super) fn above<V>(&self, found: Found<V>) -> Found<V> {
        let second = self.which == CompositionLayer::L2;
        Found { source: found.source.below(second), value: found.value }
    }

    /// Whether reads fill this layer from the other one.
    pub(super) fn fills_itself(&self) -> bool {
        self.which == CompositionLayer::L1
    }

    /// The copy that this layer may keep.
    pub(super) fn capped<V>(&self, mut value: CacheValue<V>, clock: &SharedClock) -> CacheValue<V> {
        if let Some(ttl_max) = self.ttl_max {
            let cap = clock.now().saturating_add(ttl_max);
            value.expire = Some(value.expire.map_or(cap, |expire| expire.min(cap)));
        }
        value
    }
}

/// A read of one layer.
pub(super) struct ReadCall<'a, L, V> {
    pub(super) layer: &'a Arc<Layer<L>>,
    pub(super) key: KeyRef<'a>,
    pub(super) known: Known<V>,
}

/// What is known of a layer before it is asked.
pub(super) enum Known<V> {
    /// Nothing: ask it.
    Ask,
    /// Its answer.
    Said(Option<Found<V>>),
}

impl<V, L> LayerCall<Option<Found<V>>, CacheError> for ReadCall<'_, L, V>
where
    V: Clone + Send + Sync + 'static,
    L: Tier<V>,
{
    async fn call(&self) -> Result<Option<Found<V>>, CacheError> {
        match &self.known {
            Known::Said(said) => Ok(said.clone()),
            Known::Ask => {
                let found = self.layer.tier.read(self.key).await;
                self.layer.tally.heard(&found);
                Ok(found?.map(|found| self.layer.above(found)))
            }
        }
    }

    fn call_owned(
        &self,
    ) -> impl Future<Output = Result<Option<Found<V>>, CacheError>> + Send + 'static {
        let (layer, key) = (Arc::clone(self.layer), self.key.to_key());
        let known = match &self.known {
            Known::Ask => Known::Ask,
            Known::Said(said) => Known::Said(said.clone()),
        };
        async move { ReadCall { layer: &layer, key: key.as_ref(), known }.call().await }
    }
}

/// What is to be done to a key.
#[derive(Clone)]
pub(super) enum Change<V> {
    Write(CacheValue<V>),
    Remove,
}

impl<V> Change<V> {
    /// Whether the versions decide against other writes, and not the order in this process.
    pub(super) const fn goes_by_version(&self, condition: Condition) -> bool {
        matches!(self, Self::Write(_)) && matches!(condition, Condition::IfNewerThan(_))
    }

    pub(super) const fn not_applied(&self) -> Answer {
        match self {
            Self::Write(_) => Answer::Written(WriteStatus::NOT_NEWER),
            Self::Remove => Answer::Removed(DeleteStatus::Missing),
        }
    }
}

/// A write or remove of one layer.
pub(super) struct ChangeCall<'a, L, V> {
    pub(super) layer: &'a Arc<Layer<L>>,
    pub(super) ticket: &'a Arc<Ticket>,
    pub(super) change: Change<V>,
    pub(super) condition: Condition,
}

impl<V, L> LayerCall<Answer, CacheError> for ChangeCall<'_, L, V>
where
    V: Clone + Send + Sync + 'static,
    L: Tier<V>,
{
    async fn call(&self) -> Result<Answer, CacheError> {
        self.ticket.land(self.layer, self.change.clone(), self.condition).await
    }

    fn call_owned(&self) -> impl Future<Output = Result<Answer, CacheError>> + Send + 'static {
        let (layer, ticket) = (Arc::clone(self.layer), Arc::clone(self.ticket));
        let (change, condition) = (self.change.clone(), self.condition);
        async move { ticket.land(&layer, change, condition).await }
    }
}

/// What a layer says to a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Answer {
    Written(WriteStatus),
    Removed(DeleteStatus),
    /// A later change of the key was there first.
    Superseded,
    /// The layer has missed a newer version, so it takes no older one and has no say.
    Owing,
}

impl Answer {
    /// Whether the value was written. A superseded write was, and replaced at once.
    pub(super) const fn applied(self) -> bool {
        match self {
            Self::Written(status) => status.applied,
            Self::Removed(_) | Self::Superseded => true,
            Self::Owing => false,
        }
    }

    pub(super) const fn deleted(self) -> DeleteStatus {
        match self {
            Self::Removed(status) => status,
            Self::Written(_) | Self::Superseded | Self::Owing => DeleteStatus::Missing,
        }
    }

    /// Whether what the layer held before is certainly gone.
    const fn settles(self, condition: Condition) -> bool {
        match self {
            Self::Written(status) => status.applied,
            Self::Removed(DeleteStatus::Deleted(_)) => true,
            Self::Removed(DeleteStatus::Missing) => matches!(condition, Condition::Always),
            Self::Superseded | Self::Owing => false,
        }
    }
}

/// A change that is under way in both layers. It is over when its last call is: then what a layer
/// has missed becomes a debt.
#[derive(Debug)]
pub(super) struct Ticket {
    pass: Pass,
    /// What a layer lacks that does not make it.
    loss: Loss,
    clock: SharedClock,
    l1: Fate,
    l2: Fate,
}

/// What became of a change in one layer.
#[derive(Debug)]
struct Fate {
    state: AtomicU8,
    debts: Arc<Debts>,
}

/// Not asked.
const UNTOUCHED: u8 = 0;
/// Asked, with no answer yet; for ever, when the call was dropped.
const UNDER_WAY: u8 = 1;
/// It failed, and nothing has changed.
const REFUSED: u8 = 2;
/// It failed, and nobody knows what has changed.
const UNKNOWN: u8 = 3;
/// It confirmed, and what it held before may still be there.
const CONFIRMED: u8 = 4;
/// It confirmed, and what it held before is gone.
const SETTLED: u8 = 5;
/// It was left as it is, owing something newer.
const STAYS_OUT: u8 = 6;

impl Ticket {
    pub(super) fn new(
        order: &Arc<Order>,
        key: KeyRef<'_>,
        loss: Loss,
        clock: &SharedClock,
        [l1, l2]: [&Arc<Debts>; 2],
    ) -> Arc<Self> {
        let fate =
            |debts: &Arc<Debts>| Fate { state: AtomicU8::new(UNTOUCHED), debts: Arc::clone(debts) };
        let clock = Arc::clone(clock);
        Arc::new(Self { pass: order.begin(key), loss, clock, l1: fate(l1), l2: fate(l2) })
    }

    /// Makes the change in `layer`, unless a later one was there first.
    async fn land<V, L: Tier<V>>(
        &self,
        layer: &Layer<L>,
        change: Change<V>,
        condition: Condition,
    ) -> Result<Answer, CacheError> {
        let by_version = change.goes_by_version(condition);
        let mut landed = self.enter(layer.which).await;
        let otherwise = change.not_applied();
        let condition = match self.admit(layer.which, &mut landed, by_version, condition, otherwise)
        {
            Ok(condition) => condition,
            Err(answer) => return Ok(answer),
        };
        let key = self.pass.key();
        let answer = match change {
            Change::Write(value) => {
                let value = layer.capped(value, &self.clock);
                layer.tier.write(key, value, condition).await.map(Answer::Written)
            }
            Change::Remove => layer.tier.remove(key, condition).await.map(Answer::Removed),
        };
        let said = answer.as_ref().copied().map_err(Failure::effect);
        self.conclude(layer.which, &mut landed, by_version, condition, said);
        answer
    }

    /// Waits for the turn of this change in a layer.
    pub(super) async fn enter(&self, which: CompositionLayer) -> MutexGuard<'_, Landed> {
        self.fate(which).set(UNDER_WAY);
        self.pass.gate(which).await
    }

    /// The condition that the layer has to decide, now that it is this change's turn; or the answer,
    /// when the layer need not be asked.
    pub(super) fn admit(
        &self,
        which: CompositionLayer,
        landed: &mut Landed,
        by_version: bool,
        condition: Condition,
        not_applied: Answer,
    ) -> Result<Condition, Answer> {
        let (fate, key, number) = (self.fate(which), self.pass.key(), self.pass.number());
        if landed.supersedes(number, by_version) {
            if landed.is_past(number) {
                fate.set(SETTLED);
                fate.debts.pay(key, number);
            } else {
                fate.set(CONFIRMED);
            }
            return Err(Answer::Superseded);
        }
        let condition = match condition {
            Condition::IfNewerThan(version) => {
                match fate.debts.owed(key, version, self.clock.now()) {
                    Owed::Nothing => condition,
                    Owed::Void(Some(void)) => Condition::IfNewerThan(version.max(void)),
                    Owed::Void(None) => Condition::Always,
                    Owed::Newer => {
                        fate.set(STAYS_OUT);
                        return Err(Answer::Owing);
                    }
                }
            }
            Condition::IfVersionIs(_) if fate.debts.owes(key) => {
                fate.set(CONFIRMED);
                return Err(not_applied);
            }
            condition => condition,
        };
        if !by_version {
            // Before the call: once it is made it may land, also when this future is dropped.
            landed.note(number, by_version);
        }
        Ok(condition)
    }

    /// Notes what the layer has said to the change, or the effect of its failure.
    pub(super) fn conclude(
        &self,
        which: CompositionLayer,
        landed: &mut Landed,
        by_version: bool,
        condition: Condition,
        said: Result<Answer, Effect>,
    ) {
        let (fate, number) = (self.fate(which), self.pass.number());
        match said {
            Ok(answer) if answer.settles(condition) => {
                landed.settle(number, by_version);
                fate.set(SETTLED);
                fate.debts.pay(self.pass.key(), number);
            }
            Ok(_) => fate.set(CONFIRMED),
            Err(Effect::NotApplied) => fate.set(REFUSED),
            Err(Effect::Unknown) => fate.set(UNKNOWN),
        }
    }

    pub(super) fn key(&self) -> KeyRef<'_> {
        self.pass.key()
    }

    pub(super) const fn clock(&self) -> &SharedClock {
        &self.clock
    }

    /// Notes that `layer` does not hold what the other one does.
    pub(super) fn owe(&self, layer: CompositionLayer) {
        self.owe_for(layer, self.loss);
    }

    /// Notes that `layer` has made a change that it should not have made.
    pub(super) fn owe_undoing(&self, layer: CompositionLayer) {
        self.owe_for(layer, self.loss.with_the_change());
    }

    fn owe_for(&self, layer: CompositionLayer, loss: Loss) {
        let now = || self.clock.instant();
        self.fate(layer).debts.owe(self.pass.key(), self.pass.number(), loss, now);
    }

    /// Lets `layer` count as not holding the key until its call in the background has ended well.
    pub(super) fn goes_on(&self, layer: CompositionLayer) {
        self.owe(layer);
        // It may have ended before this note, and then pays no more.
        if self.fate(layer).get() == SETTLED {
            self.fate(layer).debts.pay(self.pass.key(), self.pass.number());
        }
    }

    const fn fate(&self, layer: CompositionLayer) -> &Fate {
        match layer {
            CompositionLayer::L1 => &self.l1,
            CompositionLayer::L2 => &self.l2,
        }
    }
}

impl Drop for Ticket {
    fn drop(&mut self) {
        for layer in [CompositionLayer::L1, CompositionLayer::L2] {
            let other = self.fate(layer.other()).get();
            let missed = match self.fate(layer).get() {
                UNDER_WAY | UNKNOWN => true,
                UNTOUCHED | REFUSED => matches!(other, CONFIRMED | SETTLED),
                _ => false,
            };
            if missed {
                self.owe(layer);
            }
        }
    }
}

impl Fate {
    fn set(&self, state: u8) {
        self.state.store(state, Ordering::SeqCst);
    }

    fn get(&self) -> u8 {
        self.state.load(Ordering::SeqCst)
    }
}

#[cfg(test)]
mod tests;
