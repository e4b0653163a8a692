use bytes::Bytes;
use larder_core::channel::{DEFAULT_CAPACITY, channel};
use larder_core::{
    Effect, Retry, SharedSpool, Spool, SpoolEntry, SpoolError, SpoolHealth, SpoolId, Timestamp,
};

use super::gather::{answers, gather, is_missing, list, loads};
use crate::law::laws;
use crate::{Harm, Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedSpool, "the gate";
    /// While the gate is closed every store is refused with effect `NotApplied` and retry `Later`, one
    /// of many payloads as a whole: nothing of it is there, and what it would have replaced stays.
    a_closed_gate_refuses_every_store [Reopen, Gate];
    /// While the gate is closed `load`, `enumerate`, `list` and every `remove` work as ever.
    a_closed_gate_lets_loads_and_removes_pass [Reopen, Gate];
    /// While the gate is closed maintenance and shutdown work as ever and lose nothing.
    a_closed_gate_stands_in_no_way_of_maintenance [Reopen, Gate];
    /// A closed gate says why, in words without figures, ids or paths, and the statistics name a
    /// condition that sheds, with figures or not.
    a_closed_gate_says_why [Reopen, Gate];
    /// When what closed the gate has passed, stores are taken again, and nothing is lost or back.
    a_gate_opens_when_its_cause_has_passed [Reopen, Gate];
    /// When a part of what was stored is lost as a whole the gate is closed, over reopenings too, until
    /// the operator acknowledges it, and is told what: then stores are taken, now and after the next
    /// opening.
    structural_damage_closes_the_gate_until_it_is_acknowledged [Exclusive, Reopen, Damage];
    /// Behind a gate that structural damage closed everything else loads, nothing is served that was not
    /// stored, removes work, and `compact` tells the damage as an error.
    structural_damage_spares_the_rest [Exclusive, Reopen, Damage];
    /// One rotten payload answers `Corrupt`, comes once as `Corrupt` in an enumeration, is counted, and
    /// closes nothing.
    one_rotten_payload_closes_nothing [Exclusive, Reopen, Damage];
}

type Stored = Vec<(SpoolId, Bytes)>;

/// A spool that holds some entries and was opened with its gate closed.
async fn shut(stage: &Stage<SharedSpool>) -> Result<(SharedSpool, Stored), Violation> {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let mut stored = Vec::new();
    for id in stage.ids(8) {
        let data = random.bytes(500);
        spool.store(id, data.clone(), true, None).await?;
        stored.push((id, data));
    }
    let spool = stage.reopen_shut(spool).await?;
    ensure!(spool.unhealthy_reason().is_some(), "the gate has to be closed from the first call on");
    Ok((spool, stored))
}

/// A store that a closed gate answers.
fn is_refused(answer: Result<(), SpoolError>, what: &str) -> Verdict {
    match answer {
        Err(error @ (SpoolError::Unhealthy { .. } | SpoolError::NoSpace { .. })) => {
            answers(&error, Effect::NotApplied, Retry::Later)
        }
        answer => Err(Violation::new(format!(
            "{what} at a closed gate has to be refused as Unhealthy or NoSpace: {answer:?}"
        ))),
    }
}

async fn all_load(spool: &SharedSpool, stored: &Stored, when: &str) -> Verdict {
    for (id, data) in stored {
        loads(spool, *id, data, when).await?;
    }
    Ok(())
}

async fn a_closed_gate_refuses_every_store(stage: &Stage<SharedSpool>) -> Verdict {
    let (spool, stored) = shut(stage).await?;
    let mut random = stage.random();
    for force_sync in [false, true] {
        let id = stage.id();
        is_refused(spool.store(id, random.bytes(10), force_sync, None).await, "a store")?;
        is_missing(&spool, id, "that a closed gate refused").await?;
        let replacing = spool.store(stored[0].0, random.bytes(10), force_sync, None).await;
        is_refused(replacing, "a replacement")?;
        let many: Stored = vec![(stored[1].0, random.bytes(9)), (id, random.bytes(9))];
        is_refused(spool.store_many(many, force_sync, None).await, "a store of many")?;
        is_missing(&spool, id, "among many that a closed gate refused").await?;
    }
    all_load(&spool, &stored, "after refused replacements").await?;
    let spool = stage.reopen(spool).await?;
    all_load(&spool, &stored, "after refused replacements and a reopening").await
}

