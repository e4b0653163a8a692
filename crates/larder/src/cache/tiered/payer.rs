//! Paying in the background what layers have missed.
//!
//! One task for each composite waits until something is owed, lets some time pass, and tries. The first
//! payment is the probe: when it fails, the layer is left alone for twice as long. What is paid is what
//! the other layer holds at that moment, under the condition that the layer holds nothing newer; where
//! there is nothing to copy, or no version to go by, the key is removed instead, and the next read
//! fetches it. A key that somebody is writing is left to them.

use std::marker::PhantomData;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use futures_util::future::join;
use larder_core::clock::random_u64;
use larder_core::{CacheError, CacheValue, Condition, DeleteStatus, KeyRef, SharedClock, Tier};
use tokio::runtime::Handle;
use tokio::sync::{Notify, oneshot};
use tokio::time::timeout;

use super::debts::{Debt, Due, Loss, latest};
use super::layer::Layer;
use super::order::Order;
use crate::compose::{AnyOffload, Offload, OffloadKey};

/// After the first debt, and between two rounds that went well: at most 128 keys in so long.
const PAUSE_MIN: Duration = Duration::from_millis(50);
/// Between two attempts at a layer that does not answer.
const PAUSE_MAX: Duration = Duration::from_secs(5);
/// Keys of one layer in one round.
const ROUND: usize = 128;
/// How long one payment may take: meanwhile nobody else changes that key in the layer.
const PAYMENT_LIMIT: Duration = Duration::from_secs(2);
/// What is read to find out whether a layer answers, before it is cleared.
const PROBE: &str = "larder.probe";

/// What a composite and its payer share.
#[derive(Debug, Default)]
pub(super) struct Alarm {
    owed: Notify,
    attended: AtomicBool,
}

impl Alarm {
    /// Something is owed, or the composite is gone.
    pub(super) fn ring(&self) {
        self.owed.notify_one();
    }

    /// Whether somebody pays.
    pub(super) fn is_attended(&self) -> bool {
        self.attended.load(Ordering::Acquire)
    }
}

/// Ends the payer with its composite.
#[derive(Debug)]
pub(super) struct Attendance(pub(super) Arc<Alarm>);

impl Drop for Attendance {
    fn drop(&mut self) {
        self.0.ring();
    }
}

/// What a payer needs. It keeps no layer alive.
pub(super) struct Payer<L1, L2, V> {
    pub(super) alarm: Arc<Alarm>,
    pub(super) l1: Weak<Layer<L1>>,
    pub(super) l2: Weak<Layer<L2>>,
    pub(super) order: Arc<Order>,
    pub(super) clock: SharedClock,
    pub(super) offload: AnyOffload,
    pub(super) values: PhantomData<fn() -> V>,
}

/// Nobody attends once the task has ended, however it did.
struct Attending(Arc<Alarm>);

impl Drop for Attending {
    fn drop(&mut self) {
        self.0.attended.store(false, Ordering::Release);
    }
}

/// What a round came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Round {
    /// A layer answers: go on.
    Paid,
    /// No layer that owes something answers.
    Refused,
    /// There is no background for it.
    NoBackground,
}

impl<L1, L2, V> Payer<L1, L2, V>
where
    V: Clone + Send + Sync + 'static,
    L1: Tier<V>,
    L2: Tier<V>,
{
    /// Starts the task, unless it runs; without a runtime or a background nobody pays.
    pub(super) fn attend(self) {
        let Ok(runtime) = Handle::try_current() else { return };
        if matches!(self.offload, AnyOffload::Disabled(_))
            || self.alarm.attended.swap(true, Ordering::AcqRel)
        {
            return;
        }
        runtime.spawn(self.run());
    }

    async fn run(self) {
        let _attending = Attending(Arc::clone(&self.alarm));
        let mut pause = PAUSE_MIN;
        loop {
            // What was owed by calls that were dropped, and what was paid.
            let Some(()) = self.write_down().await else { return };
            let Some(owes) = self.owes() else { return };
            if !owes {
                pause = PAUSE_MIN;
                self.alarm.owed.notified().await;
                continue;
            }
            // A quarter more or less, so that not all processes come at once.
            let spread = random_u64() % (u64::try_from(pause.as_millis()).unwrap_or(1) / 2 + 1);
            let rest = pause * 3 / 4 + Duration::from_millis(spread);
            let _ = timeout(rest, std::future::pending::<()>()).await;
            pause = match self.round().await {
                Some(Round::Paid) => PAUSE_MIN,
                Some(Round::Refused) => (pause * 2).min(PAUSE_MAX),
                Some(Round::NoBackground) => PAUSE_MAX,
                None => return,
            };
        }
    }

    /// Writes down what has changed; `None` when the composite is gone.
    async fn write_down(&self) -> Option<()> {
        let (l1, l2) = (self.l1.upgrade()?, self.l2.upgrade()?);
        join(l1.debts.write_down(), l2.debts.write_down()).await;
        Some(())
    }

    /// Whether a layer owes something; `None` when the composite is gone.
    fn owes(&self) -> Option<bool> {
        let (l1, l2) = (self.l1.upgrade()?, self.l2.upgrade()?);
        Some(!l1.debts.is_clear() || !l2.debts.is_clear())
    }

    /// One round in the background; `None` when the composite is gone.
    async fn round(&self) -> Option<Round> {
        let (l1, l2) = (self.l1.upgrade()?, self.l2.upgrade()?);
        let desk = Desk::new(&self.order, &self.clock);
        // A layer that is cleared may take long, and is worth a task of its own.
        let cleared = [desk.clear(&l1).await, desk.clear(&l2).await];
        let (told, round) = oneshot::channel();
        let task = async move {
            let paid = [desk.pay_some(&l1, &l2).await, desk.pay_some(&l2, &l1).await];
            let _ = told.send(paid);
        };
        if self.offload.register(OffloadKey::unique("debts"), task).is_err() {
            return Some(Round::NoBackground);
        }
        // Nobody tells when the task was cut off.
        let paid = round.await.unwrap_or([Some(false), None]);
        let answers = cleared.into_iter().chain(paid).flatten();
        Some(if answers.clone().any(|well| well) { Round::Paid } else { Round::Refused })
    }
}

