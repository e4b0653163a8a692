use larder_core::{SharedSpool, Spool, SpoolId};

use super::gather::{gather, is_missing, loads, size};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure_eq};

laws! { SharedSpool, "maintenance and health";
    /// `cleanup`, `compact`, `advise_low_memory` and `acknowledge` lose nothing and bring nothing
    /// back, in any order, twice too.
    maintenance_loses_nothing_and_brings_nothing_back;
    /// A spool that works says that it is healthy: `unhealthy_reason` is `None`.
    a_working_spool_is_healthy;
    /// The statistics count the entries and the bytes of their payloads, through replacements and
    /// removes.
    the_statistics_agree_with_what_is_stored [Exclusive];
    /// What the durability of a spool is does not change while it is open.
    the_durability_is_constant;
}

/// Every maintenance call; one that finds nothing to do is Ok.
async fn maintain(spool: &SharedSpool) -> Verdict {
    spool.cleanup().await?;
    spool.advise_low_memory().await?;
    spool.compact().await?;
    spool.acknowledge().await?;
    Ok(())
}

async fn maintenance_loses_nothing_and_brings_nothing_back(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    maintain(&spool).await?;
    let mut kept = Vec::new();
    let mut gone: Vec<SpoolId> = Vec::new();
    for round in 0..4 {
        for id in stage.ids(25) {
            spool.store(id, random.bytes(900), round == 0, None).await?;
            match random.below(3) {
                0 => {
                    spool.remove(id).await?;
                    gone.push(id);
                }
                1 => {
                    let data = random.bytes(1_100);
                    spool.store(id, data.clone(), false, None).await?;
                    kept.push((id, data));
                }
                _ => kept.push((id, spool.load(id).await?)),
            }
        }
        maintain(&spool).await?;
        if let Some((id, _)) = (round == 2).then(|| kept.swap_remove(0)) {
            spool.remove_durable(id).await?;
            gone.push(id);
        }
        for (id, data) in &kept {
            loads(&spool, *id, data, "after maintenance").await?;
        }
        for id in &gone {
            is_missing(&spool, *id, "removed before maintenance").await?;
        }
    }
    maintain(&spool).await?;
    maintain(&spool).await?;
    let gathered = gather(&spool, larder_core::Timestamp::MAX).await?;
    for (id, data) in &kept {
        gathered.once(*id, data)?;
    }
    match gone.iter().find(|id| gathered.times(**id) > 0) {
        Some(id) => {
            Err(Violation::new(format!("{id} was removed and came back in an enumeration")))
        }
        None => Ok(()),
    }
}

async fn a_working_spool_is_healthy(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    ensure_eq!(spool.unhealthy_reason(), None, "the health of a spool that was just opened");
    let id = stage.id();
    spool.store(id, stage.random().bytes(100), true, None).await?;
    ensure_eq!(spool.unhealthy_reason(), None, "the health of a spool that took a store");
    // What is refused for the caller's own reasons says nothing about the spool.
    let late = Some(stage.instant());
    let refused = spool.store(stage.id(), stage.random().bytes(1), true, late).await;
    ensure_eq!(refused.is_err(), true, "a store with a past deadline is refused");
    is_missing(&spool, stage.id(), "that was never stored").await?;
    ensure_eq!(spool.unhealthy_reason(), None, "the health after callers' own mistakes");
    Ok(())
}

async fn the_statistics_agree_with_what_is_stored(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let ids = stage.ids(20);
    let mut bytes = 0;
    for (len, id) in ids.iter().enumerate() {
        let data = random.bytes(len * 10);
        bytes += size(&data);
        spool.store(*id, data, false, None).await?;
    }
    let stats = spool.stats().await?;
    ensure_eq!((stats.entries, stats.bytes), (20, bytes), "entries and bytes after 20 stores");
    ensure_eq!(stats.corrupt, 0, "damaged entries of an intact spool");

    spool.store(ids[19], random.bytes(5), false, None).await?;
    spool.remove(ids[0]).await?;
    spool.remove(ids[10]).await?;
    spool.remove(ids[10]).await?;
    let promised = (18, bytes - 190 + 5 - 100);
    let stats = spool.stats().await?;
    ensure_eq!(
        (stats.entries, stats.bytes),
        promised,
        "entries and bytes after a replacement and two removes"
    );
    spool.compact().await?;
    let stats = spool.stats().await?;
    ensure_eq!((stats.entries, stats.bytes), promised, "entries and bytes after compaction");
    Ok(())
}

async fn the_durability_is_constant(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let at_open = spool.durability();
    spool.store(stage.id(), stage.random().bytes(10), true, None).await?;
    ensure_eq!(spool.durability(), at_open, "the durability after a store");
    Ok(())
}
