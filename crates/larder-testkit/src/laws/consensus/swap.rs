use bytes::Bytes;
use larder_core::{CaSResult, Consensus, SeqNo, SharedConsensus, VersionedData};

use super::log::{commits, head_is, holds, mismatches, swap, version};
use crate::law::laws;
use crate::{Stage, Verdict, ensure_eq, same_bytes};

laws! { SharedConsensus, "compare-and-set and head";
    /// A key that nobody wrote has no head; the first compare-and-set expects nothing.
    a_new_key_has_no_head;
    /// A compare-and-set commits exactly when the head is the expected one, and the new version is
    /// the head when it returns.
    a_matching_expectation_commits;
    /// A wrong expectation changes nothing and names the current head: lower, higher, none, or one
    /// on a key without data.
    a_wrong_expectation_changes_nothing_and_names_the_head;
    /// The current head that a mismatch names is never the expected one.
    a_mismatch_never_names_the_expected_head;
    /// Gaps between sequence numbers are legal and stay.
    gaps_are_legal_and_stay;
    /// From one head only one of several successors commits, gap or no gap.
    one_head_has_one_successor;
    /// An empty key is initialised once: of several first versions with different sequence numbers
    /// one commits.
    a_key_is_initialised_once;
    /// The first version may have any valid sequence number, zero and `i64::MAX` included.
    the_first_version_may_have_any_valid_number;
    /// Empty data is data: the version is there and its data is empty.
    empty_data_is_data;
    /// Data comes back byte for byte from head and scan, small and large, whatever it holds.
    data_comes_back_byte_for_byte;
    /// The same data may be committed again under another sequence number.
    the_same_data_may_be_committed_again;
    /// Repeating a committed compare-and-set is a mismatch that names the new head, not a second
    /// commit.
    a_repeated_commit_is_a_mismatch;
}

async fn a_new_key_has_no_head(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("new"));
    head_is(&store, &key, None, "of a key that nobody wrote").await?;
    mismatches(&store, &key, Some(3), 4, None).await?;
    head_is(&store, &key, None, "after a failed first write").await?;
    commits(&store, &key, None, 5).await?;
    head_is(&store, &key, Some(5), "after the first version").await
}

async fn a_matching_expectation_commits(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("chain"));
    commits(&store, &key, None, 1).await?;
    for seqno in 1..40 {
        commits(&store, &key, Some(seqno), seqno + 1).await?;
        head_is(&store, &key, Some(seqno + 1), "right after its commit").await?;
    }
    let all: Vec<u64> = (1..=40).collect();
    holds(&store, &key, &all, "of the whole chain").await
}

async fn a_wrong_expectation_changes_nothing_and_names_the_head(
    stage: &Stage<SharedConsensus>,
) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("wrong"));
    for (expected, new) in [(0, 1), (4, 5), (5, 6)] {
        mismatches(&store, &key, Some(expected), new, None).await?;
    }
    commits(&store, &key, None, 5).await?;
    commits(&store, &key, Some(5), 8).await?;
    for (expected, new) in [
        (None, 9),
        (None, 2),
        (Some(0), 9),
        (Some(4), 9),
        (Some(5), 9),
        (Some(7), 9),
        (Some(9), 10),
    ] {
        mismatches(&store, &key, expected, new, Some(8)).await?;
        // The very numbers that exist are no better when the expectation is wrong.
        mismatches(&store, &key, None, 8, Some(8)).await?;
    }
    holds(&store, &key, &[5, 8], "after many mismatches").await
}

async fn a_mismatch_never_names_the_expected_head(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("current"));
    for expected in [None, Some(1), Some(2), Some(3), Some(i64::MAX.unsigned_abs() - 1)] {
        for new in [4, i64::MAX.unsigned_abs()] {
            if expected.is_some_and(|expected| expected >= new) {
                continue;
            }
            if let CaSResult::ExpectationMismatch { current } =
                swap(&store, &key, expected, new).await?
            {
                crate::ensure!(
                    current != expected.map(SeqNo),
                    "a mismatch names {current:?}, which was the expected head"
                );
            }
        }
    }
    Ok(())
}

async fn gaps_are_legal_and_stay(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("gaps"));
    commits(&store, &key, None, 5).await?;
    commits(&store, &key, Some(5), 10).await?;
    commits(&store, &key, Some(10), 1 << 40).await?;
    // A number inside a gap can never be committed any more.
    mismatches(&store, &key, Some(5), 7, Some(1 << 40)).await?;
    mismatches(&store, &key, Some(7), 8, Some(1 << 40)).await?;
    holds(&store, &key, &[5, 10, 1 << 40], "with gaps").await
}

