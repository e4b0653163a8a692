use larder_core::{CacheError, CacheValue, Condition, Effect, Failure, Retry, Tier};
use tokio::task::JoinSet;

use super::entry::{Store, hits, key, misses, put, text};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { Store, "pressure and concurrency";
    /// A tier with a capacity stays within it while many more bytes are written than fit.
    a_full_tier_stays_within_its_capacity [TightPlace];
    /// What a full tier still holds is right: evicted keys miss, they never show another value.
    an_evicted_value_misses_and_is_never_mixed_up [TightPlace];
    /// A value larger than the tier takes is refused as `TooLarge` or not kept; after an effect of
    /// `NotApplied` the old value is still there, after Ok it is not.
    a_value_above_the_capacity_is_refused_or_not_kept [TightPlace];
    /// Writers of keys of their own do not disturb one another.
    writers_of_different_keys_do_not_meet;
    /// Writers of one key at the same time leave one of their values, whole.
    writers_of_one_key_leave_one_value;
    /// A write whose future is dropped leaves the old value, the new value or none, whole.
    a_cancelled_write_is_whole_or_nothing;
}

async fn a_full_tier_stays_within_its_capacity(stage: &Stage<Store>) -> Verdict {
    let (tier, mut random) = (stage.open().await?, stage.random());
    let Some(capacity) = tier.usage().and_then(|usage| usage.capacity) else {
        return Err(Violation::new("a tight tier has to state its capacity"));
    };
    for round in 0..400 {
        let len = 1 + random.below(20_000);
        put(&tier, &key(stage, "fill")?, CacheValue::new(random.bytes(len))).await?;
        let usage = tier.usage().unwrap_or_default();
        ensure!(
            usage.bytes <= capacity,
            "after {} writes the tier holds {} bytes, its capacity is {capacity}",
            round + 1,
            usage.bytes
        );
    }
    ensure!(tier.usage().unwrap_or_default().entries > 0, "a tier under pressure holds nothing");
    Ok(())
}

async fn an_evicted_value_misses_and_is_never_mixed_up(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let mut written = Vec::new();
    for number in 0..400 {
        let (key, value) = (key(stage, "evicted")?, text(&format!("{number} ").repeat(2_000)));
        put(&tier, &key, value.clone()).await?;
        written.push((key, value));
    }
    let mut evicted = 0;
    for (key, value) in &written {
        match tier.read(key.as_ref()).await? {
            None => evicted += 1,
            Some(_) => hits(&tier, key, value, "in a full tier").await?,
        }
    }
    ensure!(evicted > 0, "about 4 MB fit into a tier of at most 1 MiB");
    ensure!(evicted < written.len(), "a full tier has forgotten everything");
    Ok(())
}

async fn a_value_above_the_capacity_is_refused_or_not_kept(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "large")?);
    put(&tier, &key, text("old")).await?;
    let large = CacheValue::new(stage.random().bytes(2 << 20));
    match tier.write(key.as_ref(), large.clone(), Condition::Always).await {
        Err(error) => {
            // A tier of tiers names the layer that refused, as the source of its error.
            ensure!(
                is_too_large(&error),
                "a value that is too large has to be TooLarge: {error:?}"
            );
            ensure_eq!(error.retry(), Retry::Never, "whether repeating helps after TooLarge");
            match error.effect() {
                Effect::NotApplied => {
                    hits(&tier, &key, &text("old"), "after a write that was refused").await
                }
                Effect::Unknown => Ok(()),
            }
        }
        Ok(_) => misses(&tier, &key, "after a write that was Ok but cannot be kept").await,
    }
}

fn is_too_large(error: &CacheError) -> bool {
    let mut source: Option<&(dyn std::error::Error + 'static)> = Some(error);
    while let Some(error) = source {
        if let Some(CacheError::TooLarge { .. }) = error.downcast_ref() {
            return true;
        }
        source = error.source();
    }
    false
}

async fn writers_of_different_keys_do_not_meet(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let mut writers = JoinSet::new();
    for _ in 0..8 {
        let (tier, key) = (tier.clone(), key(stage, "own")?);
        writers.spawn(async move {
            for number in 0..50 {
                let value = text(&format!("{number} of {}", key.as_str()));
                put(&tier, &key, value.clone()).await?;
                hits(&tier, &key, &value, "beside other writers").await?;
                if number % 7 == 0 {
                    tier.remove(key.as_ref(), Condition::Always).await?;
                    misses(&tier, &key, "removed beside other writers").await?;
                }
            }
            Ok::<_, Violation>(())
        });
    }
    while let Some(verdict) = writers.join_next().await {
        verdict??;
    }
    Ok(())
}

async fn writers_of_one_key_leave_one_value(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "one")?);
    let values: Vec<_> = (0..16).map(|number| text(&format!("{number} ").repeat(1_000))).collect();
    let mut writers = JoinSet::new();
    for value in values.clone() {
        let (tier, key) = (tier.clone(), key.clone());
        writers.spawn(async move { put(&tier, &key, value).await });
    }
    while let Some(verdict) = writers.join_next().await {
        verdict??;
    }
    let seen = tier.read(key.as_ref()).await?.map(|found| found.value);
    ensure!(seen.is_some_and(|seen| values.contains(&seen)), "none of 16 values was left");
    Ok(())
}

async fn a_cancelled_write_is_whole_or_nothing(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    for turn in 0..40 {
        let key = key(stage, "cancelled")?;
        put(&tier, &key, text("old")).await?;
        let new = text(&"new ".repeat(1_000));
        let write = tier.write(key.as_ref(), new.clone(), Condition::Always);
        if turn > 0 {
            let patience = std::time::Duration::from_micros(turn * 10);
            let _ = tokio::time::timeout(patience, write).await;
        }
        let seen = tier.read(key.as_ref()).await?.map(|found| found.value);
        let whole = seen.is_none_or(|seen| seen == text("old") || seen == new);
        ensure!(whole, "a cancelled write left a value that nobody wrote");
    }
    Ok(())
}
