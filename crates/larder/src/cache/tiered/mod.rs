//! Two cache tiers as one.

use std::fmt;
use std::marker::PhantomData;
use std::sync::Arc;

use futures_util::future::join;
use larder_core::{
    Age, BackendError, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability,
    Failure as _, Found, Key, KeyRef, Now, RepairListener, SharedClock, Source, Tier, TierStats,
    TierUsage, WriteStatus,
};
use metrics::Counter;

mod batch;
mod builder;
mod debts;
mod forget;
mod layer;
mod ledger;
mod many;
mod order;
mod payer;
mod repairs;
mod tally;
mod write;

pub use builder::TieredBuilder;
pub use debts::DebtStats;
use debts::{Due, Loss};
use layer::{Answer, Change, ChangeCall, Known, Layer, ReadCall, Ticket};
pub use ledger::{DebtLedger, LedgerError};
use order::{Order, Token};
use payer::{Attendance, Desk, Payer};
use repairs::Repairs;
use write::{conclude, done, states};

use crate::compose::{
    AnyOffload, CompositionError, CompositionLayer, CompositionReadPolicy, CompositionWritePolicy,
    Counted, LayerOutcome, Observer, OnLayerError, OptimisticParallelWritePolicy, Outcome,
    ReadRequest, ReadResult, RefillPolicy, SequentialReadPolicy, WriteRequest, remove_both,
};

/// A near and a far cache tier as one tier, joined by policies.
///
/// It is a tier itself, so tiers nest: `Tiered<L1, Tiered<L2, L3>>`. Nothing is lost on the way:
/// every copy keeps the version, the absolute expiry and the stale time of its value, and
/// [`Found::source`] leads down to the leaf that answered. All of that holds behind
/// [`SharedTier`](larder_core::SharedTier) as well.
///
/// # Order in this process
/// - In each layer the writes and removes of one key land in the order in which they began, and a
///   late one (the loser of a race) never lands over a newer one.
/// - A refill lands only if nothing was written to or removed from its key since its read began.
/// - Across processes the condition of a write decides, if both layers support it.
///
/// # What a layer has missed
/// A layer whose part of a write or remove failed, was not tried or was cut off counts as not
/// holding the key until it confirms a later one (the gauge `larder_cache_owed_keys` shows how many
/// such keys there are). So a removed value does not come back, and an old one does not return when
/// the layer recovers.
///
/// What is owed is paid in the background when the layer answers again, whether anybody asks for the
/// key or not: L2 gets what L1 holds by then, unless it has something as new or newer; where L1 holds
/// nothing, or the write had no version, and in L1, the key is removed, and fetched by the next read.
/// Until the layer answers it is tried after 50 ms, then after twice as long each time, up to 5 s. At most
/// 128 keys are paid in 50 ms. Without a tokio runtime, or with a disabled offload, debts are paid by
/// later writes alone. What is owed goes with the process, unless a [`DebtLedger`] keeps it
/// ([`TieredBuilder::debts`]).
///
/// The memory for that is bounded: beyond 16,384 keys the layer as a whole counts as empty, and is
/// cleared in the background once it answers. [`Tiered::debts`] and `larder_cache_debts_total` (labels
/// `composition`, `layer` and `outcome`: `made`, `paid`, `dropped`) count.
///
/// # Guarantees
/// - durability: with a write policy that needs both layers the better of the two, otherwise the
///   worse one;
/// - conditions: those that both layers can decide;
/// - metrics: those of [`Observer`], `larder_cache_layer_misses_total` with the labels `composition` and
///   `layer`, and `larder_cache_refills_total` with the labels `composition`
///   and `outcome` (`done`, `not-newer`, `superseded`, `failed`).
///
/// # Cancel safety
/// A write or remove that is dropped leaves both layers either agreeing or counted as not holding
/// the key.
///
/// ```
/// use larder::cache::{MemoryCache, Tiered};
/// use larder_core::{CacheValue, Condition, KeyRef, Tier};
/// use bytes::Bytes;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let near: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).label("near").build();
/// let far: MemoryCache<Bytes> = MemoryCache::builder(64 << 20).label("far").build();
/// let both = Tiered::builder(near, far).label("both").build();
/// let key = KeyRef::new("k")?;
/// both.write(key, CacheValue::new(Bytes::from("v")), Condition::Always).await?;
/// let found = both.read(key).await?.expect("it was just written");
/// assert_eq!(both.describe(found.source), "both.near");
/// # Ok(()) }
/// ```
pub struct Tiered<L1, L2, R = SequentialReadPolicy, W = OptimisticParallelWritePolicy> {
    l1: Arc<Layer<L1>>,
    l2: Arc<Layer<L2>>,
    read: R,
    write: W,
    refill: RefillPolicy,
    on_layer_error: OnLayerError,
    clock: SharedClock,
    offload: AnyOffload,
    order: Arc<Order>,
    observer: Observer,
    refills: RefillCounters,
    attendance: Attendance,
    repairs: Arc<Repairs>,
}