async fn one_head_has_one_successor(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("successor"));
    commits(&store, &key, None, 5).await?;
    commits(&store, &key, Some(5), 10).await?;
    mismatches(&store, &key, Some(5), 11, Some(10)).await?;
    mismatches(&store, &key, Some(5), 6, Some(10)).await?;
    mismatches(&store, &key, Some(5), 10, Some(10)).await?;
    holds(&store, &key, &[5, 10], "after two more attempts from the same head").await
}

async fn a_key_is_initialised_once(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("initialised"));
    commits(&store, &key, None, 5).await?;
    for late in [7, 3, 5, 0] {
        mismatches(&store, &key, None, late, Some(5)).await?;
    }
    holds(&store, &key, &[5], "after late initialisers").await
}

async fn the_first_version_may_have_any_valid_number(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let last = i64::MAX.unsigned_abs();
    for first in [0, 1, 42, u64::from(u32::MAX), last - 1, last] {
        let key = stage.key(first);
        commits(&store, &key, None, first).await?;
        head_is(&store, &key, Some(first), "as first version").await?;
        holds(&store, &key, &[first], "after the first version").await?;
    }
    let key = stage.key("to the end");
    commits(&store, &key, None, 0).await?;
    commits(&store, &key, Some(0), last).await?;
    holds(&store, &key, &[0, last], "from the first number to the last").await
}

async fn empty_data_is_data(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("empty"));
    let empty = |seqno| VersionedData { seqno: SeqNo(seqno), data: Bytes::new() };
    for (expected, new) in [(None, 1), (Some(SeqNo(1)), 2)] {
        let answer = store.compare_and_set(&key, expected, empty(new)).await?;
        ensure_eq!(answer, CaSResult::Committed, "compare-and-set of empty data");
        ensure_eq!(store.head(&key).await?, Some(empty(new)), "a head with empty data");
    }
    let scanned = store.scan(&key, SeqNo::MIN, 10).await?;
    ensure_eq!(scanned, vec![empty(1), empty(2)], "a scan of empty data");
    Ok(())
}

async fn data_comes_back_byte_for_byte(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("bytes"));
    let mut random = stage.random();
    let mut payloads = vec![
        Bytes::from_static(b"\0"),
        Bytes::from(vec![0xFF; 300]),
        (0..=255).cycle().take(70_000).collect(),
    ];
    payloads.extend([1, 511, 4_096, 10 << 10, 100 << 10].map(|len| random.bytes(len)));
    let mut expected = None;
    for (seqno, data) in (1..).zip(&payloads) {
        let new = VersionedData { seqno: SeqNo(seqno), data: data.clone() };
        let answer = store.compare_and_set(&key, expected, new).await?;
        ensure_eq!(answer, CaSResult::Committed, "compare-and-set of {} bytes", data.len());
        expected = Some(SeqNo(seqno));
        let head = store.head(&key).await?.map(|head| head.data).unwrap_or_default();
        same_bytes("the data of the head", &head, data)?;
    }
    let scanned = store.scan(&key, SeqNo::MIN, usize::MAX).await?;
    ensure_eq!(scanned.len(), payloads.len(), "versions in the scan");
    for (found, data) in scanned.iter().zip(&payloads) {
        same_bytes("the data of a scanned version", &found.data, data)?;
    }
    Ok(())
}

async fn the_same_data_may_be_committed_again(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("same"));
    let same = |seqno| VersionedData { seqno: SeqNo(seqno), data: version(1).data };
    let mut expected = None;
    for seqno in 1..=3 {
        let answer = store.compare_and_set(&key, expected, same(seqno)).await?;
        ensure_eq!(answer, CaSResult::Committed, "compare-and-set of data that is there already");
        expected = Some(SeqNo(seqno));
    }
    let scanned = store.scan(&key, SeqNo::MIN, 10).await?;
    ensure_eq!(scanned, (1..=3).map(same).collect::<Vec<_>>(), "three versions of the same data");
    Ok(())
}

async fn a_repeated_commit_is_a_mismatch(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("repeated"));
    commits(&store, &key, None, 1).await?;
    mismatches(&store, &key, None, 1, Some(1)).await?;
    commits(&store, &key, Some(1), 2).await?;
    mismatches(&store, &key, Some(1), 2, Some(2)).await?;
    holds(&store, &key, &[1, 2], "after repeated commits").await
}
