use bytes::Bytes;
use larder_core::channel::channel;
use larder_core::{Effect, Failure, Retry, SharedSpool, Spool, SpoolError, Timestamp};
use tokio::task::JoinSet;

use super::gather::{answers, is_missing, loads};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure};

laws! { SharedSpool, "shutdown";
    /// Shutting down twice, or twice at once, is Ok.
    shutdown_is_idempotent;
    /// After a shutdown every call on entries answers `ShuttingDown`, effect `NotApplied`, retry
    /// `Never`.
    calls_after_a_shutdown_are_refused;
    /// Stores and removes that are pending at a shutdown each end, with Ok or `ShuttingDown`.
    pending_calls_end_at_a_shutdown;
    /// After a reopening each store that ended Ok during a shutdown is there, and each that was
    /// refused as `NotApplied` is not.
    the_answers_given_during_a_shutdown_are_true [Reopen];
    /// An enumeration that runs during a shutdown ends, and its handle tells how.
    a_running_enumeration_ends_at_a_shutdown;
}

fn is_refused<T: std::fmt::Debug>(call: &str, answer: Result<T, SpoolError>) -> Verdict {
    match answer {
        Err(error @ SpoolError::ShuttingDown { .. }) => {
            answers(&error, Effect::NotApplied, Retry::Never)
        }
        answer => Err(Violation::new(format!(
            "{call} after a shutdown has to answer ShuttingDown: {answer:?}"
        ))),
    }
}

async fn shutdown_is_idempotent(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    spool.store(stage.id(), Bytes::from_static(b"x"), false, None).await?;
    let (one, other) = tokio::join!(spool.shutdown(), spool.shutdown());
    one?;
    other?;
    spool.shutdown().await?;
    Ok(())
}

async fn calls_after_a_shutdown_are_refused(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let (id, data) = (stage.id(), Bytes::from_static(b"x"));
    spool.store(id, data.clone(), false, None).await?;
    spool.shutdown().await?;
    is_refused("load", spool.load(id).await)?;
    for answer in spool.load_many(&[id, stage.id()]).await {
        is_refused("load_many", answer)?;
    }
    for force_sync in [false, true] {
        is_refused("store", spool.store(stage.id(), data.clone(), force_sync, None).await)?;
        let entries = vec![(stage.id(), data.clone())];
        is_refused("store_many", spool.store_many(entries, force_sync, None).await)?;
        is_refused("remove_many", spool.remove_many(vec![id], force_sync).await)?;
    }
    is_refused("remove", spool.remove(id).await)?;
    is_refused("remove_durable", spool.remove_durable(id).await)?;
    let (sender, _receiver) = channel(1);
    is_refused("enumerate", spool.enumerate(sender, Timestamp::MAX))?;
    let (sender, _receiver) = channel(1);
    is_refused("list", spool.list(sender, Timestamp::MAX))
}

/// Stores from many tasks while the spool is shut down; the answer of each.
async fn store_into_a_shutdown(
    stage: &Stage<SharedSpool>,
    spool: &SharedSpool,
) -> Result<Vec<(larder_core::SpoolId, Bytes, Result<(), SpoolError>)>, Violation> {
    let mut random = stage.random();
    let mut stores = JoinSet::new();
    for (turn, id) in stage.ids(64).into_iter().enumerate() {
        let (spool, data) = (spool.clone(), random.bytes(1_000));
        stores.spawn(async move {
            let answer = spool.store(id, data.clone(), turn % 2 == 0, None).await;
            (id, data, answer)
        });
    }
    tokio::task::yield_now().await;
    spool.shutdown().await?;
    let mut answers = Vec::new();
    while let Some(ended) = stores.join_next().await {
        answers.push(ended?);
    }
    Ok(answers)
}

async fn pending_calls_end_at_a_shutdown(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    for (id, _, answer) in store_into_a_shutdown(stage, &spool).await? {
        ensure!(
            matches!(answer, Ok(()) | Err(SpoolError::ShuttingDown { .. })),
            "the store of {id} was pending at the shutdown and has to end Ok or ShuttingDown: \
             {answer:?}"
        );
    }
    Ok(())
}

async fn the_answers_given_during_a_shutdown_are_true(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let answers = store_into_a_shutdown(stage, &spool).await?;
    let spool = stage.reopen(spool).await?;
    for (id, data, answer) in answers {
        match answer {
            Ok(()) => loads(&spool, id, &data, "acknowledged during a shutdown").await?,
            Err(error) if error.effect() == Effect::NotApplied => {
                is_missing(&spool, id, "refused during a shutdown").await?;
            }
            Err(_) => {}
        }
    }
    Ok(())
}

async fn a_running_enumeration_ends_at_a_shutdown(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let entries = stage.ids(50).into_iter().map(|id| (id, Bytes::from_static(b"x")));
    spool.store_many(entries.collect(), false, None).await?;
    let (sender, mut receiver) = channel(1);
    let handle = spool.enumerate(sender, Timestamp::MAX)?;
    ensure!(receiver.recv().await.is_some(), "an enumeration of 50 entries sent none");
    spool.shutdown().await?;
    let mut rest = 0;
    while receiver.recv().await.is_some() {
        rest += 1;
    }
    match handle.await {
        Ok(summary) => ensure!(
            summary.items == rest + 1,
            "the enumeration says complete with {} entries, but {} came",
            summary.items,
            rest + 1
        ),
        Err(aborted) => ensure!(
            aborted.so_far.items >= rest,
            "the aborted enumeration counts {} entries, but {rest} came after the shutdown",
            aborted.so_far.items
        ),
    }
    Ok(())
}
