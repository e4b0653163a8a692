use larder_core::{Key, Tier};

use super::entry::{Store, hits, key, misses, put, removes, text, version};
use crate::law::laws;
use crate::{Harm, Stage, Verdict, Violation, ensure};

laws! { Store, "closing and opening";
    /// After a tier was closed and opened again a key has what it had, with its life and version, or
    /// misses: a cache may forget.
    a_reopened_tier_shows_what_was_written_or_misses [Reopen];
    /// What was removed, replaced or had expired before a tier was closed does not come back.
    a_reopened_tier_brings_nothing_back [Reopen];
    /// What was cleared before a tier was closed does not come back.
    a_reopened_tier_stays_cleared [Reopen, Exclusive];
    /// A tier can be closed and opened many times, and shows the newest of each key or misses.
    a_tier_can_be_reopened_again_and_again [Reopen];
    /// While a tier is open a second opening of its place fails and changes nothing.
    a_second_opening_fails_and_changes_nothing [SecondOpen];
    /// A value that is damaged while the tier is closed is a miss, is gone, and its key can be written
    /// again; no other value is harmed.
    a_damaged_value_is_a_miss_and_gone [Reopen, Damage];
}

/// `key` has `promised` or misses.
async fn hits_or_misses(
    tier: &Store,
    key: &Key,
    promised: &larder_core::CacheValue<bytes::Bytes>,
    when: &str,
) -> Result<bool, Violation> {
    if tier.read(key.as_ref()).await?.is_none() {
        return Ok(false);
    }
    hits(tier, key, promised, when).await?;
    Ok(true)
}

async fn a_reopened_tier_shows_what_was_written_or_misses(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let mut random = stage.random();
    let now = larder_core::Timestamp::from_millis(stage.now().as_millis());
    let mut written = Vec::new();
    for number in 0..60 {
        let len = random.below(5_000);
        let mut value = larder_core::CacheValue::new(random.bytes(len));
        if number % 2 == 0 {
            value = value.with_version(version(number));
        }
        if number % 3 == 0 {
            let hour = std::time::Duration::from_hours(1);
            value = value.with_ttl(now, hour).with_stale_after(now, hour / 2);
        }
        let key = key(stage, "kept")?;
        put(&tier, &key, value.clone()).await?;
        written.push((key, value));
    }
    let tier = stage.reopen(tier).await?;
    for (key, value) in &written {
        hits_or_misses(&tier, key, value, "after a reopening").await?;
    }
    Ok(())
}

async fn a_reopened_tier_brings_nothing_back(stage: &Stage<Store>) -> Verdict {
    let mut tier = stage.open().await?;
    let names = ["removed", "replaced", "dead", "again"];
    let [removed, replaced, dead, again] = {
        let mut keys = Vec::new();
        for name in names {
            keys.push(key(stage, name)?);
        }
        <[Key; 4]>::try_from(keys).map_err(|_| Violation::new("four keys are four"))?
    };
    for key in [&removed, &replaced, &dead, &again] {
        put(&tier, key, text("old")).await?;
    }
    removes(&tier, &removed, true, "of a value").await?;
    removes(&tier, &again, true, "of a value").await?;
    put(&tier, &replaced, text("new")).await?;
    put(&tier, &again, text("newer")).await?;
    let over = text("dead").with_ttl(stage.now(), std::time::Duration::ZERO);
    put(&tier, &dead, over).await?;
    for _ in 0..3 {
        tier = stage.reopen(tier).await?;
        misses(&tier, &removed, "removed before a reopening").await?;
        misses(&tier, &dead, "replaced by a dead value before a reopening").await?;
        hits_or_misses(&tier, &replaced, &text("new"), "replaced before a reopening").await?;
        hits_or_misses(&tier, &again, &text("newer"), "written again before a reopening").await?;
    }
    Ok(())
}

async fn a_reopened_tier_stays_cleared(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let mut keys = Vec::new();
    for number in 0..50 {
        let key = key(stage, "cleared")?;
        put(&tier, &key, text(&format!("value {number}"))).await?;
        keys.push(key);
    }
    tier.clear().await?;
    let after = key(stage, "after")?;
    put(&tier, &after, text("after")).await?;
    let tier = stage.reopen(tier).await?;
    for key in &keys {
        misses(&tier, key, "cleared before a reopening").await?;
    }
    hits_or_misses(&tier, &after, &text("after"), "written after a clear").await.map(drop)
}

async fn a_tier_can_be_reopened_again_and_again(stage: &Stage<Store>) -> Verdict {
    let mut tier = stage.open().await?;
    let mut random = stage.random();
    let mut newest = Vec::new();
    for _ in 0..10 {
        newest.push((key(stage, "again")?, None));
    }
    for round in 0..6 {
        for (key, value) in &mut newest {
            match random.below(3) {
                0 => {
                    let new = text(&format!("round {round}"));
                    put(&tier, key, new.clone()).await?;
                    *value = Some(new);
                }
                1 => {
                    tier.remove(key.as_ref(), larder_core::Condition::Always).await?;
                    *value = None;
                }
                _ => {}
            }
        }
        tier = stage.reopen(tier).await?;
        for (key, value) in &newest {
            let when = format!("after {} reopenings", round + 1);
            match value {
                Some(value) => hits_or_misses(&tier, key, value, &when).await.map(drop)?,
                None => misses(&tier, key, &when).await?,
            }
        }
    }
    Ok(())
}

async fn a_second_opening_fails_and_changes_nothing(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "second")?);
    put(&tier, &key, text("first")).await?;
    for _ in 0..2 {
        if stage.try_open().await.is_ok() {
            return Err(Violation::new("the place was opened twice at the same time"));
        }
    }
    hits(&tier, &key, &text("first"), "after a second opening was refused").await?;
    put(&tier, &key, text("second")).await?;
    hits(&tier, &key, &text("second"), "written after a second opening was refused").await
}

async fn a_damaged_value_is_a_miss_and_gone(stage: &Stage<Store>) -> Verdict {
    let (tier, damaged, sound) =
        (stage.open().await?, key(stage, "damaged")?, key(stage, "sound")?);
    let mut random = stage.random();
    let [rots, stays] = [random.bytes(300), random.bytes(300)];
    put(&tier, &damaged, larder_core::CacheValue::new(rots.clone())).await?;
    let stays = larder_core::CacheValue::new(stays);
    put(&tier, &sound, stays.clone()).await?;
    let tier = stage.reopen_harmed(tier, Harm::Rot(&rots)).await?;
    misses(&tier, &damaged, "that was damaged").await?;
    removes(&tier, &damaged, false, "of what was found damaged").await?;
    ensure!(
        hits_or_misses(&tier, &sound, &stays, "beside a damaged one").await?,
        "a value beside a damaged one is gone"
    );
    put(&tier, &damaged, text("new")).await?;
    hits(&tier, &damaged, &text("new"), "written over a damaged one").await
}
