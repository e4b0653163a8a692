use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use bytes::Bytes;
use larder_core::reference::ReferenceTier;
use larder_core::{
    CacheError, CacheValue, Clock as _, Condition, Conditions, DeleteStatus, Durability, Found,
    Key, KeyRef, ManualClock, Now, RepairListener, SharedTier, Source, Tier, TierStats, TierUsage,
    Version, WriteStatus,
};
use larder_testkit::Interrupted;
use tokio::sync::Mutex as Turns;

use super::Defect;
use super::debts::{Debt, Debts};

type Far = Interrupted<SharedTier<Bytes>>;

/// A near tier that goes with the process and a far one that stays. Changes take turns; nothing is copied
/// up. The far one owes a change from before it is asked until it has confirmed it.
pub(super) struct Pair(Arc<Process>);

struct Process {
    near: ReferenceTier<Bytes>,
    far: Far,
    clock: ManualClock,
    debts: Arc<Mutex<Debts>>,
    turns: Turns<()>,
    defect: Defect,
}

impl Pair {
    pub(super) fn new(
        clock: &ManualClock,
        far: Far,
        debts: Arc<Mutex<Debts>>,
        defect: Defect,
    ) -> Self {
        let near = ReferenceTier::new("near", clock.shared());
        let (clock, turns) = (clock.clone(), Turns::default());
        let process = Arc::new(Process { near, far, clock, debts, turns, defect });
        tokio::spawn(pay(Arc::downgrade(&process)));
        Self(process)
    }
}