struct RefillCounters {
    done: Counter,
    not_newer: Counter,
    superseded: Counter,
    failed: Counter,
}

impl<L1, L2> Tiered<L1, L2> {
    /// A tiered cache of a near and a far layer, to be refined.
    pub fn builder(l1: L1, l2: L2) -> TieredBuilder<L1, L2> {
        TieredBuilder::new(l1, l2)
    }
}

impl<L1, L2, R, W> Tiered<L1, L2, R, W> {
    /// What the two layers have missed.
    pub fn debts(&self) -> [DebtStats; 2] {
        [self.l1.debts.stats(), self.l2.debts.stats()]
    }

    /// Removes `key`, and tells what became of each layer.
    ///
    /// # Errors
    /// As [`Tier::remove`], with the errors of the layers.
    ///
    /// # Cancel safety
    /// As [`Tiered`].
    pub async fn remove_outcome<V>(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<Outcome<CacheError, DeleteStatus>, CompositionError<CacheError>>
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
        W: CompositionWritePolicy,
    {
        self.settle::<V>().await;
        let removed = {
            let ticket = self.ticket(key, Loss::of_remove(condition, self.clock.now()));
            remove_both(
                &self.write,
                self.write_request(&key),
                ChangeCall { layer: &self.l1, ticket: &ticket, change: Change::Remove, condition },
                ChangeCall { layer: &self.l2, ticket: &ticket, change: Change::Remove, condition },
            )
            .await
        };
        self.write_down().await;
        let outcome = removed?;
        Ok(Outcome { l1: deleted(outcome.l1), l2: deleted(outcome.l2) })
    }

    /// A change of `key`; `loss` is what a layer lacks that does not make it.
    fn ticket(&self, key: KeyRef<'_>, loss: Loss) -> Arc<Ticket> {
        Ticket::new(&self.order, key, loss, &self.clock, [&self.l1.debts, &self.l2.debts])
    }

    fn write_request<'a, 'k>(
        &'a self,
        key: &'a KeyRef<'k>,
    ) -> WriteRequest<'a, KeyRef<'k>, AnyOffload> {
        WriteRequest {
            key,
            counted: Counted::Both,
            offload: &self.offload,
            observer: &self.observer,
        }
    }

    fn read_request<'a, 'k>(
        &'a self,
        key: &'a KeyRef<'k>,
    ) -> ReadRequest<'a, KeyRef<'k>, AnyOffload> {
        ReadRequest {
            key,
            clock: &*self.clock,
            on_layer_error: self.on_layer_error,
            offload: &self.offload,
            observer: &self.observer,
        }
    }

    /// A hit that L1 has at hand, if that decides; or what else is known of L1 without waiting.
    #[inline]
    fn near_now<V>(&self, key: KeyRef<'_>) -> Result<Found<V>, Known<V>>
    where
        L1: Tier<V>,
        R: CompositionReadPolicy,
    {
        if self.l1.debts.owes(key) {
            return Err(Known::Said(None));
        }
        match self.l1.tier.read_now(key) {
            Now::Hit(found) => {
                let decides = self.l1_decides(&found.value);
                let found = self.l1.above(found);
                if decides { Ok(found) } else { Err(Known::Said(Some(found))) }
            }
            Now::Miss => Err(Known::Said(None)),
            Now::Ask => Err(Known::Ask),
        }
    }

    /// A hit of L1 that comes from a second layer inside of it.
    #[cold]
    fn above<V>(&self, now: Now<V>) -> Now<V> {
        match now {
            Now::Hit(found) => Now::Hit(self.l1.above(found)),
            other => other,
        }
    }

    /// Whether a hit of L1 is the answer, without a look at L2.
    fn l1_decides<V>(&self, value: &CacheValue<V>) -> bool
    where
        R: CompositionReadPolicy,
    {
        let stale = value.stale.is_some_and(|stale| self.clock.is_past(stale));
        self.read.l1_hit_decides(stale)
    }

    /// What is known of L2 before it is asked.
    fn far_known<V>(&self, key: KeyRef<'_>) -> Known<V> {
        if self.l2.debts.owes(key) { Known::Said(None) } else { Known::Ask }
    }

    /// Copies what L2 gave into L1. Its failure is counted and changes nothing for the caller.
    async fn fill<V>(&self, key: KeyRef<'_>, token: Token, value: &CacheValue<V>)
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
    {
        if value.age(&*self.clock) == Age::Expired {
            return;
        }
        let value = self.l1.capped(value.clone(), &self.clock);
        let condition = match value.version {
            // What an owing layer holds does not count, however new it looks.
            Some(version)
                if self.l1.tier.conditions().if_newer_than && !self.l1.debts.owes(key) =>
            {
                Condition::IfNewerThan(version)
            }
            _ => Condition::Always,
        };
        let Some(landing) = self.order.land(CompositionLayer::L1, key, token).await else {
            self.refills.superseded.increment(1);
            return;
        };
        match self.l1.tier.write(key, value, condition).await {
            Ok(WriteStatus { applied: true, .. }) => {
                self.l1.debts.pay(key, landing.number());
                self.l1.tally.refilled();
                self.refills.done.increment(1);
            }
            Ok(_) => self.refills.not_newer.increment(1),
            Err(error) => {
                self.refills.failed.increment(1);
                tracing::debug!(
                    target: "larder::cache",
                    composition = self.observer.name(),
                    error = larder_core::error::chain(&error),
                    "a refill failed"
                );
            }
        }
    }

    /// Writes down what layers have come to owe, and what was paid; both at once, under one limit.
    async fn write_down(&self) {
        join(self.l1.debts.write_down(), self.l2.debts.write_down()).await;
    }

    /// Sees to it that somebody pays in the background what layers come to owe, unless there is no
    /// background. Whether somebody does.
    fn attend<V>(&self) -> bool
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
    {
        let alarm = &self.attendance.0;
        if alarm.is_attended() {
            return true;
        }
        let payer = Payer::<L1, L2, V> {
            alarm: Arc::clone(alarm),
            l1: Arc::downgrade(&self.l1),
            l2: Arc::downgrade(&self.l2),
            order: Arc::clone(&self.order),
            clock: Arc::clone(&self.clock),
            offload: self.offload.clone(),
            values: PhantomData,
        };
        payer.attend();
        alarm.is_attended()
    }

    /// As [`Tiered::attend`]. Where there is no background, a layer that counts as empty as a whole is
    /// cleared here, at most once a second.
    async fn settle<V>(&self)
    where
        V: Clone + Send + Sync + 'static,
        L1: Tier<V>,
        L2: Tier<V>,
    {
        if !self.attend::<V>() {
            let desk = Desk::new(&self.order, &self.clock);
            desk.clear(&self.l1).await;
            desk.clear(&self.l2).await;
        }
    }
}

impl<V, L1, L2, R, W> Tier<V> for Tiered<L1, L2, R, W>
where
    V: Clone + Send + Sync + 'static,
    L1: Tier<V>,
    L2: Tier<V>,
    R: CompositionReadPolicy,
    W: CompositionWritePolicy,
{
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<V>>, CacheError> {
        let near = match self.near_now(key) {
            Ok(found) => return Ok(Some(found)),
            Err(known) => known,
        };
        if matches!(near, Known::Said(None)) {
            self.l1.tally.missed();
        }
        let token = self.order.token(key);
        let read = self
            .read
            .execute_with(
                self.read_request(&key),
                ReadCall { layer: &self.l1, key, known: near },
                ReadCall { layer: &self.l2, key, known: self.far_known(key) },
            )
            .await
            .map_err(|error| failure("read", error))?;
        if self.refill.wants(&read)
            && let Some(found) = &read.value
        {
            self.fill(key, token, &found.value).await;
        }
        Ok(read.value)
    }

    #[inline]
    fn read_now(&self, key: KeyRef<'_>) -> Now<V> {
        // As `near_now`, which would copy the value more often.
        if self.l1.debts.owes(key) {
            return Now::Ask;
        }
        let now = self.l1.tier.read_now(key);
        match &now {
            Now::Hit(found) if !self.l1_decides(&found.value) => Now::Ask,
            Now::Hit(found) if found.source != Source::HERE => self.above(now),
            Now::Hit(_) => now,
            Now::Miss | Now::Ask => Now::Ask,
        }
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<V>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        self.supports::<V>(condition)?;
        self.settle::<V>().await;
        let written = {
            let loss = Loss::of_write(&value, condition, self.clock.now());
            let ticket = self.ticket(key, loss);
            let (change, l2) = (Change::Write(value), &self.l2);
            let l1 =
                ChangeCall { layer: &self.l1, ticket: &ticket, change: change.clone(), condition };
            let l2 = ChangeCall { layer: l2, ticket: &ticket, change, condition };
            self.write_both(key, condition, l1, l2).await.map(|outcome| {
                let answers = [done(&outcome.l1).copied(), done(&outcome.l2).copied()];
                conclude(&ticket, condition, answers, states(&outcome))
            })
        };
        self.write_down().await;
        written
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        self.supports::<V>(condition)?;
        let removed = self.remove_outcome::<V>(key, condition).await;
        removed.map(|outcome| outcome.deleted()).map_err(|error| failure("remove", error))
    }

    async fn read_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Found<V>>>, CacheError> {
        self.find_many(keys).await
    }

    /// One call to each layer; each entry in its order among the writes of its key.
    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let written = self.put_many(entries, condition).await;
        self.write_down().await;
        written
    }

    /// One call to each layer; each key in its order among the writes of its key.
    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        let removed = self.drop_many(keys, condition).await;
        self.write_down().await;
        removed
    }

    /// Clears both layers at once.
    ///
    /// A layer that fails is an error, and counts as empty here until it was cleared. A write that
    /// is under way meanwhile may be lost.
    async fn clear(&self) -> Result<(), CacheError> {
        self.settle::<V>().await;
        self.order.void_reads().await;
        let (writing, number) = (self.order.writing(), self.order.number());
        let everything = Loss::everything(self.clock.now());
        let (l1, l2) = join(self.l1.tier.clear(), self.l2.tier.clear()).await;
        for (debts, cleared) in [(&self.l1.debts, &l1), (&self.l2.debts, &l2)] {
            match cleared {
                Ok(()) => debts.pay_all(number),
                Err(_) => debts.owe_all(number, Due::Remove, self.clock.instant()),
            }
            // Whatever lands late of them began before this clear.
            for key in &writing {
                debts.owe(key.as_ref(), number, everything, || self.clock.instant());
            }
        }
        self.order.void_reads().await;
        self.write_down().await;
        let error = match (l1, l2) {
            (Ok(()), Ok(())) => return Ok(()),
            (Err(error), Ok(())) => CompositionError::half_done(CompositionLayer::L1, error),
            (Ok(()), Err(error)) => CompositionError::half_done(CompositionLayer::L2, error),
            (Err(l1), Err(l2)) => CompositionError::both(l1, l2),
        };
        self.observer.failed(crate::compose::Operation::Remove, &error);
        Err(failure("clear", error))
    }

    /// A layer that fails counts as not holding the key, so this always succeeds.
    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        self.forget_one::<V>(key, condition).await;
        self.write_down().await;
        Ok(())
    }

