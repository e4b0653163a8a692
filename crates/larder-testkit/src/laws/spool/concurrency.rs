use std::collections::BTreeMap;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{SharedSpool, Spool, SpoolError, SpoolId};
use tokio::task::JoinSet;

use super::gather::{gather, is_missing, loads};
use crate::law::laws;
use crate::{Random, Stage, Verdict, Violation, ensure};

laws! { SharedSpool, "concurrency";
    /// Stores of one id at the same time end with the payload of one of them, whole.
    stores_of_one_id_end_with_one_of_them;
    /// Callers that store, replace, load and remove ids of their own at the same time each find
    /// exactly what they left.
    callers_with_ids_of_their_own_do_not_disturb_one_another;
    /// Stores and removes of the same ids at the same time leave each id either missing or with a
    /// payload that was stored under it.
    stores_and_removes_of_the_same_ids_mix_nothing_up;
    /// A store whose future is dropped happens as a whole or not at all, and disturbs no other
    /// call.
    a_cancelled_store_is_whole_or_nothing;
    /// A store with `force_sync` that has to wait for the device does not hold up loads.
    loads_go_on_beside_durable_stores;
}

async fn stores_of_one_id_end_with_one_of_them(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let id = stage.id();
    let payloads: Vec<Bytes> = (0..24)
        .map(|_| {
            let len = random.below(5_000);
            random.bytes(len)
        })
        .collect();
    let mut stores = JoinSet::new();
    for (turn, data) in payloads.iter().cloned().enumerate() {
        let spool = spool.clone();
        stores.spawn(async move { spool.store(id, data, turn % 2 == 0, None).await });
    }
    while let Some(stored) = stores.join_next().await {
        stored??;
    }
    let seen = spool.load(id).await?;
    ensure!(
        payloads.contains(&seen),
        "after 24 stores at once {id} has {} bytes that none of them stored",
        seen.len()
    );
    ensure!(spool.load(id).await? == seen, "the payload changed after all stores had ended");
    Ok(())
}

/// One caller: random calls on ids of its own, each checked against what it did before.
async fn one_caller(spool: SharedSpool, ids: Vec<SpoolId>, mut random: Random) -> Verdict {
    let mut model = BTreeMap::<SpoolId, Bytes>::new();
    for _ in 0..60 {
        let id = ids[random.below(ids.len())];
        match random.below(4) {
            0 => {
                spool.remove(id).await?;
                model.remove(&id);
            }
            1 => match model.get(&id) {
                Some(data) => loads(&spool, id, data, "in the middle of other callers").await?,
                None => is_missing(&spool, id, "in the middle of other callers").await?,
            },
            _ => {
                let len = random.below(3_000);
                let data = random.bytes(len);
                spool.store(id, data.clone(), random.happens(30), None).await?;
                model.insert(id, data);
            }
        }
    }
    for id in ids {
        match model.get(&id) {
            Some(data) => loads(&spool, id, data, "at the end of one caller").await?,
            None => is_missing(&spool, id, "at the end of one caller").await?,
        }
    }
    Ok(())
}

async fn callers_with_ids_of_their_own_do_not_disturb_one_another(
    stage: &Stage<SharedSpool>,
) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        callers.spawn(one_caller(spool.clone(), stage.ids(6), random.fork()));
    }
    while let Some(verdict) = callers.join_next().await {
        verdict??;
    }
    Ok(())
}

async fn stores_and_removes_of_the_same_ids_mix_nothing_up(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let ids = stage.ids(4);
    let mut callers = JoinSet::new();
    for _ in 0..8 {
        let (spool, ids, mut random) = (spool.clone(), ids.clone(), random.fork());
        callers.spawn(async move {
            for _ in 0..40 {
                let id = ids[random.below(ids.len())];
                if random.happens(40) {
                    spool.remove(id).await?;
                } else {
                    // The payload names its id, and a mixture of two would not repeat evenly.
                    let mut data = id.as_bytes().repeat(1 + random.below(100));
                    data.push(0xEE);
                    spool.store(id, data.into(), false, None).await?;
                }
            }
            Ok::<_, SpoolError>(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    let gathered = gather(&spool, larder_core::Timestamp::MAX).await?;
    for id in ids {
        match spool.load(id).await {
            Err(SpoolError::NotFound { .. }) => {
                ensure!(gathered.times(id) == 0, "{id} is missing but was enumerated");
            }
            Err(error) => return Err(error.into()),
            Ok(seen) => {
                let (end, rest) = seen.split_last().unwrap_or((&0, &[]));
                let whole = *end == 0xEE && rest.chunks(16).all(|chunk| chunk == id.as_bytes());
                ensure!(whole, "{id} has {} bytes that nobody stored under it", seen.len());
                gathered.once(id, &seen)?;
            }
        }
    }
    Ok(())
}

async fn a_cancelled_store_is_whole_or_nothing(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let mut fates = Vec::new();
    for turn in 0..60 {
        let id = stage.id();
        let old = (turn % 3 == 0).then(|| random.bytes(200));
        if let Some(old) = &old {
            spool.store(id, old.clone(), false, None).await?;
        }
        let new = random.bytes(2_000);
        let store = spool.store(id, new.clone(), turn % 2 == 0, None);
        // From not polled at all to long enough for some to finish.
        let patience = Duration::from_micros(u64::try_from(turn)? * 15);
        if turn > 0 {
            let _ = tokio::time::timeout(patience, store).await;
        }
        fates.push((id, old, new));
    }
    let (after, data) = (stage.id(), random.bytes(300));
    spool.store(after, data.clone(), true, None).await?;
    loads(&spool, after, &data, "stored after 60 cancelled stores").await?;
    for (id, old, new) in fates {
        let is_promised = match (spool.load(id).await, &old) {
            (Ok(seen), Some(old)) => seen == new || seen == *old,
            (Ok(seen), None) => seen == new,
            (Err(SpoolError::NotFound { .. }), old) => old.is_none(),
            (Err(error), _) => return Err(error.into()),
        };
        ensure!(is_promised, "a cancelled store of {id} left neither the old nor the new payload");
    }
    Ok(())
}

async fn loads_go_on_beside_durable_stores(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let (id, data) = (stage.id(), random.bytes(1_000));
    spool.store(id, data.clone(), true, None).await?;
    let mut stores = JoinSet::new();
    for store_id in stage.ids(16) {
        let (spool, payload) = (spool.clone(), random.bytes(10_000));
        stores.spawn(async move { spool.store(store_id, payload, true, None).await });
    }
    for _ in 0..200 {
        loads(&spool, id, &data, "beside durable stores").await?;
        tokio::task::yield_now().await;
    }
    while let Some(stored) = stores.join_next().await {
        stored?.map_err(Violation::from)?;
    }
    Ok(())
}
