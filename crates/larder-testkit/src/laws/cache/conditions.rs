use larder_core::{
    CacheError, CacheValue, Condition, Conditions, DeleteStatus, Effect, Failure, Key, Retry, Tier,
    Version,
};
use tokio::task::JoinSet;

use super::entry::{Store, hits, key, misses, put, text, try_put, version};
use crate::law::laws;
use crate::{Stage, Verdict, ensure, ensure_eq};

laws! { Store, "conditions";
    /// `IfNewerThan` writes when nothing is there, or what is there has a lower version or none,
    /// and otherwise leaves everything as it is and says so.
    if_newer_than_lets_only_newer_writes_through;
    /// `IfNewerThan` removes only what has a lower version or none.
    if_newer_than_removes_only_older_values;
    /// `IfVersionIs` writes and removes only over exactly that version, never where nothing is.
    if_version_is_needs_the_very_same_value;
    /// A condition that the tier cannot decide in one step is refused as `ConditionUnsupported`,
    /// effect `NotApplied`, and changes nothing.
    an_undecidable_condition_is_refused;
    /// A conditional write that does not apply leaves the life of the stored value alone.
    a_refused_write_changes_neither_data_nor_life;
    /// Conditional writes of one key at the same time end with the highest version.
    racing_versions_end_with_the_highest;
    /// A value without a version loses against any version.
    a_value_without_a_version_loses;
    /// A conditional write whose life is over removes an older value and spares a newer one.
    a_dead_write_removes_only_what_is_older;
}

fn versioned(number: u64) -> CacheValue<bytes::Bytes> {
    text(&format!("version {number}")).with_version(version(number))
}

/// A conditional write of [`versioned`]; skipped laws return before they come here.
async fn newer(tier: &Store, key: &Key, number: u64) -> Result<bool, CacheError> {
    try_put(tier, key, versioned(number), Condition::IfNewerThan(version(number))).await
}

async fn if_newer_than_lets_only_newer_writes_through(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "newer")?);
    if !tier.conditions().if_newer_than {
        return refuses(&tier, &key, Condition::IfNewerThan(version(1))).await;
    }
    for (number, applied) in [(5, true), (4, false), (5, false), (6, true), (1, false), (9, true)] {
        let was = newer(&tier, &key, number).await?;
        ensure_eq!(was, applied, "whether version {number} was written");
    }
    hits(&tier, &key, &versioned(9), "after writes of versions 5, 4, 5, 6, 1, 9").await
}

async fn if_newer_than_removes_only_older_values(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "remove")?);
    if !tier.conditions().if_newer_than {
        return refuses(&tier, &key, Condition::IfNewerThan(version(1))).await;
    }
    put(&tier, &key, versioned(5)).await?;
    for number in [1, 4, 5] {
        let condition = Condition::IfNewerThan(version(number));
        let status = tier.remove(key.as_ref(), condition).await?;
        ensure_eq!(status, DeleteStatus::Missing, "a remove by version {number} of version 5");
        hits(&tier, &key, &versioned(5), "after a remove by an older version").await?;
    }
    let status = tier.remove(key.as_ref(), Condition::IfNewerThan(version(6))).await?;
    ensure!(status.count() >= 1, "a remove by version 6 of version 5 answers {status:?}");
    misses(&tier, &key, "after a remove by a newer version").await
}

async fn if_version_is_needs_the_very_same_value(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "same")?);
    let is = |number| Condition::IfVersionIs(Some(version(number)));
    if !tier.conditions().if_version_is {
        return refuses(&tier, &key, is(1)).await;
    }
    for condition in [is(1), Condition::IfVersionIs(None)] {
        let applied = try_put(&tier, &key, versioned(2), condition).await?;
        ensure!(!applied, "a write over exactly one version was applied where nothing was");
    }
    put(&tier, &key, versioned(3)).await?;
    for condition in [is(2), is(4), Condition::IfVersionIs(None)] {
        let applied = try_put(&tier, &key, versioned(9), condition).await?;
        ensure!(!applied, "a write under {condition:?} was applied over version 3");
        let status = tier.remove(key.as_ref(), condition).await?;
        ensure_eq!(status, DeleteStatus::Missing, "a remove under {condition:?} of version 3");
    }
    hits(&tier, &key, &versioned(3), "after calls that named other versions").await?;
    ensure!(try_put(&tier, &key, text("bare"), is(3)).await?, "the very version did not match");
    hits(&tier, &key, &text("bare"), "written over its very version").await?;
    let status = tier.remove(key.as_ref(), Condition::IfVersionIs(None)).await?;
    ensure!(status.count() >= 1, "a value without a version was not removed: {status:?}");
    misses(&tier, &key, "removed as the very value").await
}