    /// A layer that fails counts as empty until it was cleared, so this always succeeds.
    async fn forget_all(&self) -> Result<(), CacheError> {
        self.forget_each::<V>().await;
        self.write_down().await;
        Ok(())
    }

    fn label(&self) -> &str {
        self.observer.name()
    }

    fn describe(&self, source: Source) -> String {
        let below = match source.step() {
            (false, rest) => self.l1.tier.describe(rest),
            (true, rest) => self.l2.tier.describe(rest),
        };
        format!("{}.{below}", self.observer.name())
    }

    fn conditions(&self) -> Conditions {
        self.l1.tier.conditions().and(self.l2.tier.conditions())
    }

    fn durability(&self) -> Durability {
        let (l1, l2) = (self.l1.tier.durability(), self.l2.tier.durability());
        if self.write.needs_both() { l1.max(l2) } else { l1.min(l2) }
    }

    /// The memory of both layers together, and the entries of the layer that has more.
    fn usage(&self) -> Option<TierUsage> {
        match (self.l1.tier.usage(), self.l2.tier.usage()) {
            (Some(l1), Some(l2)) => Some(TierUsage::new(
                l1.entries.max(l2.entries),
                l1.bytes.saturating_add(l2.bytes),
                l1.capacity.zip(l2.capacity).map(|(l1, l2)| l1.saturating_add(l2)),
            )),
            (Some(one), None) | (None, Some(one)) => Some(one),
            (None, None) => None,
        }
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        let name = self.observer.name();
        let (l1, l2) = (&self.l1, &self.l2);
        let near = l1.tally.above(l1.tier.tier_stats(), name, false, &l1.debts);
        near.chain(l2.tally.above(l2.tier.tier_stats(), name, true, &l2.debts)).collect()
    }

