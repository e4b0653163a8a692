use std::time::Duration;

use bytes::Bytes;
use larder_core::channel::channel;
use larder_core::{SharedSpool, Spool, SpoolEntry, SpoolId, Timestamp};

use super::gather::{Gathered, drain, gather, is_missing, loads, size};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedSpool, "enumerate";
    /// Each entry that is live throughout comes exactly once, with its payload, and the handle
    /// says that the enumeration was complete.
    every_live_entry_comes_exactly_once;
    /// The handle counts what was sent: entries and bytes.
    the_handle_counts_what_was_sent;
    /// An entry stored since the spool was opened comes only if its id was created before the
    /// start time.
    entries_created_after_the_start_time_do_not_come;
    /// An entry that was there when the spool was opened comes whatever its id says about time.
    entries_there_at_open_come_whatever_the_start_time [Reopen];
    /// An id derived from another one keeps its creation time, so its entry comes as the other's
    /// would.
    a_derived_id_comes_with_the_time_of_its_origin;
    /// A receiver that reads nothing holds the enumeration back, not the spool: with a channel of
    /// one entry every other call goes on, and reading on then yields the rest.
    a_slow_receiver_holds_nobody_up;
    /// Dropping the receiver ends the enumeration; the handle then says aborted, without a cause.
    a_dropped_receiver_aborts_the_enumeration;
    /// Dropping the handle does not end the enumeration.
    a_dropped_handle_does_not_end_the_enumeration;
    /// An entry that is removed during an enumeration comes at most once, and one that stays comes
    /// exactly once.
    a_remove_meanwhile_duplicates_nothing;
    /// An entry that is replaced during an enumeration comes exactly once, with one of its
    /// payloads, whole.
    a_replacement_meanwhile_comes_once;
    /// Several enumerations at once do not disturb one another.
    enumerations_do_not_disturb_one_another;
    /// The enumeration of an empty spool is complete and sends nothing.
    an_empty_spool_has_a_complete_enumeration [Exclusive];
}

async fn fill(
    stage: &Stage<SharedSpool>,
    spool: &SharedSpool,
    count: usize,
) -> Result<Vec<(SpoolId, Bytes)>, Violation> {
    let mut random = stage.random();
    let mut entries = Vec::with_capacity(count);
    for id in stage.ids(count) {
        let len = random.below(2_000);
        entries.push((id, random.bytes(len)));
    }
    spool.store_many(entries.clone(), false, None).await?;
    Ok(entries)
}

/// A start time after everything that the law has stored.
fn later<S: crate::Contract>(stage: &Stage<S>) -> Timestamp {
    stage.now().saturating_add(Duration::from_mins(1))
}

async fn every_live_entry_comes_exactly_once(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let entries = fill(stage, &spool, 300).await?;
    let gathered = gather(&spool, later(stage)).await?;
    for (id, data) in &entries {
        gathered.once(*id, data)?;
    }
    Ok(())
}

async fn the_handle_counts_what_was_sent(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    fill(stage, &spool, 50).await?;
    let (sender, receiver) = channel(7);
    let handle = spool.enumerate(sender, later(stage))?;
    let (gathered, summary) = drain(receiver, handle).await?;
    ensure_eq!(summary.items, gathered.count, "the entries that the handle counts");
    ensure_eq!(summary.bytes, gathered.bytes, "the bytes that the handle counts");
    Ok(())
}

async fn entries_created_after_the_start_time_do_not_come(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let start = stage.now();
    let (before, at, after) = (
        SpoolId::created_at(start.saturating_sub(Duration::from_secs(5))),
        SpoolId::created_at(start.saturating_add(Duration::from_millis(1))),
        SpoolId::created_at(start.saturating_add(Duration::from_secs(5))),
    );
    for id in [before, at, after] {
        spool.store(id, Bytes::from_static(b"x"), false, None).await?;
    }
    let gathered = gather(&spool, start).await?;
    ensure_eq!(gathered.times(before), 1, "an id created before the start time comes");
    for id in [at, after] {
        ensure_eq!(gathered.times(id), 0, "an id created after the start time does not come");
    }
    let everything = gather(&spool, start.saturating_add(Duration::from_secs(6))).await?;
    for id in [before, at, after] {
        ensure_eq!(everything.times(id), 1, "a later start time lets every id come");
    }
    Ok(())
}

async fn entries_there_at_open_come_whatever_the_start_time(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut timeless = *stage.id().as_bytes();
    timeless[6] = 0x40 | (timeless[6] & 0x0F);
    let tomorrow = stage.now().saturating_add(Duration::from_hours(24));
    let ids = [stage.id(), SpoolId::created_at(tomorrow), SpoolId::from_bytes(timeless)];
    for id in ids {
        spool.store(id, Bytes::copy_from_slice(id.as_bytes()), true, None).await?;
    }
    let spool = stage.reopen(spool).await?;
    let new = stage.id();
    spool.store(new, Bytes::from_static(b"new"), false, None).await?;
    let gathered = gather(&spool, Timestamp::EPOCH).await?;
    for id in ids {
        gathered.once(id, id.as_bytes())?;
    }
    ensure_eq!(gathered.times(new), 0, "an id created after the start time, stored since the open");
    Ok(())
}

async fn a_derived_id_comes_with_the_time_of_its_origin(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let origin = SpoolId::created_at(stage.now().saturating_sub(Duration::from_mins(1)));
    let derived = origin.derive_new_with_cloned_timestamp()?;
    spool.store(derived, Bytes::from_static(b"derived"), false, None).await?;
    let gathered = gather(&spool, stage.now()).await?;
    gathered.once(derived, b"derived")?;
    ensure_eq!(gathered.times(origin), 0, "an id that was only derived from");
    Ok(())
}

