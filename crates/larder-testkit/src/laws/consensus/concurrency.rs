use std::time::Duration;

use bytes::Bytes;
use larder_core::{CaSResult, Consensus, SeqNo, SharedConsensus, VersionedData};
use tokio::task::JoinSet;

use super::log::{commits, grow, head_is, holds, numbers, swap, version};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedConsensus, "concurrency";
    /// Of writers that race from one head to different successors exactly one commits; every
    /// other one learns of a head that is not the expected one.
    racing_successors_have_one_winner;
    /// Of writers that race to initialise a key exactly one commits, whatever their numbers.
    racing_initialisers_have_one_winner;
    /// Writers that compete for many rounds build one chain: each version was committed by exactly
    /// one of them and holds what that one wrote.
    competing_writers_build_one_chain;
    /// A head that is read after a commit returned, by anybody, is that version or a later one.
    a_head_is_never_older_than_a_commit_that_returned;
    /// Truncations beside writers delete only what lies below the head, and their counts add up.
    truncations_beside_writers_add_up;
    /// A compare-and-set whose future is dropped leaves a version that is whole or absent, and the
    /// key goes on.
    a_cancelled_commit_is_whole_or_absent;
    /// Writers of different keys never see a mismatch.
    writers_of_different_keys_do_not_meet;
}

/// Lets all `numbers` race to follow `expected`; returns those that committed.
async fn race(
    store: &SharedConsensus,
    key: &str,
    expected: Option<u64>,
    contenders: &[u64],
) -> Result<Vec<u64>, Violation> {
    let mut racers = JoinSet::new();
    for new in contenders.iter().copied() {
        let (store, key) = (store.clone(), key.to_owned());
        racers.spawn(async move { (new, swap(&store, &key, expected, new).await) });
    }
    let mut winners = Vec::new();
    while let Some(ended) = racers.join_next().await {
        let (new, answer) = ended?;
        match answer? {
            CaSResult::Committed => winners.push(new),
            CaSResult::ExpectationMismatch { current } => {
                ensure!(
                    current != expected.map(SeqNo),
                    "the loser {new} was told {current:?}, which it had expected"
                );
                let known = current.is_some_and(|SeqNo(current)| contenders.contains(&current));
                ensure!(known, "the loser {new} was told {current:?}, which nobody wrote");
            }
        }
    }
    Ok(winners)
}

async fn racing_successors_have_one_winner(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    for round in 0..20 {
        let key = stage.key(round);
        commits(&store, &key, None, 5).await?;
        let winners = race(&store, &key, Some(5), &[6, 10, 11, 6, 100, 10]).await?;
        ensure!(winners.len() == 1, "successors of 5 that committed: {winners:?}");
        holds(&store, &key, &[5, winners[0]], "after a race").await?;
    }
    Ok(())
}

async fn racing_initialisers_have_one_winner(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    for round in 0..20 {
        let key = stage.key(round);
        let winners = race(&store, &key, None, &[5, 7, 0, 3, 7, 5]).await?;
        ensure!(winners.len() == 1, "first versions that committed: {winners:?}");
        holds(&store, &key, &winners, "after a race of initialisers").await?;
    }
    Ok(())
}

async fn competing_writers_build_one_chain(stage: &Stage<SharedConsensus>) -> Verdict {
    const ROUNDS: u64 = 25;
    let (store, key) = (stage.open().await?, stage.key("chain"));
    let mut random = stage.random();
    let mut writers = JoinSet::new();
    for writer in 0..6_u64 {
        let (store, key, mut random) = (store.clone(), key.clone(), random.fork());
        writers.spawn(async move {
            let mut committed = Vec::new();
            let mut head = None;
            let mut attempts = 0;
            while u64::try_from(committed.len())? < ROUNDS {
                // Each attempt of one writer fails for the commit of another one.
                attempts += 1;
                ensure!(attempts < 10_000, "a writer has made no progress in {attempts} attempts");
                // The data tells who wrote it and what it was meant to follow.
                let seqno = head.map_or(0, |SeqNo(head)| head + 1 + random.word() % 3);
                let data = Bytes::from(format!("{writer} {head:?} {seqno}"));
                let new = VersionedData { seqno: SeqNo(seqno), data };
                match store.compare_and_set(&key, head, new.clone()).await? {
                    CaSResult::Committed => {
                        head = Some(new.seqno);
                        committed.push(new);
                    }
                    CaSResult::ExpectationMismatch { current } => {
                        ensure!(current != head, "a mismatch names {current:?}, as was expected");
                        head = current;
                    }
                }
                // A store that never waits must not keep the time limit from striking.
                tokio::task::yield_now().await;
            }
            Ok::<_, Violation>(committed)
        });
    }
    let mut committed = Vec::new();
    while let Some(ended) = writers.join_next().await {
        committed.extend(ended??);
    }
    committed.sort_by_key(|version| version.seqno);
    let chain = store.scan(&key, SeqNo::MIN, usize::MAX).await?;
    ensure_eq!(numbers(&committed), numbers(&chain), "the versions that writers were told of");
    ensure!(committed == chain, "a version holds other data than its writer was told of");
    let mut before = None;
    for version in &chain {
        let link = format!(" {before:?} {}", version.seqno);
        ensure!(
            version.data.ends_with(link.as_bytes()),
            "version {} was committed although the head was not the one its writer expected",
            version.seqno
        );
        before = Some(version.seqno);
    }
    Ok(())
}