async fn a_closed_gate_lets_loads_and_removes_pass(stage: &Stage<SharedSpool>) -> Verdict {
    let (spool, mut stored) = shut(stage).await?;
    all_load(&spool, &stored, "behind a closed gate").await?;
    let ids: Vec<SpoolId> = stored.iter().map(|(id, _)| *id).collect();
    for (answer, (id, data)) in spool.load_many(&ids).await.into_iter().zip(&stored) {
        ensure_eq!(answer?, *data, "the payload of {id} among many behind a closed gate");
    }
    spool.remove(ids[0]).await?;
    spool.remove(ids[0]).await?;
    spool.remove_durable(ids[1]).await?;
    spool.remove_many(vec![ids[2], ids[3]], true).await?;
    stored.drain(..4);
    for id in &ids[..4] {
        is_missing(&spool, *id, "removed behind a closed gate").await?;
    }
    let gathered = gather(&spool, Timestamp::MAX).await?;
    let (listed, _) = list(&spool, Timestamp::MAX).await?;
    for (id, data) in &stored {
        gathered.once(*id, data)?;
        ensure_eq!(listed.get(id).map(Vec::len), Some(1), "how often {id} is listed");
    }
    let spool = stage.reopen(spool).await?;
    for id in &ids[..4] {
        is_missing(&spool, *id, "removed behind a closed gate, in the next life").await?;
    }
    all_load(&spool, &stored, "left behind a closed gate").await
}

async fn a_closed_gate_stands_in_no_way_of_maintenance(stage: &Stage<SharedSpool>) -> Verdict {
    let (spool, mut stored) = shut(stage).await?;
    spool.remove(stored.remove(0).0).await?;
    spool.cleanup().await?;
    spool.compact().await?;
    spool.advise_low_memory().await?;
    spool.acknowledge().await?;
    spool.stats().await?;
    ensure!(
        spool.unhealthy_reason().is_some(),
        "what can pass is not acknowledged away: the gate has to stay closed"
    );
    all_load(&spool, &stored, "after maintenance behind a closed gate").await?;
    let spool = stage.reopen_shut(spool).await?;
    all_load(&spool, &stored, "after a shutdown behind a closed gate").await
}

async fn a_closed_gate_says_why(stage: &Stage<SharedSpool>) -> Verdict {
    let (spool, _) = shut(stage).await?;
    let reason = spool.unhealthy_reason().unwrap_or_default();
    let bland = |text: &str| {
        !text.is_empty() && !text.contains(|c: char| c.is_ascii_digit() || c == '/' || c == '\\')
    };
    ensure!(bland(reason), "the reason has to be bland text, but is {reason:?}");
    let sheds = |spool: &larder_core::SpoolStats| {
        spool.conditions.iter().filter(|c| c.state == SpoolHealth::Shedding).count()
    };
    let stats = spool.stats().await?;
    ensure!(sheds(&stats) > 0, "no condition sheds: {:?}", stats.conditions);
    ensure_eq!(stats.health(), SpoolHealth::Shedding, "the health of a spool with a closed gate");
    let spool = stage.reopen(spool).await?;
    let stats = spool.stats().await?;
    ensure_eq!(spool.unhealthy_reason(), None, "the reason of an open gate");
    ensure_eq!(sheds(&stats), 0, "conditions that shed while the gate is open");
    Ok(())
}

async fn a_gate_opens_when_its_cause_has_passed(stage: &Stage<SharedSpool>) -> Verdict {
    let (mut spool, mut stored) = shut(stage).await?;
    let mut random = stage.random();
    for round in 0..3 {
        let refused = stage.id();
        is_refused(spool.store(refused, random.bytes(10), true, None).await, "a store")?;
        let (gone, _) = stored.remove(0);
        spool.remove(gone).await?;
        spool = stage.reopen(spool).await?;
        ensure_eq!(spool.unhealthy_reason(), None, "the health once the cause has passed");
        for id in [refused, gone] {
            is_missing(&spool, id, "refused or removed while the gate was closed").await?;
        }
        let (id, data) = (stage.id(), random.bytes(100));
        spool.store(id, data.clone(), round % 2 == 0, None).await?;
        stored.push((id, data));
        all_load(&spool, &stored, "once the gate is open again").await?;
        spool = stage.reopen_shut(spool).await?;
    }
    Ok(())
}

