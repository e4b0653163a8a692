use larder_core::{Condition, Key, Tier};

use super::entry::{Store, hits, key, misses, put, text, version};
use crate::law::laws;
use crate::{Stage, Verdict, ensure_eq};

laws! { Store, "forgetting";
    /// A forgotten key misses where it was private, and is untouched where it is shared; the key
    /// can be written again, and a key that nobody wrote can be forgotten.
    a_forgotten_key_misses_or_is_untouched;
    /// Forgetting under `IfNewerThan` spares what is as new or newer.
    forgetting_by_version_spares_what_is_newer;
    /// Forgetting everything does to each key what forgetting it alone does.
    forgetting_everything_is_forgetting_each [Exclusive];
    /// Forgetting one key leaves every other one.
    forgetting_one_key_leaves_the_others;
}

/// Whether `key` is still there, which then has to be with exactly this value.
async fn still(tier: &Store, key: &Key, value: &str, when: &str) -> Result<bool, crate::Violation> {
    if tier.read(key.as_ref()).await?.is_some() {
        hits(tier, key, &text(value), when).await?;
        return Ok(true);
    }
    misses(tier, key, when).await?;
    Ok(false)
}

async fn a_forgotten_key_misses_or_is_untouched(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "forget")?);
    tier.forget(key.as_ref(), Condition::Always).await?;
    misses(&tier, &key, "never written and forgotten").await?;
    put(&tier, &key, text("old")).await?;
    tier.forget(key.as_ref(), Condition::Always).await?;
    let shared = still(&tier, &key, "old", "after it was forgotten").await?;
    put(&tier, &key, text("new")).await?;
    hits(&tier, &key, &text("new"), "written after it was forgotten").await?;
    tier.forget(key.as_ref(), Condition::Always).await?;
    let again = still(&tier, &key, "new", "after it was forgotten again").await?;
    ensure_eq!(again, shared, "whether a forgotten key is still there, the second time");
    Ok(())
}

async fn forgetting_by_version_spares_what_is_newer(stage: &Stage<Store>) -> Verdict {
    let (tier, key) = (stage.open().await?, key(stage, "forget")?);
    if !tier.conditions().if_newer_than {
        return Ok(());
    }
    let value = text("kept").with_version(version(5));
    put(&tier, &key, value.clone()).await?;
    for number in [1, 4, 5] {
        tier.forget(key.as_ref(), Condition::IfNewerThan(version(number))).await?;
        hits(&tier, &key, &value, "after forgetting what is older").await?;
    }
    tier.forget(key.as_ref(), Condition::IfNewerThan(version(6))).await?;
    let forgotten = tier.read(key.as_ref()).await?.is_none();
    put(&tier, &key, value).await?;
    tier.forget(key.as_ref(), Condition::Always).await?;
    let always = tier.read(key.as_ref()).await?.is_none();
    ensure_eq!(forgotten, always, "whether an older value is forgotten as by `Always`");
    Ok(())
}

async fn forgetting_everything_is_forgetting_each(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    let keys = [key(stage, "one")?, key(stage, "two")?, key(stage, "three")?];
    for key in &keys {
        put(&tier, key, text("value")).await?;
    }
    tier.forget(keys[0].as_ref(), Condition::Always).await?;
    let shared = still(&tier, &keys[0], "value", "after it was forgotten").await?;
    tier.forget_all().await?;
    for key in &keys {
        let there = still(&tier, key, "value", "after all was forgotten").await?;
        ensure_eq!(there, shared, "whether a key is there after all was forgotten");
    }
    Ok(())
}

async fn forgetting_one_key_leaves_the_others(stage: &Stage<Store>) -> Verdict {
    let (tier, gone, stays) = (stage.open().await?, key(stage, "gone")?, key(stage, "stays")?);
    put(&tier, &gone, text("gone")).await?;
    put(&tier, &stays, text("stays")).await?;
    tier.forget(gone.as_ref(), Condition::Always).await?;
    hits(&tier, &stays, &text("stays"), "after another key was forgotten").await
}