async fn a_slow_receiver_holds_nobody_up(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let entries = fill(stage, &spool, 60).await?;
    let (sender, mut receiver) = channel(1);
    let handle = spool.enumerate(sender, later(stage))?;
    let mut gathered = Gathered::default();
    match receiver.recv().await {
        Some(entry) => gathered.add(entry)?,
        None => return Err(Violation::new("an enumeration of 60 entries sent none")),
    }

    // The channel is full now and stays so; everything else has to go on.
    let (new, data) = (stage.id(), stage.random().bytes(500));
    spool.store(new, data.clone(), true, None).await?;
    loads(&spool, new, &data, "stored while an enumeration is held back").await?;
    spool.remove(new).await?;
    is_missing(&spool, new, "removed while an enumeration is held back").await?;
    spool.cleanup().await?;
    loads(&spool, entries[0].0, &entries[0].1, "read while an enumeration is held back").await?;

    while let Some(entry) = receiver.recv().await {
        gathered.add(entry)?;
    }
    handle.await?;
    for (id, data) in &entries {
        gathered.once(*id, data)?;
    }
    Ok(())
}

async fn a_dropped_receiver_aborts_the_enumeration(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let entries = fill(stage, &spool, 60).await?;
    let (sender, mut receiver) = channel(1);
    let handle = spool.enumerate(sender, later(stage))?;
    ensure!(receiver.recv().await.is_some(), "an enumeration of 60 entries sent none");
    drop(receiver);
    match handle.await {
        Ok(summary) => {
            return Err(Violation::new(format!(
                "an enumeration without a receiver is not complete: {summary:?}"
            )));
        }
        Err(aborted) => {
            ensure!(aborted.cause.is_none(), "nobody failed, but: {:?}", aborted.cause);
        }
    }
    for (id, data) in &entries {
        loads(&spool, *id, data, "after an aborted enumeration").await?;
    }
    Ok(())
}

async fn a_dropped_handle_does_not_end_the_enumeration(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let entries = fill(stage, &spool, 60).await?;
    let (sender, mut receiver) = channel(2);
    drop(spool.enumerate(sender, later(stage))?);
    let mut gathered = Gathered::default();
    while let Some(entry) = receiver.recv().await {
        gathered.add(entry)?;
    }
    for (id, data) in &entries {
        gathered.once(*id, data)?;
    }
    Ok(())
}

async fn a_remove_meanwhile_duplicates_nothing(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let entries = fill(stage, &spool, 120).await?;
    let (sender, mut receiver) = channel(1);
    let handle = spool.enumerate(sender, later(stage))?;
    let mut gathered = Gathered::default();
    let mut leaving = entries.iter().step_by(2);
    while let Some(entry) = receiver.recv().await {
        gathered.add(entry)?;
        if let Some((id, _)) = leaving.next() {
            spool.remove(*id).await?;
        }
    }
    handle.await?;
    for (place, (id, data)) in entries.iter().enumerate() {
        if place % 2 == 1 {
            gathered.once(*id, data)?;
        } else {
            let times = gathered.times(*id);
            ensure!(times <= 1, "{id} was removed meanwhile and came {times} times");
        }
    }
    Ok(())
}

async fn a_replacement_meanwhile_comes_once(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let entries = fill(stage, &spool, 120).await?;
    let (sender, mut receiver) = channel(1);
    let handle = spool.enumerate(sender, later(stage))?;
    let mut gathered = Gathered::default();
    let replacement = Bytes::from_static(b"the replacement");
    let mut replaced = entries.iter();
    while let Some(entry) = receiver.recv().await {
        gathered.add(entry)?;
        for (id, _) in replaced.by_ref().take(2) {
            spool.store(*id, replacement.clone(), false, None).await?;
        }
        spool.compact().await?;
    }
    handle.await?;
    for (id, old) in &entries {
        ensure_eq!(gathered.times(*id), 1, "how often {id} came, which was replaced meanwhile");
        let seen = &gathered.items[id][0];
        ensure!(
            seen == old || *seen == replacement,
            "{id} came with {} bytes that are neither its old nor its new payload",
            seen.len()
        );
    }
    Ok(())
}

async fn enumerations_do_not_disturb_one_another(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let entries = fill(stage, &spool, 40).await?;
    let mut running = Vec::new();
    for capacity in [1, 3, 100] {
        let (sender, receiver) = channel(capacity);
        running.push((receiver, spool.enumerate(sender, later(stage))?));
    }
    let (sender, receiver) = channel::<SpoolEntry>(1);
    let abandoned = spool.enumerate(sender, later(stage))?;
    drop(receiver);
    for (receiver, handle) in running {
        let (gathered, _) = drain(receiver, handle).await?;
        for (id, data) in &entries {
            gathered.once(*id, data)?;
        }
    }
    ensure!(abandoned.await.is_err(), "the abandoned enumeration says that it was complete");
    Ok(())
}

async fn an_empty_spool_has_a_complete_enumeration(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let (id, data) = (stage.id(), stage.random().bytes(9));
    for round in ["never used", "emptied"] {
        let gathered = gather(&spool, Timestamp::MAX).await?;
        ensure_eq!(gathered.count, 0, "entries in a spool that was {round}");
        spool.store(id, data.clone(), false, None).await?;
        ensure_eq!(gather(&spool, Timestamp::MAX).await?.bytes, size(&data), "bytes of one entry");
        spool.remove(id).await?;
    }
    Ok(())
}
