//! Clients of one key that go on whatever fails, and what they have found out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use larder::recipes::{Resolution, resolve};
use larder::{CaSResult, Consensus, ConsensusError, Failure, Retry, SeqNo, VersionedData};
use larder_testkit::history::Recorder;

/// How many there are in a history.
pub(crate) const CLIENTS: usize = 8;

/// A call that nobody knew the outcome of, and what was found out.
pub(crate) struct Resolved {
    new: VersionedData,
    resolution: Resolution,
}

/// Asks until there is an answer.
pub(crate) async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, ConsensusError>) -> T {
    for _ in 0..1_000 {
        match ask().await {
            Ok(answer) => return answer,
            Err(error) => assert_eq!(error.retry(), Retry::Later, "{error:?}"),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the server was not found again");
}

/// One client: it appends to what it believes is the head until it is told to stop.
pub(crate) async fn live(
    store: &impl Consensus,
    recorder: &Recorder,
    client: usize,
    enough: &AtomicBool,
) -> Vec<Resolved> {
    let (mut head, mut resolved, mut turn) = (None, Vec::new(), 0_u64);
    while !enough.load(Ordering::SeqCst) {
        turn += 1;
        if turn % 8 == 0 {
            let _ = recorder.scan(store, SeqNo(turn / 2), 3).await;
        }
        if turn % 16 == 0 {
            let below =
                head.map_or(SeqNo::MIN, |SeqNo(head): SeqNo| SeqNo(head.saturating_sub(20)));
            let _ = recorder.truncate(store, below).await;
        }
        let seqno = head.map_or(0, |SeqNo(head)| head + 1 + turn % 2);
        let data = format!("{client}.{turn} after {head:?}").into();
        let new = VersionedData { seqno: SeqNo(seqno), data };
        match recorder.compare_and_set(store, head, new.clone()).await {
            Ok(CaSResult::Committed) => head = Some(new.seqno),
            Ok(CaSResult::ExpectationMismatch { current }) => head = current,
            Err(ConsensusError::Indeterminate(_)) => {
                let asked = patiently(async || resolve(store, recorder.key(), head, &new).await);
                resolved.push(Resolved { resolution: asked.await, new: new.clone() });
                head = patiently(async || recorder.head(store).await).await.map(|head| head.seqno);
            }
            Err(error) => {
                assert_eq!(error.retry(), Retry::Later, "{error:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    }
    resolved
}

/// What was found out has to agree with the versions that are left.
pub(crate) fn judge(resolved: &[Resolved], left: &[VersionedData]) {
    for Resolved { new, resolution } in resolved {
        let oldest = left.first().map(|version| version.seqno);
        let is_there = left.contains(new);
        match resolution {
            Resolution::Committed => {
                assert!(is_there || Some(new.seqno) < oldest, "{new:?} is not there");
            }
            Resolution::Lost => assert!(!is_there, "{new:?} is there"),
            Resolution::Open | Resolution::Unknown => {}
        }
    }
}
