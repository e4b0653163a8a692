use larder_core::{SharedSpool, Spool, Timestamp};

use super::gather::{gather, is_missing, loads};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure_eq};

laws! { SharedSpool, "closing and opening";
    /// What was stored, with and without `force_sync`, is there after a clean shutdown.
    a_clean_shutdown_loses_nothing [Reopen];
    /// What was removed or replaced before a clean shutdown does not come back.
    a_reopened_spool_brings_nothing_back [Reopen];
    /// A spool can be closed and opened many times and goes on where it was.
    a_spool_can_be_reopened_again_and_again [Reopen];
    /// The statistics of a reopened spool are those it was closed with.
    the_statistics_survive_a_reopening [Reopen, Exclusive];
    /// While a spool is open a second opening of its place fails and changes nothing.
    a_second_opening_fails_and_changes_nothing [SecondOpen];
    /// After a failed second opening and a shutdown the place opens again, with everything there.
    a_refused_second_opening_does_no_lasting_harm [SecondOpen, Reopen];
}

async fn a_clean_shutdown_loses_nothing(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let mut entries = Vec::new();
    for (turn, id) in stage.ids(60).into_iter().enumerate() {
        let data = random.bytes(turn * 100);
        spool.store(id, data.clone(), turn % 7 == 0, None).await?;
        entries.push((id, data));
    }
    let many: Vec<_> = stage.ids(10).into_iter().map(|id| (id, random.bytes(77))).collect();
    spool.store_many(many.clone(), false, None).await?;
    entries.extend(many);
    let spool = stage.reopen(spool).await?;
    for (id, data) in &entries {
        loads(&spool, *id, data, "after a clean shutdown").await?;
    }
    let gathered = gather(&spool, Timestamp::EPOCH).await?;
    for (id, data) in &entries {
        gathered.once(*id, data)?;
    }
    Ok(())
}

async fn a_reopened_spool_brings_nothing_back(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let [removed, durably, many, replaced, again] = std::array::from_fn(|_| stage.id());
    for id in [removed, durably, many, replaced, again] {
        spool.store(id, random.bytes(600), true, None).await?;
    }
    spool.remove(removed).await?;
    spool.remove_durable(durably).await?;
    spool.remove_many(vec![many], false).await?;
    spool.remove(again).await?;
    let (new, newer) = (random.bytes(50), random.bytes(800));
    spool.store(replaced, new.clone(), false, None).await?;
    spool.store(again, newer.clone(), false, None).await?;
    let mut spool = spool;
    for _ in 0..2 {
        spool = stage.reopen(spool).await?;
        for id in [removed, durably, many] {
            is_missing(&spool, id, "removed before a clean shutdown").await?;
        }
        loads(&spool, replaced, &new, "replaced before a clean shutdown").await?;
        loads(&spool, again, &newer, "removed and stored again before a clean shutdown").await?;
        spool.compact().await?;
    }
    Ok(())
}

async fn a_spool_can_be_reopened_again_and_again(stage: &Stage<SharedSpool>) -> Verdict {
    let mut spool = stage.open().await?;
    let mut random = stage.random();
    let mut entries = Vec::new();
    for round in 0..6 {
        for id in stage.ids(10) {
            let data = random.bytes(400);
            spool.store(id, data.clone(), round % 2 == 0, None).await?;
            entries.push((id, data));
        }
        let (gone, _) = entries.swap_remove(random.below(entries.len()));
        spool.remove(gone).await?;
        spool = stage.reopen(spool).await?;
        is_missing(&spool, gone, "removed in an earlier life").await?;
        for (id, data) in &entries {
            loads(&spool, *id, data, &format!("after {} reopenings", round + 1)).await?;
        }
    }
    Ok(())
}

async fn the_statistics_survive_a_reopening(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let ids = stage.ids(30);
    for id in &ids {
        spool.store(*id, random.bytes(123), false, None).await?;
    }
    for id in &ids[..10] {
        spool.remove(*id).await?;
    }
    let before = spool.stats().await?;
    let spool = stage.reopen(spool).await?;
    let after = spool.stats().await?;
    ensure_eq!((after.entries, after.bytes), (before.entries, before.bytes), "entries and bytes");
    ensure_eq!((after.entries, after.bytes, after.corrupt), (20, 20 * 123, 0), "what is stored");
    Ok(())
}

async fn a_second_opening_fails_and_changes_nothing(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let (id, data) = (stage.id(), stage.random().bytes(700));
    spool.store(id, data.clone(), true, None).await?;
    if stage.try_open().await.is_ok() {
        return Err(Violation::new("the place was opened twice at the same time"));
    }
    loads(&spool, id, &data, "after a second opening was refused").await?;
    let other = stage.id();
    spool.store(other, data.clone(), true, None).await?;
    loads(&spool, other, &data, "stored after a second opening was refused").await?;
    ensure_eq!(spool.unhealthy_reason(), None, "the health after a refused opening");
    Ok(())
}

async fn a_refused_second_opening_does_no_lasting_harm(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let (id, data) = (stage.id(), stage.random().bytes(700));
    spool.store(id, data.clone(), false, None).await?;
    for _ in 0..3 {
        if stage.try_open().await.is_ok() {
            return Err(Violation::new("the place was opened twice at the same time"));
        }
    }
    let spool = stage.reopen(spool).await?;
    loads(&spool, id, &data, "after refused openings and a shutdown").await
}
