use std::time::Duration;

use larder_core::{Age, CacheValue, Condition, Tier, Timestamp};

use super::entry::{Store, hits, key, misses, put, removes, text, version};
use crate::law::laws;
use crate::{Stage, Verdict, ensure, ensure_eq};

laws! { Store, "life of a value";
    /// A value is read until the moment it expires and never from that moment on, to the
    /// millisecond.
    a_value_expires_to_the_millisecond [Clock];
    /// A value with a short life is gone soon after its end, and one with a long life is not.
    an_expired_value_is_never_read;
    /// Expiry, staleness and version come back exactly as they were written, to the millisecond
    /// at least.
    life_and_version_are_kept;
    /// A stale value is still read, and says that it is stale.
    a_stale_value_is_read_as_stale [Clock];
    /// A staleness at or after the expiry has no effect: the value expires on time.
    staleness_does_not_prolong_a_life [Clock];
    /// A write without an expiry clears the one that was there.
    a_write_without_an_expiry_clears_the_old_one [Clock];
    /// A write whose life is already over removes the key.
    a_write_whose_life_is_over_removes;
    /// A life of zero is over: the write removes the key.
    a_life_of_zero_removes;
    /// Remaining life below one second is neither "never" nor "over".
    less_than_a_second_is_a_life;
    /// An expired value does not count: removing it finds nothing, and a condition sees no value.
    an_expired_value_does_not_count [Clock];
    /// A life that ends beyond any calendar is as good as no end.
    a_life_without_end_in_sight_is_read;
}

/// A text that ends at a moment; whole milliseconds are what every tier can keep.
fn until(words: &str, expire: Timestamp) -> CacheValue<bytes::Bytes> {
    CacheValue { expire: Some(whole(expire)), ..text(words) }
}

fn whole(time: Timestamp) -> Timestamp {
    Timestamp::from_millis(time.as_millis())
}

fn after(stage: &Stage<Store>, millis: u64) -> Timestamp {
    stage.now().saturating_add(Duration::from_millis(millis))
}

async fn a_value_expires_to_the_millisecond(stage: &Stage<Store>) -> Verdict {
    /// What a life has behind it before it is looked at: a server with a clock of its own must not end it meanwhile.
    const BEFORE: u64 = 10_000;
    let (tier, clock) = (stage.open().await?, stage.clock()?);
    for life in [1, 2, 999, 1_000, 1_001, 90_000, 86_400_000] {
        let key = key(stage, "expires")?;
        put(&tier, &key, until("short", after(stage, life))).await?;
        clock.advance(Duration::from_millis(life));
        misses(&tier, &key, &format!("at the end of all its {life} ms")).await?;
        let value = until("x", after(stage, BEFORE + life));
        put(&tier, &key, value.clone()).await?;
        clock.advance(Duration::from_millis(BEFORE + life).saturating_sub(Duration::from_nanos(1)));
        hits(&tier, &key, &value, &format!("a moment before its {life} ms are over")).await?;
        clock.advance(Duration::from_nanos(1));
        misses(&tier, &key, &format!("at the end of its {life} ms")).await?;
        clock.advance(Duration::from_secs(5));
        misses(&tier, &key, &format!("long after its {life} ms")).await?;
    }
    Ok(())
}

async fn an_expired_value_is_never_read(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let (short, long) = (key(stage, "short")?, key(stage, "long")?);
    let lasting = until("long", after(stage, 3_600_000));
    put(&tier, &short, until("short", after(stage, 40))).await?;
    put(&tier, &long, lasting.clone()).await?;
    stage.pass(Duration::from_millis(60)).await;
    misses(&tier, &short, "20 ms after the end of its life").await?;
    hits(&tier, &long, &lasting, "an hour before the end of its life").await
}

async fn life_and_version_are_kept(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let (soon, later) = (Some(whole(after(stage, 61_234))), Some(whole(after(stage, 7_200_001))));
    let lives = [(None, None), (later, None), (later, Some(soon)), (None, Some(soon))];
    for (expire, stale) in lives {
        for version in [None, Some(version(3)), Some(version(u64::MAX >> 20))] {
            let key = key(stage, "kept")?;
            let value = CacheValue { expire, stale: stale.flatten(), version, ..text("x") };
            put(&tier, &key, value.clone()).await?;
            hits(&tier, &key, &value, "with this life and version").await?;
            // Once more over itself: nothing may be added up or inherited.
            put(&tier, &key, value.clone()).await?;
            hits(&tier, &key, &value, "written twice with this life and version").await?;
        }
    }
    Ok(())
}

