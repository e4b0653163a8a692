use std::time::Duration;

use larder_core::{Effect, Retry, SharedSpool, Spool, SpoolError};

use super::gather::{answers, gather, is_missing, loads};
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure_eq};

laws! { SharedSpool, "deadlines";
    /// A store whose deadline has passed writes nothing: it answers `CallerDeadlineExceeded` with
    /// effect `NotApplied`, and the id stays missing.
    a_past_deadline_writes_nothing;
    /// A store whose deadline has passed leaves the payload that was there.
    a_past_deadline_keeps_the_old_payload;
    /// `store_many` with a deadline that has passed writes none of its payloads.
    a_past_deadline_writes_none_of_many;
    /// A deadline in the future does not change what a store does.
    a_future_deadline_stores_as_usual;
}

fn is_refused(answer: Result<(), SpoolError>) -> Verdict {
    match answer {
        Err(error @ SpoolError::CallerDeadlineExceeded { .. }) => {
            answers(&error, Effect::NotApplied, Retry::Later)
        }
        answer => Err(Violation::new(format!(
            "a store with a past deadline has to answer CallerDeadlineExceeded: {answer:?}"
        ))),
    }
}

async fn a_past_deadline_writes_nothing(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    for force_sync in [false, true] {
        let id = stage.id();
        let late = Some(stage.instant());
        is_refused(spool.store(id, stage.random().bytes(100), force_sync, late).await)?;
        is_missing(&spool, id, "stored after its deadline").await?;
        let gathered = gather(&spool, larder_core::Timestamp::MAX).await?;
        ensure_eq!(gathered.times(id), 0, "what was refused does not come in an enumeration");
    }
    Ok(())
}

async fn a_past_deadline_keeps_the_old_payload(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let (id, old) = (stage.id(), random.bytes(100));
    spool.store(id, old.clone(), true, None).await?;
    let late = Some(stage.instant());
    is_refused(spool.store(id, random.bytes(90), true, late).await)?;
    loads(&spool, id, &old, "after a refused replacement").await
}

async fn a_past_deadline_writes_none_of_many(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let data = stage.random().bytes(100);
    let ids = stage.ids(10);
    let late = Some(stage.instant());
    let entries = ids.iter().map(|id| (*id, data.clone())).collect();
    is_refused(spool.store_many(entries, true, late).await)?;
    for id in ids {
        is_missing(&spool, id, "stored with many after their deadline").await?;
    }
    Ok(())
}

async fn a_future_deadline_stores_as_usual(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    for force_sync in [false, true] {
        let (id, data) = (stage.id(), random.bytes(100));
        let later = Some(stage.instant() + Duration::from_mins(1));
        spool.store(id, data.clone(), force_sync, later).await?;
        loads(&spool, id, &data, "stored well before its deadline").await?;
    }
    Ok(())
}
