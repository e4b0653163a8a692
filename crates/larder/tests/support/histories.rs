//! Many clients of one key while the server dies, hangs and loses connections: one order explains what
//! they were told, and whatever nobody could tell at first is found out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use larder::clock::random_u64;
use larder::recipes::{Resolution, resolve};
use larder::{CaSResult, Consensus, ConsensusError, Failure, Retry, SeqNo, VersionedData};
use larder_testkit::history::Recorder;

const CLIENTS: usize = 8;
/// How often the server is disturbed in one history.
const TURNS: usize = 6;

/// A call that nobody knew the outcome of, and what was found out.
struct Resolved {
    new: VersionedData,
    resolution: Resolution,
}

async fn patiently<T>(mut ask: impl AsyncFnMut() -> Result<T, ConsensusError>) -> T {
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
async fn live(
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

/// A history while `disturb`, which may block, is done again and again; how many calls were resolved.
async fn history(
    store: &impl Consensus,
    disturb: impl Fn() -> Result<(), String> + Clone + Send + 'static,
) -> usize {
    let recorder = Recorder::new(format!("k{:016x}", random_u64()).as_str());
    let enough = AtomicBool::new(false);
    let clients = join_all((0..CLIENTS).map(|client| live(store, &recorder, client, &enough)));
    let disturbing = async {
        for _ in 0..TURNS {
            tokio::time::sleep(Duration::from_millis(40 + random_u64() % 40)).await;
            tokio::task::spawn_blocking(disturb.clone()).await.unwrap().unwrap();
        }
        enough.store(true, Ordering::SeqCst);
    };
    let (resolved, ()) = tokio::join!(clients, disturbing);
    let resolved: Vec<Resolved> = resolved.into_iter().flatten().collect();
    let left = patiently(async || recorder.scan(store, SeqNo::MIN, usize::MAX).await).await;
    recorder.history().check().unwrap();
    assert!(left.len() > 5, "hardly anything was committed");
    for Resolved { new, resolution } in &resolved {
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
    resolved.len()
}

/// Histories until something that was done to the server was in the way of a call.
pub(crate) async fn until_some_were_resolved<C: Consensus>(
    open: impl AsyncFn() -> C,
    disturb: impl Fn() -> Result<(), String> + Clone + Send + 'static,
) {
    let mut resolved = 0;
    for round in 0..10 {
        resolved += history(&open().await, disturb.clone()).await;
        if round >= 1 && resolved > 0 {
            return;
        }
    }
    panic!("no call was ever in the way of what was done to the server");
}
