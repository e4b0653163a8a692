use std::time::Duration;

use bytes::Bytes;
use larder_core::{CacheValue, Condition, Key, KeyRef, Tier, Version};

use super::entry::{Store, key, misses, put, text};
use crate::law::laws;
use crate::{Outage, Stage, Trouble, Verdict, Violation, ensure, ensure_eq};

laws! { Store, "an outage of a part";
    /// What was removed or replaced while a part was away is not served any more, neither during the
    /// outage nor after it.
    what_a_part_has_missed_is_not_served [Outage, Clock];
    /// A part that is back comes to hold what was written last, or nothing; nobody has to ask for it.
    what_a_part_has_missed_is_made_up_for [Outage, Clock];
    /// Of several changes of a key that a part has missed the newest counts, and they are one debt.
    of_what_a_part_has_missed_the_newest_counts [Outage, Clock];
    /// What another process has written to a part since is spared by what is made up for there.
    what_others_have_written_since_is_spared [Outage, Clock];
    /// A change whose caller gave it up while a part hung counts as missed by that part.
    a_change_that_was_given_up_is_not_undone [Outage, Clock];
    /// What was cleared while a part was away does not come back, and the part is cleared when it is back.
    a_clear_that_a_part_has_missed_is_not_undone [Outage, Clock, Exclusive];
    /// However many changes a part misses, memory for them is bounded, and none of them is undone.
    however_much_a_part_has_missed_nothing_is_undone [Outage, Clock, Exclusive];
    /// What a part has missed is remembered when the tier is closed and opened again before the outage
    /// is over, and made up for then; what another process has written meanwhile is spared.
    what_a_part_has_missed_outlives_the_process [Outage, Clock, Reopen];
    /// A missed clear, and more missed changes than are told apart, are remembered as well.
    that_a_part_has_missed_everything_outlives_the_process [Outage, Clock, Reopen, Exclusive];
}

/// A store, the outage of its part, and the way of another process to that part.
struct Pair {
    tier: Store,
    outage: Outage,
    past: Store,
}

impl Pair {
    async fn open(stage: &Stage<Store>) -> Result<Self, Violation> {
        let (outage, past) = stage.outage()?;
        Ok(Self { tier: stage.open().await?, outage, past })
    }

    /// Closes the store and opens it again, with the outage as it is.
    async fn reopen(self, stage: &Stage<Store>) -> Result<Self, Violation> {
        Ok(Self { tier: stage.reopen(self.tier).await?, ..self })
    }

    /// Removes `key`. During an outage some stores call that an error, which promises nothing less.
    async fn remove(&self, key: &Key) {
        drop(self.tier.remove(key.as_ref(), Condition::Always).await);
    }

    /// Replaces what `key` has, by version; as above.
    async fn replace(&self, key: &Key, value: &CacheValue<Bytes>) {
        let condition = value.version.map_or(Condition::Always, Condition::IfNewerThan);
        drop(self.tier.write(key.as_ref(), value.clone(), condition).await);
    }

    /// How many keys the parts have missed; `None` when one of them has missed everything.
    fn owed(&self) -> Option<u64> {
        let stats = self.tier.tier_stats();
        let all = stats.iter().any(|part| part.owes_all);
        (!all).then(|| stats.iter().map(|part| part.owed_keys).sum())
    }

    /// How many debts, made or settled, the next process would not know of.
    fn unwritten(&self) -> u64 {
        self.tier.tier_stats().iter().map(|part| part.unwritten_debts).sum()
    }

