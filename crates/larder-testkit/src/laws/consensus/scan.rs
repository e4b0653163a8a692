use larder_core::{Consensus, SeqNo, SharedConsensus};
use tokio::task::JoinSet;

use super::log::{commits, grow, numbers, version};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedConsensus, "scan";
    /// A scan gives the versions from `from` upwards in rising order, `from` and the head included.
    a_scan_is_ascending_and_includes_both_ends;
    /// At most `limit` versions come, the lowest ones; a limit of zero gives none.
    a_limit_cuts_a_scan_from_above;
    /// A scan of an unknown key, or from above the head, is empty and no error.
    a_scan_that_finds_nothing_is_empty;
    /// A scan from inside a gap, or from below the oldest version left by a truncation, starts at
    /// the next version that exists.
    a_scan_starts_at_the_next_existing_version;
    /// A long history comes back whole, and in slices that join without a seam.
    a_long_history_comes_in_slices_without_a_seam;
    /// While versions are added a scan is one consistent slice: no version between its ends is
    /// missing, and it is never older than what was committed before it began.
    a_scan_is_one_consistent_slice;
}

async fn a_scan_is_ascending_and_includes_both_ends(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("ascending"));
    grow(&store, &key, &[3, 5, 8, 13, 255, 256, 1 << 33]).await?;
    for (from, promised) in [
        (0, vec![3, 5, 8, 13, 255, 256, 1 << 33]),
        (3, vec![3, 5, 8, 13, 255, 256, 1 << 33]),
        (13, vec![13, 255, 256, 1 << 33]),
        (256, vec![256, 1 << 33]),
        (1 << 33, vec![1 << 33]),
    ] {
        let seen = store.scan(&key, SeqNo(from), usize::MAX).await?;
        ensure_eq!(numbers(&seen), promised, "a scan from {from}");
        ensure!(
            seen.iter().all(|found| *found == version(found.seqno.0)),
            "a scan from {from} gives the data of another version"
        );
    }
    Ok(())
}

async fn a_limit_cuts_a_scan_from_above(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("limit"));
    grow(&store, &key, &[2, 4, 6, 8]).await?;
    let all = [2, 4, 6, 8];
    for limit in [0, 1, 2, 3, 4, 5, 1_000, usize::MAX] {
        let seen = store.scan(&key, SeqNo(0), limit).await?;
        ensure_eq!(numbers(&seen), all[..limit.min(4)], "a scan with limit {limit}");
    }
    let seen = store.scan(&key, SeqNo(5), 1).await?;
    ensure_eq!(numbers(&seen), [6], "a scan from 5 with limit 1");
    Ok(())
}

async fn a_scan_that_finds_nothing_is_empty(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("nothing"));
    for from in [0, 1, i64::MAX.unsigned_abs()] {
        let seen = store.scan(&key, SeqNo(from), 10).await?;
        ensure!(seen.is_empty(), "a scan of an unknown key from {from} gives {seen:?}");
    }
    grow(&store, &key, &[1, 7]).await?;
    for from in [8, 9, i64::MAX.unsigned_abs()] {
        let seen = store.scan(&key, SeqNo(from), 10).await?;
        ensure!(seen.is_empty(), "a scan from {from}, above the head 7, gives {seen:?}");
    }
    Ok(())
}

async fn a_scan_starts_at_the_next_existing_version(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("gap"));
    grow(&store, &key, &[5, 10, 20]).await?;
    ensure_eq!(numbers(&store.scan(&key, SeqNo(6), 1).await?), [10], "a scan from inside a gap");
    store.truncate(&key, SeqNo(10)).await?;
    for from in [0, 5, 7, 10] {
        let seen = store.scan(&key, SeqNo(from), 10).await?;
        ensure_eq!(numbers(&seen), [10, 20], "a scan from {from} after a truncation at 10");
    }
    Ok(())
}

async fn a_long_history_comes_in_slices_without_a_seam(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("long"));
    let all: Vec<u64> = (0..150).map(|number| number * 3).collect();
    grow(&store, &key, &all).await?;
    let whole = store.scan(&key, SeqNo::MIN, usize::MAX).await?;
    ensure_eq!(numbers(&whole), all, "a scan of the whole history");
    for limit in [1, 7, 50] {
        let mut joined = Vec::new();
        let mut from = SeqNo::MIN;
        loop {
            let slice = store.scan(&key, from, limit).await?;
            let Some(last) = slice.last() else { break };
            from = last.seqno.next().ok_or_else(|| Violation::new("the last number is taken"))?;
            joined.extend(numbers(&slice));
        }
        ensure_eq!(joined, all, "the joined slices of {limit}");
    }
    Ok(())
}

async fn a_scan_is_one_consistent_slice(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("slice"));
    commits(&store, &key, None, 1).await?;
    let mut readers = JoinSet::new();
    for _ in 0..3 {
        let (store, key) = (store.clone(), key.clone());
        readers.spawn(async move {
            loop {
                let head = store.head(&key).await?.map_or(0, |head| head.seqno.0);
                let seen = numbers(&store.scan(&key, SeqNo::MIN, usize::MAX).await?);
                let last = seen.last().copied().unwrap_or(0);
                ensure_eq!(seen, (1..=last).collect::<Vec<_>>(), "a scan of a growing history");
                ensure!(last >= head, "the scan ends at {last}, older than the head {head} before");
                if last == 80 {
                    return Ok(());
                }
                tokio::task::yield_now().await;
            }
        });
    }
    for seqno in 1..80 {
        commits(&store, &key, Some(seqno), seqno + 1).await?;
        tokio::task::yield_now().await;
    }
    while let Some(verdict) = readers.join_next().await {
        verdict??;
    }
    Ok(())
}