async fn a_stale_value_is_read_as_stale(stage: &Stage<Store>) -> Verdict {
    let (tier, clock, key) = (stage.open().await?, stage.clock()?, key(stage, "stale")?);
    let mut value = until("x", after(stage, 100));
    value.stale = Some(whole(after(stage, 40)));
    put(&tier, &key, value.clone()).await?;
    for (passed, age) in [(0, Age::Fresh), (39, Age::Fresh), (1, Age::Stale), (59, Age::Stale)] {
        clock.advance(Duration::from_millis(passed));
        hits(&tier, &key, &value, "before its expiry").await?;
        let found = tier.read(key.as_ref()).await?;
        ensure_eq!(found.map(|found| found.value.age(clock)), Some(age), "the age of the value");
    }
    clock.advance(Duration::from_millis(1));
    misses(&tier, &key, "at its expiry, after it was stale").await
}

async fn staleness_does_not_prolong_a_life(stage: &Stage<Store>) -> Verdict {
    let (tier, clock, key) = (stage.open().await?, stage.clock()?, key(stage, "prolong")?);
    let mut value = until("x", after(stage, 50));
    value.stale = Some(whole(after(stage, 500)));
    put(&tier, &key, value).await?;
    clock.advance(Duration::from_millis(49));
    ensure!(tier.read(key.as_ref()).await?.is_some(), "the value is gone before its expiry");
    clock.advance(Duration::from_millis(1));
    misses(&tier, &key, "at its expiry, before its staleness").await
}

async fn a_write_without_an_expiry_clears_the_old_one(stage: &Stage<Store>) -> Verdict {
    let (tier, clock, key) = (stage.open().await?, stage.clock()?, key(stage, "clears")?);
    put(&tier, &key, until("short", after(stage, 100))).await?;
    put(&tier, &key, text("for good")).await?;
    clock.advance(Duration::from_hours(24));
    hits(&tier, &key, &text("for good"), "a day after it replaced a value of 100 ms").await?;
    // And the other way round: the new expiry holds.
    put(&tier, &key, until("short", after(stage, 100))).await?;
    clock.advance(Duration::from_millis(100));
    misses(&tier, &key, "at the expiry of what replaced a value for good").await
}

async fn a_write_whose_life_is_over_removes(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "over")?);
    let past = [stage.now().saturating_sub(Duration::from_secs(10)), Timestamp::EPOCH];
    for expire in past {
        put(&tier, &key, text("old")).await?;
        put(&tier, &key, until("dead", expire)).await?;
        misses(&tier, &key, "after a write whose life was over").await?;
        removes(&tier, &key, false, "after a write whose life was over").await?;
    }
    Ok(())
}

async fn a_life_of_zero_removes(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "zero")?);
    put(&tier, &key, text("old")).await?;
    put(&tier, &key, text("dead").with_ttl(stage.now(), Duration::ZERO)).await?;
    misses(&tier, &key, "after a write with a life of zero").await
}

async fn less_than_a_second_is_a_life(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    for life in [500, 999] {
        let (key, value) = (key(stage, "short")?, until("x", after(stage, life)));
        put(&tier, &key, value.clone()).await?;
        hits(&tier, &key, &value, &format!("with {life} ms to live")).await?;
    }
    stage.pass(Duration::from_millis(1_010)).await;
    let (key, value) = (key(stage, "short")?, until("x", after(stage, 700)));
    put(&tier, &key, value.clone()).await?;
    hits(&tier, &key, &value, "with 700 ms to live").await
}

async fn an_expired_value_does_not_count(stage: &Stage<Store>) -> Verdict {
    let (tier, clock) = (stage.open().await?, stage.clock()?);
    let (removed, conditional) = (key(stage, "removed")?, key(stage, "conditional")?);
    for key in [&removed, &conditional] {
        put(&tier, key, until("x", after(stage, 10)).with_version(version(9))).await?;
    }
    clock.advance(Duration::from_millis(10));
    removes(&tier, &removed, false, "of an expired value").await?;
    if tier.conditions().if_newer_than {
        let older = text("older").with_version(version(1));
        let condition = Condition::IfNewerThan(version(1));
        let status = tier.write(conditional.as_ref(), older.clone(), condition).await?;
        ensure!(status.applied, "an expired value of a higher version held back a write");
        hits(&tier, &conditional, &older, "that replaced an expired one").await?;
    }
    Ok(())
}

async fn a_life_without_end_in_sight_is_read(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    // A century, and the last whole millisecond that can be told.
    let far = [after(stage, 3_155_760_000_000), whole(Timestamp::MAX)];
    for expire in far {
        let (key, value) = (key(stage, "far")?, until("x", expire));
        put(&tier, &key, value).await?;
        ensure!(
            tier.read(key.as_ref()).await?.is_some(),
            "a value that lives until {expire} is gone"
        );
    }
    Ok(())
}