/// A spool of which a part was lost, what was stored, and how much of that loads.
async fn torn(stage: &Stage<SharedSpool>) -> Result<(SharedSpool, Stored, Stored), Violation> {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let mut stored = Vec::new();
    for id in stage.ids(48) {
        let data = random.bytes(64 << 10);
        spool.store(id, data.clone(), true, None).await?;
        stored.push((id, data));
    }
    let spool = stage.reopen_harmed(spool, Harm::Loss).await?;
    let mut left = Vec::new();
    for (id, data) in &stored {
        match spool.load(*id).await {
            Ok(seen) if seen == *data => left.push((*id, data.clone())),
            Ok(_) => return Err(Violation::new(format!("{id} has bytes that nobody stored"))),
            Err(_) => {}
        }
    }
    let lost = stored.len() - left.len();
    ensure!(lost > 0 && !left.is_empty(), "a part has to be lost: {lost} of {}", stored.len());
    Ok((spool, stored, left))
}

async fn structural_damage_closes_the_gate_until_it_is_acknowledged(
    stage: &Stage<SharedSpool>,
) -> Verdict {
    let (mut spool, _, left) = torn(stage).await?;
    let mut random = stage.random();
    for _ in 0..2 {
        ensure!(spool.unhealthy_reason().is_some(), "structural damage has to close the gate");
        is_refused(spool.store(stage.id(), random.bytes(10), true, None).await, "a store")?;
        spool.cleanup().await?;
        spool = stage.reopen(spool).await?;
    }
    let told = spool.acknowledge().await?;
    ensure!(!told.is_empty(), "what was accepted has to be told");
    ensure_eq!(spool.acknowledge().await?, Vec::<String>::new(), "what is left to accept");
    for _ in 0..2 {
        ensure_eq!(spool.unhealthy_reason(), None, "the health once it was acknowledged");
        let (id, data) = (stage.id(), random.bytes(100));
        spool.store(id, data.clone(), true, None).await?;
        loads(&spool, id, &data, "stored after the damage was acknowledged").await?;
        all_load(&spool, &left, "that was not lost").await?;
        spool = stage.reopen(spool).await?;
    }
    Ok(())
}

async fn structural_damage_spares_the_rest(stage: &Stage<SharedSpool>) -> Verdict {
    let (spool, stored, mut left) = torn(stage).await?;
    let compacted = spool.compact().await;
    ensure!(compacted.is_err(), "compact has to tell structural damage");
    let (gone, _) = left.remove(0);
    spool.remove(gone).await?;
    is_missing(&spool, gone, "removed behind structural damage").await?;
    for id in stored.iter().map(|(id, _)| *id).filter(|id| left.iter().all(|(l, _)| l != id)) {
        spool.remove(id).await?;
    }
    all_load(&spool, &left, "that was not lost").await?;
    let (sender, mut receiver) = channel(DEFAULT_CAPACITY);
    let end = spool.enumerate(sender, Timestamp::MAX)?;
    let mut items = 0;
    while let Some(entry) = receiver.recv().await {
        if let SpoolEntry::Item { id, data } = entry {
            let known = left.iter().find(|(known, _)| *known == id);
            ensure!(known.is_some_and(|(_, d)| *d == data), "{id} is not what was stored");
            items += 1;
        }
    }
    end.await?;
    ensure_eq!(items, left.len(), "the entries that were not lost, each once");
    Ok(())
}

async fn one_rotten_payload_closes_nothing(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let mut stored = Vec::new();
    for id in stage.ids(8) {
        let data = random.bytes(2000);
        spool.store(id, data.clone(), true, None).await?;
        stored.push((id, data));
    }
    let (rotten, data) = stored.remove(3);
    let spool = stage.reopen_harmed(spool, Harm::Rot(&data)).await?;
    match spool.load(rotten).await {
        Err(SpoolError::Corrupt { id, .. }) => ensure_eq!(id, Some(rotten), "whose bytes they are"),
        answer => {
            return Err(Violation::new(format!("a rotten payload has to be Corrupt: {answer:?}")));
        }
    }
    all_load(&spool, &stored, "beside a rotten one").await?;
    let (sender, mut receiver) = channel(DEFAULT_CAPACITY);
    let end = spool.enumerate(sender, Timestamp::MAX)?;
    let (mut items, mut corrupt) = (0, Vec::new());
    while let Some(entry) = receiver.recv().await {
        match entry {
            SpoolEntry::Item { .. } => items += 1,
            SpoolEntry::Corrupt { id, .. } => corrupt.push(id),
        }
    }
    end.await?;
    ensure_eq!((items, corrupt), (stored.len(), vec![Some(rotten)]), "what was enumerated");
    ensure_eq!(spool.stats().await?.corrupt, 1, "damaged entries in the statistics");
    ensure_eq!(spool.unhealthy_reason(), None, "the health beside one rotten payload");
    let (id, data) = (stage.id(), random.bytes(100));
    spool.store(id, data.clone(), true, None).await?;
    loads(&spool, id, &data, "stored beside a rotten one").await
}