/// Where payments are made.
pub(super) struct Desk {
    order: Arc<Order>,
    clock: SharedClock,
}

impl Desk {
    pub(super) fn new(order: &Arc<Order>, clock: &SharedClock) -> Self {
        Self { order: Arc::clone(order), clock: Arc::clone(clock) }
    }

    /// Clears a layer that counts as empty as a whole, once it answers. Whether that went well; `None`
    /// when it need not be.
    pub(super) async fn clear<V, L>(&self, layer: &Layer<L>) -> Option<bool>
    where
        V: Clone + Send + Sync + 'static,
        L: Tier<V>,
    {
        let due = layer.debts.wants_clear(|| self.clock.instant())?;
        let probe = KeyRef::new(PROBE).ok()?;
        if !matches!(timeout(PAYMENT_LIMIT, layer.tier.read(probe)).await, Ok(Ok(_))) {
            return Some(false);
        }
        let number = self.order.number();
        let cleared = match due {
            Due::Remove => layer.tier.clear().await,
            Due::Forget => layer.tier.forget_all().await,
        };
        if cleared.is_ok() {
            layer.debts.pay_all(number);
        }
        Some(cleared.is_ok())
    }

    /// Pays some of what `layer` owes, until it fails. Whether it answered; `None` when it owes nothing.
    async fn pay_some<V, A, B>(&self, layer: &Layer<A>, other: &Layer<B>) -> Option<bool>
    where
        V: Clone + Send + Sync + 'static,
        A: Tier<V>,
        B: Tier<V>,
    {
        let mut answered = None;
        for key in layer.debts.some(ROUND) {
            let payment = timeout(PAYMENT_LIMIT, self.pay(layer, other, key.as_ref())).await;
            match payment {
                Ok(Ok(())) => answered = Some(true),
                // Cut off: nobody knows what it did, so it stays owed.
                Ok(Err(_)) | Err(_) => return answered.or(Some(false)),
            }
        }
        answered
    }

    /// Pays one key, unless somebody is at it.
    async fn pay<V, A, B>(
        &self,
        layer: &Layer<A>,
        other: &Layer<B>,
        key: KeyRef<'_>,
    ) -> Result<(), CacheError>
    where
        V: Clone + Send + Sync + 'static,
        A: Tier<V>,
        B: Tier<V>,
    {
        let token = self.order.token(key);
        let Some(landing) = self.order.land(layer.which, key, token).await else { return Ok(()) };
        let Some(debt) = layer.debts.of(key) else { return Ok(()) };
        match self.means(layer, other, key, debt).await {
            Means::Forget => layer.tier.forget(key, Condition::Always).await?,
            Means::Remove(condition) => self.remove(layer, key, condition).await?,
            Means::Write(value, condition) => {
                let value = layer.capped(value, &self.clock);
                if !layer.tier.write(key, value, condition).await?.applied {
                    // It has something as new or newer, which the other one must not hide.
                    let older = Loss::everything(self.clock.now());
                    other.debts.owe(key, landing.number(), older, || self.clock.instant());
                }
            }
        }
        layer.debts.pay(key, landing.number());
        Ok(())
    }

    /// Removes what is older than the condition says, and what nobody can have written yet.
    async fn remove<V, L>(
        &self,
        layer: &Layer<L>,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<(), CacheError>
    where
        V: Clone + Send + Sync + 'static,
        L: Tier<V>,
    {
        let removed = layer.tier.remove(key, condition).await?;
        if removed != DeleteStatus::Missing || condition == Condition::Always {
            return Ok(());
        }
        // A clock that is far ahead, or was: nobody knows when that was written.
        let stored = layer.tier.read(key).await?.and_then(|found| found.value.version);
        let ahead = stored.filter(|version| *version > latest(self.clock.now()));
        if ahead.is_some() && layer.tier.conditions().if_version_is {
            layer.tier.remove(key, Condition::IfVersionIs(ahead)).await?;
        }
        Ok(())
    }

    /// How a debt is paid.
    async fn means<V, A, B>(
        &self,
        layer: &Layer<A>,
        other: &Layer<B>,
        key: KeyRef<'_>,
        debt: Debt,
    ) -> Means<V>
    where
        V: Clone + Send + Sync + 'static,
        A: Tier<V>,
        B: Tier<V>,
    {
        let bound = match (debt.due, debt.loss.bound()) {
            (Due::Forget, _) => return Means::Forget,
            (Due::Remove, Some(bound)) if layer.tier.conditions().if_newer_than => bound,
            // What is there may be of any age.
            (Due::Remove, _) => return Means::Remove(Condition::Always),
        };
        let gone = Means::Remove(Condition::IfNewerThan(bound));
        let Some(missed) = debt.loss.missed else { return gone };
        // The near layer is filled by whoever reads the key.
        if layer.fills_itself() || other.debts.owes(key) {
            return gone;
        }
        match other.tier.read(key).await {
            Ok(Some(found)) => match found.value.version {
                Some(version) if version >= missed.version => {
                    Means::Write(found.value, Condition::IfNewerThan(version.max(bound)))
                }
                _ => gone,
            },
            Ok(None) | Err(_) => gone,
        }
    }
}

/// How a debt is paid.
enum Means<V> {
    Write(CacheValue<V>, Condition),
    Remove(Condition),
    Forget,
}
