use std::time::Duration;

use bytes::Bytes;
use larder_core::reference::ReferenceTier;
use larder_core::{
    BoxError, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Found, Key,
    KeyRef, ManualClock, Now, RepairListener, SharedTier, Source, Tier, TierStats, TierUsage,
    WriteStatus,
};
use larder_testkit::{Need, Place, Subject};

use crate::{broken, is_caught_by};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    LivesTooLong,
    KeepsTheOldLife,
    IgnoresConditions,
    ClaimsTooMuch,
    DropsVersions,
    LosesMilliseconds,
    ShowsKeys,
    AnswersManyOutOfOrder,
    MissesAtOnce,
    StoresWhatIsDead,
    ForgetsWhatIsNewer,
    ForgetsOneByOneOnly,
    ListsOtherTiers,
}

struct Defective {
    inner: ReferenceTier<Bytes>,
    defect: Defect,
    clock: ManualClock,
    keys: std::sync::Mutex<Vec<String>>,
}

impl std::fmt::Debug for Defective {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.defect {
            Defect::ShowsKeys => write!(f, "{:?}", self.keys),
            _ => write!(f, "Defective"),
        }
    }
}

fn subject(defect: Defect) -> Subject<SharedTier<Bytes>> {
    Subject::new(format!("{defect:?}"), move || {
        let clock = ManualClock::default();
        let inner = ReferenceTier::new("defective", clock.shared());
        let keys = std::sync::Mutex::default();
        let tier = SharedTier::new(Defective { inner, defect, clock: clock.clone(), keys });
        let open = move || std::future::ready(Ok::<_, BoxError>(tier.clone()));
        Ok(Place::new(open).with_clock(clock))
    })
    .offering([Need::Clock])
}

impl Tier<Bytes> for Defective {
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<Bytes>>, CacheError> {
        self.inner.read(key).await
    }

    fn read_now(&self, key: KeyRef<'_>) -> Now<Bytes> {
        match self.defect {
            // The handle asks this first, so every read is affected.
            Defect::MissesAtOnce => Now::Miss,
            _ => self.inner.read_now(key),
        }
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        mut value: CacheValue<Bytes>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        self.keys.lock().unwrap().push(key.as_str().to_owned());
        let mut condition = condition;
        match self.defect {
            Defect::LivesTooLong => {
                value.expire = value.expire.map(|end| end.saturating_add(Duration::from_millis(1)));
            }
            Defect::KeepsTheOldLife if value.expire.is_none() => {
                let old = self.inner.read(key).await?;
                value.expire = old.and_then(|found| found.value.expire);
            }
            Defect::IgnoresConditions => condition = Condition::Always,
            Defect::ClaimsTooMuch if condition != Condition::Always => {
                return Err(CacheError::ConditionUnsupported);
            }
            Defect::DropsVersions => value.version = None,
            Defect::LosesMilliseconds => {
                let whole = |time: larder_core::Timestamp| {
                    larder_core::Timestamp::from_millis(time.as_millis() / 1_000 * 1_000)
                };
                value.expire = value.expire.map(whole);
            }
            Defect::StoresWhatIsDead => {
                let now = larder_core::Clock::now(&self.clock);
                if value.expire.is_some_and(|end| end <= now) {
                    return Ok(WriteStatus::WRITTEN);
                }
            }
            _ => {}
        }
        self.inner.write(key, value, condition).await
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        self.inner.remove(key, condition).await
    }

    async fn read_many(
        &self,
        keys: &[KeyRef<'_>],
    ) -> Result<Vec<Option<Found<Bytes>>>, CacheError> {
        let mut found = self.inner.read_many(keys).await?;
        if self.defect == Defect::AnswersManyOutOfOrder {
            found.reverse();
        }
        Ok(found)
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<Bytes>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        self.inner.write_many(entries, condition).await
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        self.inner.remove_many(keys, condition).await
    }

    async fn clear(&self) -> Result<(), CacheError> {
        self.inner.clear().await
    }

    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        let ignored = self.defect == Defect::ForgetsWhatIsNewer;
        self.inner.forget(key, if ignored { Condition::Always } else { condition }).await
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        if self.defect == Defect::ForgetsOneByOneOnly {
            return Ok(());
        }
        self.inner.forget_all().await
    }

    fn label(&self) -> &str {
        self.inner.label()
    }

    fn describe(&self, source: Source) -> String {
        self.inner.describe(source)
    }

    fn conditions(&self) -> Conditions {
        self.inner.conditions()
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }

    fn usage(&self) -> Option<TierUsage> {
        self.inner.usage()
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        let mut tiers = self.inner.tier_stats();
        if self.defect == Defect::ListsOtherTiers {
            for tier in &mut tiers {
                tier.source = tier.source.below(true);
            }
        }
        tiers
    }

    fn on_repair(&self, _: &RepairListener) {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_defect_every_law_is_kept() {
    assert_eq!(broken(&subject(Defect::None)).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_defect_is_caught_by_the_law_for_it() {
    let caught = [
        (Defect::LivesTooLong, "a_value_expires_to_the_millisecond"),
        (Defect::ListsOtherTiers, "the_statistics_list_where_hits_come_from"),
        (Defect::KeepsTheOldLife, "a_write_without_an_expiry_clears_the_old_one"),
        (Defect::IgnoresConditions, "if_newer_than_lets_only_newer_writes_through"),
        (Defect::IgnoresConditions, "racing_versions_end_with_the_highest"),
        (Defect::IgnoresConditions, "any_sequence_of_calls_agrees_with_the_reference"),
        (Defect::ClaimsTooMuch, "if_version_is_needs_the_very_same_value"),
        (Defect::DropsVersions, "life_and_version_are_kept"),
        (Defect::LosesMilliseconds, "less_than_a_second_is_a_life"),
        (Defect::ShowsKeys, "the_printed_form_shows_no_keys_and_values"),
        (Defect::AnswersManyOutOfOrder, "reading_many_answers_in_order"),
        (Defect::MissesAtOnce, "a_written_value_is_read_byte_for_byte"),
        (Defect::StoresWhatIsDead, "a_write_whose_life_is_over_removes"),
        (Defect::ForgetsWhatIsNewer, "forgetting_by_version_spares_what_is_newer"),
        (Defect::ForgetsOneByOneOnly, "forgetting_everything_is_forgetting_each"),
        (Defect::StoresWhatIsDead, "any_sequence_in_time_agrees_with_the_reference"),
    ];
    for (defect, law) in caught {
        is_caught_by(subject(defect), &[law]).await;
    }
}