/// Pays for as long as the process is there.
async fn pay(process: Weak<Process>) {
    while let Some(process) = process.upgrade() {
        if !matches!(process.defect, Defect::NeverPays | Defect::ServesWhatIsOwed) {
            // A far tier that is still away stays in debt.
            drop(process.pay_all().await);
            let owed: Vec<_> = {
                let debts = process.debts();
                debts.owed.iter().take(128).map(|(key, debt)| (key.clone(), debt.clone())).collect()
            };
            for (key, debt) in owed {
                if process.pay_one(key.as_ref(), debt).await.is_err() {
                    break;
                }
            }
        }
        drop(process);
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

impl Process {
    fn debts(&self) -> MutexGuard<'_, Debts> {
        self.debts.lock().unwrap()
    }

    /// Above every version of now, and below those of later.
    fn bound(&self) -> Version {
        Version::from_parts((self.clock.now().as_millis() + 1) << 16, 0)
    }

    async fn pay_all(&self) -> Result<(), CacheError> {
        let Some(number) = self.debts().all else { return Ok(()) };
        Tier::<Bytes>::clear(&self.far).await?;
        self.debts().settle_all(number);
        Ok(())
    }

    async fn pay_one(&self, key: KeyRef<'_>, debt: Debt) -> Result<(), CacheError> {
        let Debt { number, bound, missed } = debt;
        let held = match self.defect {
            Defect::PaysTheOldest => missed.clone(),
            _ => self.near.read(key).await?.map(|found| found.value),
        };
        let version = held.as_ref().and_then(|held| held.version);
        let spared = match self.defect {
            Defect::UndoesWhatOthersWrote => Condition::Always,
            _ => Condition::IfNewerThan(version.unwrap_or(bound)),
        };
        match held {
            Some(held) if missed.is_some() && version.is_some() => {
                if !self.far.write(key, held, spared).await?.applied {
                    // What others have written counts, here as well.
                    self.near.remove(key, Condition::Always).await?;
                }
            }
            _ => drop(Tier::<Bytes>::remove(&self.far, key, spared).await?),
        }
        self.debts().settle(key, number);
        Ok(())
    }

    /// Makes a change in both tiers: the near one first, unless a condition has to be decided.
    async fn change(
        &self,
        key: KeyRef<'_>,
        value: Option<CacheValue<Bytes>>,
        condition: Condition,
    ) -> Result<[Option<bool>; 2], CacheError> {
        let _turn = self.turns.lock().await;
        let (decided, owed) = (condition == Condition::Always, self.debts().owes(key));
        let mut near = None;
        if decided || owed {
            near = Some(change(&self.near, key, value.clone(), condition).await?);
            if !decided && near == Some(false) {
                return Ok([near, None]);
            }
        }
        let is_late = self.defect == Defect::ForgetsWhatWasGivenUp;
        let owe = || self.debts().owe(key, self.bound(), value.clone(), self.defect);
        let number = if is_late && !owed { None } else { Some(owe()) };
        if owed {
            return Ok([near, None]);
        }
        let far = change(&self.far, key, value.clone(), condition).await;
        match (&far, number) {
            (Ok(_), Some(number)) => self.debts().settle(key, number),
            (Err(_), None) => drop(owe()),
            _ => {}
        }
        if near.is_none() && far.as_ref().map_or(true, |applied| *applied) {
            near = Some(change(&self.near, key, value, condition).await?);
        }
        Ok([near, far.ok()])
    }
}

/// Writes or removes; whether that was done.
async fn change(
    tier: &impl Tier<Bytes>,
    key: KeyRef<'_>,
    value: Option<CacheValue<Bytes>>,
    condition: Condition,
) -> Result<bool, CacheError> {
    Ok(match value {
        Some(value) => tier.write(key, value, condition).await?.applied,
        None => tier.remove(key, condition).await?.count() > 0,
    })
}

impl Tier<Bytes> for Pair {
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<Bytes>>, CacheError> {
        let (process, below) = (&*self.0, |found: Found<Bytes>, second| Found {
            source: found.source.below(second),
            ..found
        });
        if let Some(found) = process.near.read(key).await? {
            return Ok(Some(below(found, false)));
        }
        if process.debts().owes(key) && process.defect != Defect::ServesWhatIsOwed {
            return Ok(None);
        }
        Ok(process.far.read(key).await?.map(|found| below(found, true)))
    }

    fn read_now(&self, _: KeyRef<'_>) -> Now<Bytes> {
        Now::Ask
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<Bytes>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        let done = self.0.change(key, Some(value), condition).await?;
        let applied = done.contains(&Some(true));
        Ok(if applied { WriteStatus::WRITTEN } else { WriteStatus::NOT_NEWER })
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        let done = self.0.change(key, None, condition).await?;
        let removed = done.contains(&Some(true));
        Ok(if removed { DeleteStatus::Deleted(1) } else { DeleteStatus::Missing })
    }

    async fn read_many(
        &self,
        keys: &[KeyRef<'_>],
    ) -> Result<Vec<Option<Found<Bytes>>>, CacheError> {
        let mut found = Vec::new();
        for key in keys {
            found.push(self.read(*key).await?);
        }
        Ok(found)
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<Bytes>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let mut written = Vec::new();
        for (key, value) in entries {
            written.push(self.write(key.as_ref(), value, condition).await?);
        }
        Ok(written)
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        let mut removed = Vec::new();
        for key in keys {
            removed.push(self.remove(*key, condition).await?);
        }
        Ok(removed)
    }

    async fn clear(&self) -> Result<(), CacheError> {
        let process = &*self.0;
        let _turn = process.turns.lock().await;
        process.near.clear().await?;
        let cleared = Tier::<Bytes>::clear(&process.far).await;
        match (cleared, process.defect) {
            (Ok(()), _) => Ok(()),
            (Err(error), Defect::ForgetsClears) => Err(error),
            (Err(_), Defect::SaysThatItIsCleared) => {
                process.debts().owe_all();
                Ok(())
            }
            (Err(error), _) => {
                process.debts().owe_all();
                Err(error)
            }
        }
    }

    /// Of what the process has alone.
    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        self.0.near.forget(key, condition).await
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        self.0.near.forget_all().await
    }

    fn label(&self) -> &'static str {
        "pair"
    }

    fn describe(&self, source: Source) -> String {
        let (second, _) = source.step();
        format!("pair.{}", if second { "far" } else { "near" })
    }

    fn conditions(&self) -> Conditions {
        Conditions::ALL
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }

    fn usage(&self) -> Option<TierUsage> {
        None
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        let debts = self.0.debts();
        let tier = |second| {
            let source = Source::HERE.below(second);
            let mut tier = TierStats::new(self.describe(source), None);
            tier.source = source;
            tier
        };
        let mut far = tier(true);
        (far.owed_keys, far.owes_all) = (debts.count(self.0.defect), debts.all.is_some());
        vec![tier(false), far]
    }

    fn on_repair(&self, _: &RepairListener) {}
}

impl fmt::Debug for Pair {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pair")
    }
}
