use larder_core::{Consensus, SeqNo, SharedConsensus};

use super::log::{commits, grow, head_is, holds, keys, mismatches};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure};

laws! { SharedConsensus, "closing and opening";
    /// What was committed is there after the store was closed and opened again, and goes on from
    /// there.
    a_reopened_store_has_every_version [Reopen];
    /// What was truncated stays truncated, and late writers still fail.
    a_reopened_store_brings_no_version_back [Reopen];
    /// The keys that are listed are the same after a reopening.
    a_reopened_store_lists_the_same_keys [Reopen];
    /// A store can be closed and opened many times and goes on where it was.
    a_store_can_be_reopened_again_and_again [Reopen];
    /// While a store is open a second opening of its place fails and changes nothing.
    a_second_opening_fails_and_changes_nothing [SecondOpen];
}

async fn a_reopened_store_has_every_version(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("versions"));
    grow(&store, &key, &[0, 3, 4, 90]).await?;
    let store = stage.reopen(store).await?;
    holds(&store, &key, &[0, 3, 4, 90], "after a reopening").await?;
    mismatches(&store, &key, Some(4), 91, Some(90)).await?;
    mismatches(&store, &key, None, 91, Some(90)).await?;
    commits(&store, &key, Some(90), 91).await?;
    holds(&store, &key, &[0, 3, 4, 90, 91], "after a commit in the second life").await
}

async fn a_reopened_store_brings_no_version_back(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("back"));
    grow(&store, &key, &[0, 1, 2, 5, 6]).await?;
    store.truncate(&key, SeqNo(5)).await?;
    let mut store = store;
    for _ in 0..2 {
        store = stage.reopen(store).await?;
        holds(&store, &key, &[5, 6], "after a truncation and a reopening").await?;
        mismatches(&store, &key, None, 0, Some(6)).await?;
        mismatches(&store, &key, Some(1), 2, Some(6)).await?;
    }
    Ok(())
}

async fn a_reopened_store_lists_the_same_keys(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let (full, cut, tried) = (stage.key("full"), stage.key("cut"), stage.key("tried"));
    grow(&store, &full, &[1, 2]).await?;
    grow(&store, &cut, &[1, 2]).await?;
    store.truncate(&cut, SeqNo(2)).await?;
    mismatches(&store, &tried, Some(1), 2, None).await?;
    let store = stage.reopen(store).await?;
    let listed = keys(&store).await?;
    for key in [&full, &cut] {
        ensure!(listed.contains(key), "{key:?} is not listed after a reopening");
    }
    ensure!(!listed.contains(&tried), "a key that was only tried is listed after a reopening");
    head_is(&store, &tried, None, "of a key that was only tried").await
}

async fn a_store_can_be_reopened_again_and_again(stage: &Stage<SharedConsensus>) -> Verdict {
    let (mut store, key) = (stage.open().await?, stage.key("again"));
    let mut all = vec![0];
    commits(&store, &key, None, 0).await?;
    for round in 1..6 {
        for seqno in [round * 10, round * 10 + 1] {
            commits(&store, &key, all.last().copied(), seqno).await?;
            all.push(seqno);
        }
        store = stage.reopen(store).await?;
        holds(&store, &key, &all, &format!("after {round} reopenings")).await?;
    }
    Ok(())
}

async fn a_second_opening_fails_and_changes_nothing(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("second"));
    grow(&store, &key, &[1, 2]).await?;
    for _ in 0..2 {
        if stage.try_open().await.is_ok() {
            return Err(Violation::new("the place was opened twice at the same time"));
        }
        holds(&store, &key, &[1, 2], "after a second opening was refused").await?;
    }
    commits(&store, &key, Some(2), 3).await
}
