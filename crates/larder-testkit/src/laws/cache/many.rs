use larder_core::{Condition, Key, Tier};

use super::entry::{Store, hits, key, misses, put, text, version};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { Store, "many at once";
    /// `read_many` answers in the order of the keys that were asked for, missing and repeated keys
    /// included, as `read` would.
    reading_many_answers_in_order;
    /// `write_many` writes each value with its own life and version and answers in order.
    writing_many_writes_each;
    /// `remove_many` removes each key and answers in order whether it was there.
    removing_many_answers_in_order;
    /// A condition on many is decided for each key on its own.
    a_condition_on_many_is_decided_for_each;
    /// Reading, writing and removing no keys at all is Ok.
    an_empty_list_is_ok;
}

fn keys(stage: &Stage<Store>, count: usize) -> Result<Vec<Key>, Violation> {
    (0..count).map(|_| key(stage, "many")).collect()
}

async fn reading_many_answers_in_order(stage: &Stage<Store>) -> Verdict {
    let (tier, keys) = (stage.open().await?, keys(stage, 20)?);
    for (number, key) in keys.iter().enumerate().filter(|(number, _)| number % 3 != 0) {
        put(&tier, key, text(&format!("value {number}"))).await?;
    }
    let mut asked: Vec<usize> = (0..20).rev().collect();
    asked.extend([4, 4, 0]);
    let refs: Vec<_> = asked.iter().map(|number| keys[*number].as_ref()).collect();
    let answers = tier.read_many(&refs).await?;
    ensure_eq!(answers.len(), asked.len(), "read_many gives one answer for each key");
    for (number, answer) in asked.iter().zip(answers) {
        let promised = (number % 3 != 0).then(|| text(&format!("value {number}")));
        let seen = answer.map(|found| found.value);
        ensure!(seen == promised, "read_many answers for key {number} as if it were another one");
    }
    Ok(())
}

async fn writing_many_writes_each(stage: &Stage<Store>) -> Verdict {
    let (tier, keys) = (stage.open().await?, keys(stage, 30)?);
    let now = larder_core::Timestamp::from_millis(stage.now().as_millis());
    let entries: Vec<_> = (1..)
        .zip(&keys)
        .map(|(number, key)| {
            let life = std::time::Duration::from_mins(number);
            let value = text(&format!("value {number}")).with_version(version(number));
            (key.clone(), if number % 2 == 0 { value.with_ttl(now, life) } else { value })
        })
        .collect();
    let statuses = tier.write_many(entries.clone(), Condition::Always).await?;
    ensure_eq!(statuses.len(), entries.len(), "write_many gives one answer for each entry");
    ensure!(statuses.iter().all(|status| status.applied), "an unconditional write did not apply");
    for (key, value) in &entries {
        hits(&tier, key, value, "written as one of many").await?;
    }
    Ok(())
}

async fn removing_many_answers_in_order(stage: &Stage<Store>) -> Verdict {
    let (tier, keys) = (stage.open().await?, keys(stage, 20)?);
    for key in keys.iter().skip(1).step_by(2) {
        put(&tier, key, text("x")).await?;
    }
    let refs: Vec<_> = keys[..18].iter().map(Key::as_ref).collect();
    let statuses = tier.remove_many(&refs, Condition::Always).await?;
    ensure_eq!(statuses.len(), refs.len(), "remove_many gives one answer for each key");
    for (number, status) in statuses.iter().enumerate() {
        let was_there = status.count() > 0;
        ensure_eq!(was_there, number % 2 == 1, "whether key {number} was there");
        misses(&tier, &keys[number], "removed as one of many").await?;
    }
    hits(&tier, &keys[19], &text("x"), "that was not among those removed").await
}

async fn a_condition_on_many_is_decided_for_each(stage: &Stage<Store>) -> Verdict {
    let (tier, keys) = (stage.open().await?, keys(stage, 6)?);
    if !tier.conditions().if_newer_than {
        return Ok(());
    }
    for (number, key) in (1..).zip(&keys) {
        put(&tier, key, text("old").with_version(version(number))).await?;
    }
    let new = text("new").with_version(version(4));
    let entries = keys.iter().map(|key| (key.clone(), new.clone())).collect();
    let statuses = tier.write_many(entries, Condition::IfNewerThan(version(4))).await?;
    let applied: Vec<bool> = statuses.iter().map(|status| status.applied).collect();
    ensure_eq!(applied, [true, true, true, false, false, false], "versions below 4 are replaced");
    hits(&tier, &keys[0], &new, "older than the condition").await?;
    hits(&tier, &keys[5], &text("old").with_version(version(6)), "newer than it").await?;

    let refs: Vec<_> = keys.iter().map(Key::as_ref).collect();
    let statuses = tier.remove_many(&refs, Condition::IfNewerThan(version(5))).await?;
    let removed: Vec<bool> = statuses.iter().map(|status| status.count() > 0).collect();
    ensure_eq!(removed, [true, true, true, true, false, false], "versions below 5 are removed");
    Ok(())
}

async fn an_empty_list_is_ok(stage: &Stage<Store>) -> Verdict {
    let tier = stage.open().await?;
    ensure!(tier.read_many(&[]).await?.is_empty(), "no keys have no answers");
    ensure!(tier.write_many(Vec::new(), Condition::Always).await?.is_empty(), "no answers");
    ensure!(tier.remove_many(&[], Condition::Always).await?.is_empty(), "no answers");
    Ok(())
}
