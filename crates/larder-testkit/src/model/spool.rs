//! Random calls on a spool.

use std::collections::{BTreeMap, BTreeSet};

use bytes::Bytes;
use larder_core::channel::{DEFAULT_CAPACITY, channel};
use larder_core::{
    Listing, MemorySpool, SharedSpool, Spool, SpoolEntry, SpoolError, SpoolId, Timestamp,
};
use proptest::collection::vec;
use proptest::prelude::any;
use proptest::prop_oneof;
use proptest::strategy::{BoxedStrategy, Just, Strategy as _};

use super::payload;
use crate::{Stage, Verdict, Violation, ensure_eq};

/// How many ids the calls are spread over.
const IDS: usize = 6;

/// One call; ids are places in a small table.
#[derive(Clone, Debug)]
pub(crate) enum SpoolCall {
    Store(usize, u16, bool),
    StoreMany(BTreeMap<usize, u16>, bool),
    StoreTooLate(usize, u16),
    Load(usize),
    LoadMany(Vec<usize>),
    Remove(usize, bool),
    RemoveMany(Vec<usize>, bool),
    Enumerate,
    List,
    Maintain,
    Reopen,
}

/// Calls without reopening.
pub(crate) fn calls() -> BoxedStrategy<SpoolCall> {
    let id = || 0..IDS;
    let len = || prop_oneof![Just(0_u16), 1..60_u16, 1..5_000_u16];
    prop_oneof![
        6 => (id(), len(), any::<bool>()).prop_map(|(id, len, sync)| SpoolCall::Store(id, len, sync)),
        2 => (proptest::collection::btree_map(id(), len(), 0..IDS), any::<bool>())
            .prop_map(|(entries, sync)| SpoolCall::StoreMany(entries, sync)),
        1 => (id(), len()).prop_map(|(id, len)| SpoolCall::StoreTooLate(id, len)),
        3 => id().prop_map(SpoolCall::Load),
        1 => vec(id(), 0..8).prop_map(SpoolCall::LoadMany),
        3 => (id(), any::<bool>()).prop_map(|(id, durable)| SpoolCall::Remove(id, durable)),
        1 => (vec(id(), 0..4), any::<bool>())
            .prop_map(|(ids, durable)| SpoolCall::RemoveMany(ids, durable)),
        1 => Just(SpoolCall::Enumerate),
        1 => Just(SpoolCall::List),
        1 => Just(SpoolCall::Maintain),
    ]
    .boxed()
}

/// Calls with reopening.
pub(crate) fn calls_and_reopenings() -> BoxedStrategy<SpoolCall> {
    prop_oneof![9 => calls(), 1 => Just(SpoolCall::Reopen)].boxed()
}

/// Plays the calls on `spool` and on a new reference spool.
pub(crate) async fn play(
    stage: Stage<SharedSpool>,
    spool: SharedSpool,
    calls: Vec<SpoolCall>,
) -> (SharedSpool, Verdict) {
    let ids = stage.ids(IDS);
    let model = MemorySpool::default();
    let mut spool = spool;
    for (turn, call) in calls.into_iter().enumerate() {
        if matches!(call, SpoolCall::Reopen) {
            match stage.reopen(spool.clone()).await {
                Ok(reopened) => spool = reopened,
                Err(violation) => return (spool, Err(violation)),
            }
            continue;
        }
        let shown = format!("call {turn}, {call:?}");
        let verdict = step(&stage, &spool, &model, &ids, turn, call).await;
        if let Err(violation) = verdict {
            return (spool, Err(violation.while_doing(&shown)));
        }
    }
    let verdict = agree(&spool, &model, &ids).await;
    // Leaves room for the next sequence; what it cannot remove shows there.
    let _ = spool.remove_many(ids, false).await;
    (spool, verdict)
}

