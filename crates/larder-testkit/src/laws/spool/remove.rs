use larder_core::{SharedSpool, Spool, SpoolError, SpoolId};

use super::gather::{gather, is_missing, loads};
use crate::law::laws;
use crate::{Stage, Verdict, ensure_eq};

laws! { SharedSpool, "remove";
    /// A removed entry is missing at once, on load and in enumerations, for the plain and for the
    /// durable remove.
    a_removed_entry_is_missing;
    /// Removing an id that is missing is Ok on every backend, also twice, also durably, so that a
    /// retry does no harm.
    removing_a_missing_id_is_ok;
    /// A removed id can be stored again and shows only what was stored last.
    a_removed_id_can_be_stored_again;
    /// Removing an entry touches no other one.
    a_remove_touches_no_other_entry;
    /// Removing many ids removes each of them, with missing and repeated ids among them.
    removing_many_removes_each;
}

/// The three ways to remove one entry.
async fn remove_by(spool: &SharedSpool, way: usize, id: SpoolId) -> Result<(), SpoolError> {
    match way {
        0 => spool.remove(id).await,
        1 => spool.remove_durable(id).await,
        2 => spool.remove_many(vec![id], false).await,
        _ => spool.remove_many(vec![id], true).await,
    }
}

async fn a_removed_entry_is_missing(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    for way in 0..4 {
        let id = stage.id();
        spool.store(id, stage.random().bytes(300), true, None).await?;
        remove_by(&spool, way, id).await?;
        is_missing(&spool, id, "after it was removed").await?;
        let gathered = gather(&spool, larder_core::Timestamp::MAX).await?;
        ensure_eq!(gathered.times(id), 0, "a removed entry does not come in an enumeration");
    }
    Ok(())
}

async fn removing_a_missing_id_is_ok(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    for way in 0..4 {
        let (never, once) = (stage.id(), stage.id());
        remove_by(&spool, way, never).await?;
        spool.store(once, stage.random().bytes(10), false, None).await?;
        remove_by(&spool, way, once).await?;
        remove_by(&spool, way, once).await?;
        is_missing(&spool, never, "that was only removed").await?;
    }
    Ok(())
}

async fn a_removed_id_can_be_stored_again(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let id = stage.id();
    for way in 0..4 {
        let data = random.bytes(1_000 >> way);
        spool.store(id, data.clone(), false, None).await?;
        loads(&spool, id, &data, "stored again after a remove").await?;
        remove_by(&spool, way, id).await?;
        is_missing(&spool, id, "removed again").await?;
    }
    Ok(())
}

async fn a_remove_touches_no_other_entry(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let entries: Vec<_> = stage.ids(40).into_iter().map(|id| (id, random.bytes(50))).collect();
    spool.store_many(entries.clone(), false, None).await?;
    for (id, _) in entries.iter().step_by(2) {
        spool.remove(*id).await?;
    }
    for (place, (id, data)) in entries.iter().enumerate() {
        if place % 2 == 0 {
            is_missing(&spool, *id, "that was removed").await?;
        } else {
            loads(&spool, *id, data, "beside a removed one").await?;
        }
    }
    Ok(())
}

async fn removing_many_removes_each(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    for durable in [false, true] {
        let data = stage.random().bytes(20);
        let (ids, kept) = (stage.ids(20), stage.id());
        let all = ids.iter().chain([&kept]);
        spool.store_many(all.map(|id| (*id, data.clone())).collect(), false, None).await?;
        let mut removed = ids.clone();
        removed.extend([ids[0], stage.id(), ids[7]]);
        spool.remove_many(removed, durable).await?;
        for id in ids {
            is_missing(&spool, id, "after many were removed").await?;
        }
        loads(&spool, kept, &data, "that was not among those removed").await?;
    }
    spool.remove_many(Vec::new(), true).await?;
    Ok(())
}