/// Both calls have to be refused under `condition`, with nothing done.
async fn refuses(tier: &Store, key: &Key, condition: Condition) -> Verdict {
    put(tier, key, text("stays")).await?;
    let written = try_put(tier, key, versioned(99), condition).await.map(|_| ());
    let removed = tier.remove(key.as_ref(), condition).await.map(|_| ());
    for answer in [written, removed] {
        match answer {
            Err(error @ CacheError::ConditionUnsupported) => {
                ensure_eq!(error.effect(), Effect::NotApplied, "the effect of a refused condition");
                ensure_eq!(error.retry(), Retry::Never, "whether repeating helps");
            }
            answer => ensure!(
                false,
                "a condition that the tier does not claim to support has to be refused: {answer:?}"
            ),
        }
    }
    hits(tier, key, &text("stays"), "after refused conditions").await
}

async fn an_undecidable_condition_is_refused(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let Conditions { if_newer_than, if_version_is, .. } = tier.conditions();
    if !if_newer_than {
        refuses(&tier, &key(stage, "newer")?, Condition::IfNewerThan(version(99))).await?;
    }
    if !if_version_is {
        refuses(&tier, &key(stage, "is")?, Condition::IfVersionIs(None)).await?;
    }
    Ok(())
}

async fn a_refused_write_changes_neither_data_nor_life(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "life")?);
    if !tier.conditions().if_newer_than {
        return refuses(&tier, &key, Condition::IfNewerThan(version(1))).await;
    }
    let hour = std::time::Duration::from_hours(1);
    let now = larder_core::Timestamp::from_millis(stage.now().as_millis());
    let stored = versioned(5).with_ttl(now, hour).with_stale_after(now, hour / 2);
    put(&tier, &key, stored.clone()).await?;
    let refused = versioned(4).with_ttl(now, hour * 9);
    let condition = Condition::IfNewerThan(version(4));
    ensure!(!try_put(&tier, &key, refused, condition).await?, "an older write was applied");
    hits(&tier, &key, &stored, "after an older write with a longer life").await
}

async fn racing_versions_end_with_the_highest(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    if !tier.conditions().if_newer_than {
        return refuses(&tier, &key(stage, "race")?, Condition::IfNewerThan(version(1))).await;
    }
    let mut random = stage.random();
    for _ in 0..20 {
        let key = key(stage, "race")?;
        let mut numbers: Vec<u64> = (1..=16).collect();
        for place in (1..numbers.len()).rev() {
            numbers.swap(place, random.below(place + 1));
        }
        let mut writers = JoinSet::new();
        for number in numbers {
            let (tier, key) = (tier.clone(), key.clone());
            writers.spawn(async move { (number, newer(&tier, &key, number).await) });
        }
        while let Some(ended) = writers.join_next().await {
            let (number, applied) = ended?;
            ensure!(applied? || number < 16, "the highest version was refused");
        }
        hits(&tier, &key, &versioned(16), "after 16 versions raced").await?;
    }
    Ok(())
}

async fn a_value_without_a_version_loses(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "bare")?);
    let lowest = Version::from_parts(0, 0);
    if !tier.conditions().if_newer_than {
        return refuses(&tier, &key, Condition::IfNewerThan(lowest)).await;
    }
    put(&tier, &key, text("bare")).await?;
    let value = text("lowest").with_version(lowest);
    let applied = try_put(&tier, &key, value.clone(), Condition::IfNewerThan(lowest)).await?;
    ensure!(applied, "a value without a version held back the lowest version");
    hits(&tier, &key, &value, "written over a value without a version").await
}

async fn a_dead_write_removes_only_what_is_older(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "dead")?);
    if !tier.conditions().if_newer_than {
        return refuses(&tier, &key, Condition::IfNewerThan(version(1))).await;
    }
    let dead =
        |number| CacheValue { expire: Some(larder_core::Timestamp::EPOCH), ..versioned(number) };
    put(&tier, &key, versioned(5)).await?;
    let older = Condition::IfNewerThan(version(4));
    ensure!(!try_put(&tier, &key, dead(4), older).await?, "an older dead write was applied");
    hits(&tier, &key, &versioned(5), "after an older write whose life was over").await?;
    let newer = Condition::IfNewerThan(version(6));
    ensure!(try_put(&tier, &key, dead(6), newer).await?, "a newer dead write was refused");
    misses(&tier, &key, "after a newer write whose life was over").await
}