async fn step(
    stage: &Stage<SharedSpool>,
    spool: &SharedSpool,
    model: &MemorySpool,
    ids: &[SpoolId],
    turn: usize,
    call: SpoolCall,
) -> Verdict {
    match call {
        SpoolCall::Store(id, len, sync) => {
            let data = payload(turn, len);
            spool.store(ids[id], data.clone(), sync, None).await?;
            model.store(ids[id], data, sync, None).await?;
        }
        SpoolCall::StoreMany(entries, sync) => {
            let entry = |(id, len): (usize, u16)| (ids[id], payload(turn + id, len));
            let entries: Vec<_> = entries.into_iter().map(entry).collect();
            spool.store_many(entries.clone(), sync, None).await?;
            model.store_many(entries, sync, None).await?;
        }
        SpoolCall::StoreTooLate(id, len) => {
            let late = Some(stage.instant());
            let answer = spool.store(ids[id], payload(turn, len), true, late).await;
            let refused = matches!(answer, Err(SpoolError::CallerDeadlineExceeded { .. }));
            ensure_eq!(refused, true, "a past deadline is refused, {answer:?}");
        }
        SpoolCall::Load(id) => {
            ensure_eq!(load(spool, ids[id]).await?, load(model, ids[id]).await?, "a load");
        }
        SpoolCall::LoadMany(places) => {
            let asked: Vec<_> = places.into_iter().map(|place| ids[place]).collect();
            let seen = spool.load_many(&asked).await.into_iter().map(known);
            let promised = model.load_many(&asked).await.into_iter().map(known);
            let seen = seen.collect::<Result<Vec<_>, _>>()?;
            ensure_eq!(seen, promised.collect::<Result<Vec<_>, _>>()?, "a load of many");
        }
        SpoolCall::Remove(id, durable) => {
            if durable {
                spool.remove_durable(ids[id]).await?;
            } else {
                spool.remove(ids[id]).await?;
            }
            model.remove(ids[id]).await?;
        }
        SpoolCall::RemoveMany(places, durable) => {
            let removed: Vec<_> = places.into_iter().map(|place| ids[place]).collect();
            spool.remove_many(removed.clone(), durable).await?;
            model.remove_many(removed, durable).await?;
        }
        SpoolCall::Enumerate => agree(spool, model, ids).await?,
        SpoolCall::List => {
            ensure_eq!(sizes(spool, ids).await?, sizes(model, ids).await?, "a listing");
        }
        SpoolCall::Maintain => {
            spool.cleanup().await?;
            spool.advise_low_memory().await?;
            spool.compact().await?;
        }
        // A reopening changes the handle, so `play` does it.
        SpoolCall::Reopen => {}
    }
    Ok(())
}

fn known(answer: Result<Bytes, SpoolError>) -> Result<Option<Bytes>, SpoolError> {
    match answer {
        Ok(data) => Ok(Some(data)),
        Err(SpoolError::NotFound { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

async fn load(spool: &impl Spool, id: SpoolId) -> Result<Option<Bytes>, SpoolError> {
    known(spool.load(id).await)
}

/// Both enumerate the same entries under `ids`.
async fn agree(spool: &SharedSpool, model: &MemorySpool, ids: &[SpoolId]) -> Verdict {
    ensure_eq!(entries(spool, ids).await?, entries(model, ids).await?, "an enumeration");
    Ok(())
}

async fn entries(
    spool: &impl Spool,
    ids: &[SpoolId],
) -> Result<BTreeSet<(SpoolId, Bytes)>, Violation> {
    let (sender, mut receiver) = channel(DEFAULT_CAPACITY);
    let handle = spool.enumerate(sender, Timestamp::MAX)?;
    let mut entries = BTreeSet::new();
    while let Some(entry) = receiver.recv().await {
        if let SpoolEntry::Item { id, data } = entry
            && ids.contains(&id)
        {
            let again = !entries.insert((id, data));
            ensure_eq!(again, false, "whether {id} came again");
        }
    }
    handle.await?;
    Ok(entries)
}

async fn sizes(spool: &impl Spool, ids: &[SpoolId]) -> Result<BTreeMap<SpoolId, u64>, Violation> {
    let (sender, mut receiver) = channel(DEFAULT_CAPACITY);
    let handle = spool.list(sender, Timestamp::MAX)?;
    let mut sizes = BTreeMap::new();
    while let Some(entry) = receiver.recv().await {
        if let Listing::Item { id, size } = entry
            && ids.contains(&id)
        {
            let before = sizes.insert(id, size);
            ensure_eq!(before, None, "the size under which {id} was listed before");
        }
    }
    handle.await?;
    Ok(sizes)
}