    fn on_repair(&self, listener: &RepairListener) {
        self.repairs.add(listener);
        // There may be something to repair from before.
        self.attend::<V>();
        self.l1.tier.on_repair(listener);
        self.l2.tier.on_repair(listener);
    }
}

impl<L1, L2, R, W> Tiered<L1, L2, R, W> {
    fn supports<V>(&self, condition: Condition) -> Result<(), CacheError>
    where
        L1: Tier<V>,
        L2: Tier<V>,
    {
        let both = self.l1.tier.conditions().and(self.l2.tier.conditions());
        if both.supports(condition) { Ok(()) } else { Err(CacheError::ConditionUnsupported) }
    }
}

impl<L1: fmt::Debug, L2: fmt::Debug, R: fmt::Debug, W: fmt::Debug> fmt::Debug
    for Tiered<L1, L2, R, W>
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tiered")
            .field("label", &self.observer.name())
            .field("l1", &self.l1.tier)
            .field("l2", &self.l2.tier)
            .field("read", &self.read)
            .field("write", &self.write)
            .field("refill", &self.refill)
            .finish_non_exhaustive()
    }
}

fn deleted(of: LayerOutcome<CacheError, Answer>) -> LayerOutcome<CacheError, DeleteStatus> {
    match of {
        LayerOutcome::Done(answer) => LayerOutcome::Done(answer.deleted()),
        LayerOutcome::Failed(error) => LayerOutcome::Failed(error),
        LayerOutcome::NotTried => LayerOutcome::NotTried,
        LayerOutcome::Background => LayerOutcome::Background,
    }
}

/// The failure of a tier made of two. What callers branch on stays what it is.
fn failure(operation: &'static str, error: CompositionError<CacheError>) -> CacheError {
    use CompositionLayer::{L1, L2};
    if let (
        Some(CacheError::TooLarge { bytes, bytes_max: l1 }),
        Some(CacheError::TooLarge { bytes_max: l2, .. }),
    ) = (error.of(L1), error.of(L2))
    {
        return CacheError::TooLarge { bytes: *bytes, bytes_max: *l1.max(l2) };
    }
    let (effect, retry) = (error.effect(), error.retry());
    BackendError::new("tiered", operation, error).effect_is(effect).retry_is(retry).into()
}