    /// Waits until nothing is owed any more and the ledger says so, letting time pass for the store as
    /// well.
    async fn is_even(&self, stage: &Stage<Store>) -> Verdict {
        for _ in 0..3_000 {
            // In this order: what is settled is to be written down before it is called settled.
            if self.owed() == Some(0) && self.unwritten() == 0 {
                return Ok(());
            }
            stage.pass(Duration::from_millis(100)).await;
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        Err(Violation::new(format!("a part is back and owes still: {:?}", self.owed())))
    }

    /// `key` is nothing or `new`, by every kind of read.
    async fn shows(&self, key: &Key, new: Option<&CacheValue<Bytes>>, when: &str) -> Verdict {
        let key = key.as_ref();
        let single = self.tier.read(key).await.ok().flatten();
        let many = self.tier.read_many(&[key]).await.unwrap_or_default().into_iter().flatten();
        for found in single.into_iter().chain(many) {
            ensure_eq!(Some(&found.value.data), new.map(|new| &new.data), "what is served {when}");
        }
        Ok(())
    }

    /// The part holds nothing of `key`, or `new`.
    async fn holds(&self, key: &Key, new: Option<&CacheValue<Bytes>>, when: &str) -> Verdict {
        let Some(found) = self.past.read(key.as_ref()).await? else { return Ok(()) };
        ensure_eq!(Some(&found.value.data), new.map(|new| &new.data), "what the part holds {when}");
        Ok(())
    }
}

/// A value that a process writes now, the `number`th of this moment.
fn written_now(stage: &Stage<Store>, value: &str, number: u64) -> CacheValue<Bytes> {
    text(value).with_version(Version::from_parts((stage.now().as_millis() << 16) + number, 9))
}

/// Keys that have an old value: with a version, or without.
async fn old_keys<const N: usize>(
    stage: &Stage<Store>,
    pair: &Pair,
) -> Result<[Key; N], Violation> {
    let mut keys = Vec::new();
    for number in 0..N {
        let key = key(stage, "old")?;
        let old = if number % 2 == 0 { text("old") } else { written_now(stage, "old", 0) };
        put(&pair.tier, &key, old).await?;
        keys.push(key);
    }
    keys.try_into().map_err(|_| Violation::new("so many keys are so many"))
}

/// Makes the same changes to two keys each: remove, replace with and without a version, one by one and
/// many at once. What each key should have now.
async fn change(
    stage: &Stage<Store>,
    pair: &Pair,
    keys: &[Key; 8],
) -> Vec<(Key, Option<CacheValue<Bytes>>)> {
    let [versioned, plain] = [written_now(stage, "new", 1), text("new")];
    let mut should = Vec::new();
    for key in &keys[..2] {
        pair.remove(key).await;
        should.push((key.clone(), None));
    }
    let both: Vec<KeyRef<'_>> = keys[2..4].iter().map(Key::as_ref).collect();
    drop(pair.tier.remove_many(&both, Condition::Always).await);
    should.extend(keys[2..4].iter().map(|key| (key.clone(), None)));
    pair.replace(&keys[4], &versioned).await;
    pair.replace(&keys[5], &plain).await;
    for (key, new) in [(&keys[6], &versioned), (&keys[7], &plain)] {
        let entry = vec![(key.clone(), new.clone())];
        drop(pair.tier.write_many(entry, Condition::Always).await);
    }
    let new = [&versioned, &plain, &versioned, &plain];
    should.extend(keys[4..].iter().cloned().zip(new.map(|new| Some(new.clone()))));
    should
}

const FAILING: [Trouble; 2] = [Trouble::Refuses, Trouble::LosesAnswers];

async fn what_a_part_has_missed_is_not_served(stage: &Stage<Store>) -> Verdict {
    let pair = Pair::open(stage).await?;
    for trouble in FAILING {
        let keys = old_keys(stage, &pair).await?;
        pair.outage.begin(trouble);
        let should = change(stage, &pair, &keys).await;
        for (key, new) in &should {
            pair.shows(key, new.as_ref(), "during an outage").await?;
        }
        pair.outage.end();
        for (key, new) in &should {
            pair.shows(key, new.as_ref(), "after an outage").await?;
        }
    }
    Ok(())
}

async fn what_a_part_has_missed_is_made_up_for(stage: &Stage<Store>) -> Verdict {
    let pair = Pair::open(stage).await?;
    for trouble in FAILING {
        let keys = old_keys(stage, &pair).await?;
        pair.outage.begin(trouble);
        let should = change(stage, &pair, &keys).await;
        ensure!(pair.owed() != Some(0), "a part has missed changes and nothing tells of it");
        pair.outage.end();
        pair.is_even(stage).await?;
        for (key, new) in &should {
            pair.holds(key, new.as_ref(), "after it was made up for").await?;
            pair.shows(key, new.as_ref(), "after it was made up for").await?;
        }
    }
    Ok(())
}

async fn of_what_a_part_has_missed_the_newest_counts(stage: &Stage<Store>) -> Verdict {
    let pair = Pair::open(stage).await?;
    let [twice, removed, written, plain] = old_keys(stage, &pair).await?;
    let [first, last] = [written_now(stage, "first", 1), written_now(stage, "last", 2)];
    pair.outage.begin(Trouble::Refuses);
    pair.replace(&twice, &first).await;
    pair.replace(&twice, &last).await;
    pair.replace(&removed, &first).await;
    pair.remove(&removed).await;
    pair.remove(&written).await;
    pair.replace(&written, &last).await;
    pair.replace(&plain, &text("first")).await;
    pair.replace(&plain, &text("last")).await;
    ensure_eq!(pair.owed(), Some(4), "keys that are owed after eight changes of four");
    pair.outage.end();
    pair.is_even(stage).await?;
    for (key, new) in [(&twice, true), (&removed, false), (&written, true), (&plain, true)] {
        let new = new.then_some(&last);
        pair.holds(key, new, "after several changes were made up for").await?;
        pair.shows(key, new, "after several changes were made up for").await?;
    }
    Ok(())
}

/// Lets `theirs` be written past the outage, by a process whose clock is right, later than any clock that
/// is believed.
async fn others_write(
    stage: &Stage<Store>,
    pair: &Pair,
    keys: &[Key],
) -> Result<CacheValue<Bytes>, Violation> {
    stage.pass(Duration::from_mins(2)).await;
    let theirs = written_now(stage, "theirs", 0);
    for key in keys {
        put(&pair.past, key, theirs.clone()).await?;
    }
    Ok(theirs)
}

async fn what_others_have_written_since_is_spared(stage: &Stage<Store>) -> Verdict {
    let pair = Pair::open(stage).await?;
    if !pair.tier.conditions().if_newer_than {
        return Ok(());
    }
    let keys: [Key; 4] = old_keys(stage, &pair).await?;
    pair.outage.begin(Trouble::Refuses);
    for key in &keys[..2] {
        pair.remove(key).await;
    }
    for key in &keys[2..] {
        pair.replace(key, &written_now(stage, "mine", 1)).await;
    }
    let theirs = others_write(stage, &pair, &keys).await?;
    pair.outage.end();
    pair.is_even(stage).await?;
    for key in &keys {
        let held = pair.past.read(key.as_ref()).await?.map(|found| found.value);
        ensure_eq!(held.as_ref(), Some(&theirs), "what another process has written since");
    }
    for key in &keys[..2] {
        let served = pair.tier.read(key.as_ref()).await?.map(|found| found.value.data);
        ensure_eq!(served.as_ref(), Some(&theirs.data), "what is served of it");
    }
    Ok(())
}

async fn a_change_that_was_given_up_is_not_undone(stage: &Stage<Store>) -> Verdict {
    let pair = Pair::open(stage).await?;
    let [removed, replaced] = old_keys(stage, &pair).await?;
    let new = text("new");
    pair.outage.begin(Trouble::Hangs);
    // It hangs for as long as we like: both parts were asked long before.
    let limit = Duration::from_millis(50);
    let _ = tokio::time::timeout(limit, pair.remove(&removed)).await;
    let _ = tokio::time::timeout(limit, pair.replace(&replaced, &new)).await;
    pair.outage.begin(Trouble::Refuses);
    pair.shows(&removed, None, "given up during an outage").await?;
    pair.shows(&replaced, Some(&new), "given up during an outage").await?;
    pair.outage.end();
    pair.is_even(stage).await?;
    pair.holds(&removed, None, "given up and made up for").await?;
    pair.holds(&replaced, Some(&new), "given up and made up for").await?;
    pair.shows(&removed, None, "given up and made up for").await
}

async fn a_clear_that_a_part_has_missed_is_not_undone(stage: &Stage<Store>) -> Verdict {
    let pair = Pair::open(stage).await?;
    let keys: [Key; 4] = old_keys(stage, &pair).await?;
    let beside = key(stage, "beside")?;
    put(&pair.past, &beside, text("in the part alone")).await?;
    pair.outage.begin(Trouble::Refuses);
    ensure!(
        pair.tier.clear().await.is_err(),
        "a clear that a part has missed says that it is done"
    );
    pair.outage.end();
    for key in keys.iter().chain([&beside]) {
        pair.shows(key, None, "after a clear that a part has missed").await?;
    }
    pair.is_even(stage).await?;
    for key in keys.iter().chain([&beside]) {
        misses(&pair.past, key, "after a clear was made up for").await?;
        misses(&pair.tier, key, "after a clear was made up for").await?;
    }
    Ok(())
}

/// Lets a part miss removes until single keys are no longer told apart.
async fn miss_too_much(stage: &Stage<Store>, pair: &Pair) -> Verdict {
    for _ in 0..200 {
        if pair.owed().is_none() {
            return Ok(());
        }
        let mut keys = Vec::new();
        for _ in 0..1_000 {
            keys.push(key(stage, "missed")?);
        }
        let keys: Vec<KeyRef<'_>> = keys.iter().map(Key::as_ref).collect();
        drop(pair.tier.remove_many(&keys, Condition::Always).await);
    }
    Err(Violation::new(format!("what is owed grows without a bound: {:?} keys", pair.owed())))
}

async fn however_much_a_part_has_missed_nothing_is_undone(stage: &Stage<Store>) -> Verdict {
    let pair = Pair::open(stage).await?;
    let [before, after]: [Key; 2] = old_keys(stage, &pair).await?;
    pair.outage.begin(Trouble::Refuses);
    pair.remove(&before).await;
    miss_too_much(stage, &pair).await?;
    pair.remove(&after).await;
    pair.outage.end();
    for key in [&before, &after] {
        pair.shows(key, None, "missed with very many others").await?;
    }
    pair.is_even(stage).await?;
    for key in [&before, &after] {
        pair.holds(key, None, "missed with very many others").await?;
        pair.shows(key, None, "missed with very many others, and made up for").await?;
    }
    let new = text("new");
    put(&pair.tier, &before, new.clone()).await?;
    let held = pair.past.read(before.as_ref()).await?.map(|found| found.value.data);
    ensure_eq!(held, Some(new.data), "what a part holds that was cleared and is written again");
    Ok(())
}

async fn what_a_part_has_missed_outlives_the_process(stage: &Stage<Store>) -> Verdict {
    let mut pair = Pair::open(stage).await?;
    let keys = old_keys(stage, &pair).await?;
    let since: [Key; 2] = old_keys(stage, &pair).await?;
    pair.outage.begin(Trouble::Refuses);
    let should = change(stage, &pair, &keys).await;
    pair.remove(&since[0]).await;
    pair.replace(&since[1], &written_now(stage, "mine", 1)).await;
    for _ in 0..2 {
        pair = pair.reopen(stage).await?;
        for (key, new) in &should {
            pair.shows(key, new.as_ref(), "by the next process").await?;
        }
    }
    let theirs = others_write(stage, &pair, &since).await?;
    pair.outage.end();
    for (key, new) in &should {
        pair.shows(key, new.as_ref(), "by the next process, after the outage").await?;
    }
    // Something is done to the tier, and from then on what is owed is made up for.
    put(&pair.tier, &key(stage, "other")?, text("other")).await?;
    pair.is_even(stage).await?;
    for (key, new) in &should {
        pair.holds(key, new.as_ref(), "made up for by the next process").await?;
    }
    for key in &since {
        let held = pair.past.read(key.as_ref()).await?.map(|found| found.value);
        ensure_eq!(held.as_ref(), Some(&theirs), "what another process has written since");
    }
    // What was made up for is not owed by the next process, which would undo what comes after.
    let last = text("last");
    put(&pair.past, &should[0].0, last.clone()).await?;
    let pair = pair.reopen(stage).await?;
    ensure_eq!(
        pair.owed(),
        Some(0),
        "keys that are owed by a process whose debts were paid before"
    );
    let served = pair.tier.read(should[0].0.as_ref()).await?.map(|found| found.value.data);
    ensure_eq!(served, Some(last.data), "what is served of a key whose debt was paid before");
    Ok(())
}

async fn that_a_part_has_missed_everything_outlives_the_process(stage: &Stage<Store>) -> Verdict {
    let mut pair = Pair::open(stage).await?;
    for by_clear in [true, false] {
        let keys: [Key; 2] = old_keys(stage, &pair).await?;
        pair.outage.begin(Trouble::Refuses);
        if by_clear {
            ensure!(pair.tier.clear().await.is_err(), "a missed clear says that it is done");
        } else {
            for key in &keys {
                pair.remove(key).await;
            }
            miss_too_much(stage, &pair).await?;
        }
        pair = pair.reopen(stage).await?;
        for key in &keys {
            pair.shows(key, None, "by the process after one that missed everything").await?;
        }
        pair.outage.end();
        put(&pair.tier, &key(stage, "other")?, text("other")).await?;
        pair.is_even(stage).await?;
        for key in &keys {
            pair.holds(key, None, "after everything was made up for").await?;
        }
        pair = pair.reopen(stage).await?;
        ensure_eq!(pair.owed(), Some(0), "keys that are owed after everything was made up for");
    }
    Ok(())
}
