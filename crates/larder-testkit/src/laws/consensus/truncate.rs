use larder_core::{
    Consensus, ConsensusError, Determinate, Effect, Failure, Retry, SeqNo, SharedConsensus,
};

use super::log::{commits, grow, head_is, holds, keys, mismatches};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedConsensus, "truncate";
    /// A truncation deletes the versions below its number and says how many there were.
    a_truncation_deletes_and_counts;
    /// A truncation that finds nothing to delete is Ok with zero, also when it is repeated.
    a_truncation_with_nothing_to_delete_is_ok;
    /// The head is never deleted: a truncation at the head keeps it.
    the_head_is_never_truncated;
    /// A truncation above the head is refused as `AboveHead` with both numbers, effect
    /// `NotApplied`, and deletes nothing.
    a_truncation_above_the_head_is_refused;
    /// A truncation of a key without data is refused as `NoSuchKey`, effect `NotApplied`, and
    /// creates nothing.
    a_truncation_of_an_unknown_key_is_refused;
    /// A truncated version can never be created again, not even by a writer that expected an empty
    /// key and was held up since before the first version.
    a_truncated_version_never_comes_back;
    /// After a truncation the key goes on as before: head, mismatches and new versions.
    a_truncated_key_goes_on;
    /// A truncation touches no other key.
    a_truncation_touches_no_other_key;
}

async fn cut(store: &SharedConsensus, key: &str, at: u64, promised: usize) -> Verdict {
    let deleted = store.truncate(key, SeqNo(at)).await?;
    ensure_eq!(deleted, promised, "versions deleted by a truncation at {at}");
    Ok(())
}

async fn a_truncation_deletes_and_counts(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("count"));
    grow(&store, &key, &[1, 2, 3, 10, 20, 30]).await?;
    cut(&store, &key, 2, 1).await?;
    holds(&store, &key, &[2, 3, 10, 20, 30], "after a truncation at 2").await?;
    cut(&store, &key, 15, 3).await?;
    holds(&store, &key, &[20, 30], "after a truncation inside a gap").await?;
    cut(&store, &key, 30, 1).await?;
    holds(&store, &key, &[30], "after a truncation at the head").await
}

async fn a_truncation_with_nothing_to_delete_is_ok(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("nothing"));
    grow(&store, &key, &[5, 10]).await?;
    for at in [0, 3, 5, 5] {
        cut(&store, &key, at, 0).await?;
    }
    holds(&store, &key, &[5, 10], "after truncations with nothing to delete").await?;
    cut(&store, &key, 10, 1).await?;
    for at in [10, 10, 7, 0] {
        cut(&store, &key, at, 0).await?;
    }
    holds(&store, &key, &[10], "after a repeated truncation").await
}

async fn the_head_is_never_truncated(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("head"));
    let mut head = None;
    for seqno in [0, 4, 9] {
        commits(&store, &key, head, seqno).await?;
        head = Some(seqno);
        store.truncate(&key, SeqNo(seqno)).await?;
        head_is(&store, &key, head, "after a truncation at the head").await?;
        holds(&store, &key, &[seqno], "after a truncation at the head").await?;
    }
    Ok(())
}

fn is_refused(
    at: u64,
    answer: Result<usize, ConsensusError>,
    kind: impl FnOnce(&Determinate) -> bool,
) -> Verdict {
    match answer {
        Err(error) => {
            ensure!(
                matches!(&error, ConsensusError::Determinate(why) if kind(why)),
                "a truncation at {at} has to be refused for the right reason: {error:?}"
            );
            ensure_eq!(error.effect(), Effect::NotApplied, "the effect of a refused truncation");
            ensure_eq!(error.retry(), Retry::Never, "whether repeating the truncation helps");
            Ok(())
        }
        Ok(deleted) => Err(Violation::new(format!(
            "a truncation at {at} has to be refused, but it deleted {deleted}"
        ))),
    }
}

async fn a_truncation_above_the_head_is_refused(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("above"));
    grow(&store, &key, &[5, 10]).await?;
    for at in [11, 12, i64::MAX.unsigned_abs()] {
        let answer = store.truncate(&key, SeqNo(at)).await;
        is_refused(at, answer, |why| {
            matches!(why, Determinate::AboveHead { seqno: SeqNo(named), head: SeqNo(10) }
                if *named == at)
        })?;
    }
    holds(&store, &key, &[5, 10], "after refused truncations").await
}

async fn a_truncation_of_an_unknown_key_is_refused(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("unknown"));
    for at in [0, 1, i64::MAX.unsigned_abs()] {
        let answer = store.truncate(&key, SeqNo(at)).await;
        is_refused(at, answer, |why| matches!(why, Determinate::NoSuchKey))?;
    }
    head_is(&store, &key, None, "after refused truncations").await?;
    ensure!(!keys(&store).await?.contains(&key), "a refused truncation created a key");
    commits(&store, &key, None, 0).await
}

async fn a_truncated_version_never_comes_back(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("back"));
    grow(&store, &key, &[0, 1, 2, 5]).await?;
    cut(&store, &key, 5, 3).await?;
    // An initialiser that stalled since before the first version wakes up.
    for late in [0, 1, 2, 4, 5] {
        mismatches(&store, &key, None, late, Some(5)).await?;
    }
    // So does a writer that saw a head that is truncated by now.
    for (expected, new) in [(0, 1), (1, 2), (2, 5), (2, 3), (1, 9)] {
        mismatches(&store, &key, Some(expected), new, Some(5)).await?;
    }
    holds(&store, &key, &[5], "after late writers").await
}

async fn a_truncated_key_goes_on(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("on"));
    let mut head = None;
    for round in 1..=10 {
        for seqno in [round * 10, round * 10 + 3] {
            commits(&store, &key, head, seqno).await?;
            head = Some(seqno);
        }
        cut(&store, &key, round * 10 + 3, if round == 1 { 1 } else { 2 }).await?;
        mismatches(&store, &key, Some(round * 10), round * 10 + 5, head).await?;
    }
    holds(&store, &key, &[103], "after ten rounds of growing and truncating").await
}

async fn a_truncation_touches_no_other_key(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let one = stage.key("one");
    // A key that begins with the other is the nearest neighbour in any ordered store.
    let neighbours = [format!("{one}/"), format!("{one}a"), one[..one.len() - 1].to_owned()];
    grow(&store, &one, &[1, 2, 3]).await?;
    for key in &neighbours {
        grow(&store, key, &[1, 2, 3]).await?;
    }
    cut(&store, &one, 3, 2).await?;
    for key in &neighbours {
        holds(&store, key, &[1, 2, 3], "of a neighbour of a truncated key").await?;
    }
    Ok(())
}