async fn a_head_is_never_older_than_a_commit_that_returned(
    stage: &Stage<SharedConsensus>,
) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("head"));
    commits(&store, &key, None, 1).await?;
    for seqno in 1..60 {
        commits(&store, &key, Some(seqno), seqno + 1).await?;
        let mut readers = JoinSet::new();
        for _ in 0..3 {
            let (store, key) = (store.clone(), key.clone());
            readers.spawn(async move { store.head(&key).await });
        }
        while let Some(head) = readers.join_next().await {
            let head = head??;
            ensure_eq!(head, Some(version(seqno + 1)), "the head after {} returned", seqno + 1);
        }
    }
    Ok(())
}

async fn truncations_beside_writers_add_up(stage: &Stage<SharedConsensus>) -> Verdict {
    const LAST: u64 = 120;
    let (store, key) = (stage.open().await?, stage.key("beside"));
    commits(&store, &key, None, 1).await?;
    let mut truncators = JoinSet::new();
    for _ in 0..3 {
        let (store, key) = (store.clone(), key.clone());
        truncators.spawn(async move {
            let mut deleted = 0;
            loop {
                let head = store.head(&key).await?.map_or(0, |head| head.seqno.0);
                deleted += store.truncate(&key, SeqNo(head)).await?;
                if head == LAST {
                    return Ok::<_, Violation>(deleted);
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for seqno in 1..LAST {
        commits(&store, &key, Some(seqno), seqno + 1).await?;
        head_is(&store, &key, Some(seqno + 1), "beside truncations").await?;
        tokio::task::yield_now().await;
    }
    let mut deleted = 0;
    while let Some(ended) = truncators.join_next().await {
        deleted += ended??;
    }
    ensure_eq!(u64::try_from(deleted)?, LAST - 1, "all versions that truncations counted");
    holds(&store, &key, &[LAST], "after the last truncation").await
}

async fn a_cancelled_commit_is_whole_or_absent(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("cancelled"));
    let mut head = 1;
    grow(&store, &key, &[head]).await?;
    for turn in 0..60_u64 {
        let attempt = store.compare_and_set(&key, Some(SeqNo(head)), version(head + 1));
        if turn > 0 {
            let _ = tokio::time::timeout(Duration::from_micros(turn * 10), attempt).await;
        }
        // The zombie may land at any time, so a writer that goes on has to compete with it.
        let (from, new) = (head, head + 2);
        let seen = match swap(&store, &key, Some(from), new).await? {
            CaSResult::Committed => new,
            CaSResult::ExpectationMismatch { current } => {
                ensure_eq!(current, Some(SeqNo(from + 1)), "the head beside a cancelled commit");
                from + 1
            }
        };
        head_is(&store, &key, Some(seen), "beside a cancelled commit").await?;
        head = seen;
    }
    let chain = numbers(&store.scan(&key, SeqNo::MIN, usize::MAX).await?);
    ensure!(
        chain.windows(2).all(|pair| pair[1] - pair[0] <= 2 && pair[1] > pair[0]),
        "the chain beside cancelled commits is torn: {chain:?}"
    );
    holds(&store, &key, &chain, "beside cancelled commits").await
}

async fn writers_of_different_keys_do_not_meet(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let mut writers = JoinSet::new();
    for writer in 0..12 {
        let (store, key) = (store.clone(), stage.key(writer));
        writers.spawn(async move {
            let all: Vec<u64> = (0..15).collect();
            grow(&store, &key, &all).await?;
            holds(&store, &key, &all, "of one of many writers").await
        });
    }
    while let Some(verdict) = writers.join_next().await {
        verdict??;
    }
    Ok(())
}
