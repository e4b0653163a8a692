use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{CaSResult, ConsensusError, SeqNo, SharedConsensus, VersionedData};
use tokio::task::JoinSet;

use crate::history::{Answer, Call, History, Recorder};
use crate::law::laws;
use crate::{Random, Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedConsensus, "histories";
    /// Whatever concurrent clients of one key are told (commits, mismatches, heads, scans), one
    /// order of all their calls explains it, and that order agrees with real time.
    concurrent_histories_are_linearizable;
    /// The same with truncations among the calls; their counts add up to the versions that are
    /// gone.
    concurrent_histories_with_truncations_are_linearizable;
    /// The same with clients that drop their calls: what was dropped happened as a whole, at some
    /// moment, or not at all.
    concurrent_histories_with_dropped_calls_are_linearizable;
    /// Short histories are judged by trying every order.
    short_histories_have_an_order;
}

/// What clients do in a history.
#[derive(Clone, Copy)]
struct Mix {
    clients: usize,
    calls: usize,
    truncations: u8,
    drops: u8,
}

async fn concurrent_histories_are_linearizable(stage: &Stage<SharedConsensus>) -> Verdict {
    let mix = Mix { clients: 6, calls: 30, truncations: 0, drops: 0 };
    rounds(stage, mix, 4, History::check).await
}

async fn concurrent_histories_with_truncations_are_linearizable(
    stage: &Stage<SharedConsensus>,
) -> Verdict {
    let mix = Mix { clients: 6, calls: 30, truncations: 15, drops: 0 };
    rounds(stage, mix, 4, |history| {
        history.check()?;
        counts_add_up(history)
    })
    .await
}

async fn concurrent_histories_with_dropped_calls_are_linearizable(
    stage: &Stage<SharedConsensus>,
) -> Verdict {
    let mix = Mix { clients: 6, calls: 30, truncations: 5, drops: 20 };
    rounds(stage, mix, 4, History::check).await
}

async fn short_histories_have_an_order(stage: &Stage<SharedConsensus>) -> Verdict {
    let mix = Mix { clients: 3, calls: 3, truncations: 15, drops: 10 };
    rounds(stage, mix, 25, |history| {
        ensure!(history.search() != Some(false), "no order explains {:#?}", history.events);
        history.check()
    })
    .await
}

/// Records so many histories, each on a key of its own, and judges each.
async fn rounds(
    stage: &Stage<SharedConsensus>,
    mix: Mix,
    count: usize,
    judge: impl Fn(&History) -> Verdict,
) -> Verdict {
    let store = stage.open().await?;
    let mut random = stage.random();
    for round in 0..count {
        let recorder = Arc::new(Recorder::new(stage.key(round)));
        let mut clients = JoinSet::new();
        for client in 0..mix.clients {
            let (store, recorder) = (store.clone(), Arc::clone(&recorder));
            clients.spawn(live(store, recorder, mix, client, random.fork()));
        }
        while let Some(ended) = clients.join_next().await {
            ended??;
        }
        // Ties everything that was acknowledged to what is there in the end.
        recorder.scan(&store, SeqNo::MIN, usize::MAX).await?;
        judge(&recorder.history())?;
    }
    Ok(())
}

/// The life of one client.
async fn live(
    store: SharedConsensus,
    recorder: Arc<Recorder>,
    mix: Mix,
    client: usize,
    mut random: Random,
) -> Verdict {
    let mut head = None;
    for turn in 0..mix.calls {
        let dropped = random.happens(mix.drops);
        let patience = Duration::from_micros(u64::try_from(random.below(200))?);
        let call = one_call(&store, &recorder, mix, (client, turn), &mut head, &mut random);
        if dropped {
            // Dropped before, in the middle of or after its work.
            if let Ok(answer) = tokio::time::timeout(patience, call).await {
                answer?;
            }
        } else {
            call.await?;
        }
        tokio::task::yield_now().await;
    }
    Ok(())
}

async fn one_call(
    store: &SharedConsensus,
    recorder: &Recorder,
    mix: Mix,
    (client, turn): (usize, usize),
    head: &mut Option<SeqNo>,
    random: &mut Random,
) -> Result<(), ConsensusError> {
    if random.happens(mix.truncations) {
        let below = head
            .map_or(SeqNo(1), |SeqNo(head)| SeqNo((head + 1).saturating_sub(random.word() % 3)));
        return is_fine(recorder.truncate(store, below).await);
    }
    match random.below(10) {
        0..=1 => {
            *head = recorder.head(store).await?.map(|head| head.seqno);
        }
        2 => {
            let from = head.map_or(0, |SeqNo(head)| head.saturating_sub(random.word() % 5));
            recorder.scan(store, SeqNo(from), random.below(6)).await?;
        }
        _ => {
            // Mostly what was last seen, sometimes what is long gone or was never there.
            let expected = match random.below(8) {
                0 => None,
                1 => head.map(|SeqNo(head)| SeqNo(head.saturating_sub(1))),
                _ => *head,
            };
            let seqno = expected.map_or(0, |SeqNo(expected)| expected + 1) + random.word() % 3;
            let data = Bytes::from(format!("{client}.{turn} after {expected:?}"));
            let new = VersionedData { seqno: SeqNo(seqno), data };
            *head = match recorder.compare_and_set(store, expected, new).await? {
                CaSResult::Committed => Some(SeqNo(seqno)),
                CaSResult::ExpectationMismatch { current } => current,
            };
        }
    }
    Ok(())
}

/// A truncation may be refused: the head that the client saw may be a guess.
fn is_fine(answer: Result<usize, ConsensusError>) -> Result<(), ConsensusError> {
    match answer {
        Ok(_) | Err(ConsensusError::Determinate(_)) => Ok(()),
        Err(error) => Err(error),
    }
}

/// What was committed is what truncations counted and what is left.
fn counts_add_up(history: &History) -> Verdict {
    let (mut committed, mut deleted, mut left) = (0, 0, 0);
    for event in &history.events {
        match (&event.call, &event.answer) {
            (_, Answer::Swapped(CaSResult::Committed)) => committed += 1,
            (_, Answer::Truncated(count)) => deleted += count,
            (Call::Scan { limit: usize::MAX, .. }, Answer::Scanned(versions)) => {
                left = versions.len();
            }
            (_, Answer::Unknown) => {
                return Err(Violation::new("a call that was not dropped has no known outcome"));
            }
            _ => {}
        }
    }
    ensure_eq!(deleted + left, committed, "versions truncated and left, against those committed");
    Ok(())
}
