//! What the laws of consensus have in common: short calls with an expectation.

use bytes::Bytes;
use larder_core::{
    CaSResult, Consensus, ConsensusError, Effect, Failure, InvalidArgument, Retry, SeqNo,
    SharedConsensus, VersionedData,
};

use crate::{Verdict, Violation, ensure, ensure_eq, same_bytes};

/// A version with a payload that names its seqno.
pub(super) fn version(seqno: u64) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: Bytes::from(format!("version {seqno}")) }
}

/// A compare-and-set of [`version`].
pub(super) async fn swap(
    store: &SharedConsensus,
    key: &str,
    expected: Option<u64>,
    new: u64,
) -> Result<CaSResult, ConsensusError> {
    store.compare_and_set(key, expected.map(SeqNo), version(new)).await
}

/// A compare-and-set that has to commit.
pub(super) async fn commits(
    store: &SharedConsensus,
    key: &str,
    expected: Option<u64>,
    new: u64,
) -> Verdict {
    let answer = swap(store, key, expected, new).await?;
    ensure_eq!(answer, CaSResult::Committed, "compare-and-set of {expected:?} to {new}");
    Ok(())
}

/// A compare-and-set that has to fail because the head is `current`.
pub(super) async fn mismatches(
    store: &SharedConsensus,
    key: &str,
    expected: Option<u64>,
    new: u64,
    current: Option<u64>,
) -> Verdict {
    let answer = swap(store, key, expected, new).await?;
    let promised = CaSResult::ExpectationMismatch { current: current.map(SeqNo) };
    ensure_eq!(answer, promised, "compare-and-set of {expected:?} to {new}");
    Ok(())
}

/// The head has to be [`version`] `seqno`, or nothing.
pub(super) async fn head_is(
    store: &SharedConsensus,
    key: &str,
    seqno: Option<u64>,
    when: &str,
) -> Verdict {
    let head = store.head(key).await?;
    let seen = head.as_ref().map(|head| head.seqno.0);
    ensure_eq!(seen, seqno, "the head {when}");
    if let (Some(head), Some(seqno)) = (head, seqno) {
        same_bytes(&format!("the head {seqno} {when}"), &head.data, &version(seqno).data)?;
    }
    Ok(())
}

/// A whole scan has to give exactly the [`version`]s `seqnos`.
pub(super) async fn holds(
    store: &SharedConsensus,
    key: &str,
    seqnos: &[u64],
    when: &str,
) -> Verdict {
    let seen = store.scan(key, SeqNo::MIN, usize::MAX).await?;
    ensure_eq!(numbers(&seen), seqnos, "the versions {when}");
    for found in &seen {
        let promised = version(found.seqno.0).data;
        same_bytes(&format!("version {} {when}", found.seqno), &found.data, &promised)?;
    }
    Ok(())
}

pub(super) fn numbers(versions: &[VersionedData]) -> Vec<u64> {
    versions.iter().map(|version| version.seqno.0).collect()
}

/// The call has to be refused for its arguments, with nothing done and no point in repeating.
pub(super) fn is_invalid<T: std::fmt::Debug>(
    call: &str,
    answer: Result<T, ConsensusError>,
    expected: impl FnOnce(&InvalidArgument) -> bool,
) -> Verdict {
    match answer {
        Err(error) => {
            ensure!(
                matches!(&error, ConsensusError::InvalidArgument(what) if expected(what)),
                "{call} has to be InvalidArgument of the right kind: {error:?}"
            );
            ensure_eq!(error.effect(), Effect::NotApplied, "the effect of {call}");
            ensure_eq!(error.retry(), Retry::Never, "whether repeating helps after {call}");
            Ok(())
        }
        Ok(answer) => Err(Violation::new(format!(
            "{call} has to be InvalidArgument, but was answered with {answer:?}"
        ))),
    }
}

/// Commits [`version`]s one after the other, from an empty key.
pub(super) async fn grow(store: &SharedConsensus, key: &str, seqnos: &[u64]) -> Verdict {
    let mut head = None;
    for seqno in seqnos {
        commits(store, key, head, *seqno).await?;
        head = Some(*seqno);
    }
    Ok(())
}

/// Every key that the store lists.
pub(super) async fn keys(store: &SharedConsensus) -> Result<Vec<String>, Violation> {
    let mut stream = store.list_keys();
    let mut keys = Vec::new();
    while let Some(key) = stream.next().await {
        keys.push(key?);
    }
    Ok(keys)
}
