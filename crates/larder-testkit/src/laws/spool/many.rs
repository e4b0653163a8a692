use bytes::Bytes;
use larder_core::{SharedSpool, Spool, SpoolError};

use super::gather::loads;
use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq, same_bytes};

laws! { SharedSpool, "many at once";
    /// After `store_many` each of its payloads is loaded byte for byte, old entries among them
    /// replaced.
    storing_many_stores_each;
    /// `load_many` answers in the order of the ids that were asked for, missing and repeated ids
    /// included, each with an answer of its own.
    loading_many_answers_in_order;
    /// Storing, loading and removing no entries at all is Ok.
    an_empty_list_is_ok;
}

async fn storing_many_stores_each(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    for force_sync in [false, true] {
        let ids = stage.ids(100);
        for id in &ids[..10] {
            spool.store(*id, random.bytes(70), false, None).await?;
        }
        let entries: Vec<_> = ids
            .iter()
            .map(|id| {
                let len = random.below(3_000);
                (*id, random.bytes(len))
            })
            .collect();
        spool.store_many(entries.clone(), force_sync, None).await?;
        for (id, data) in &entries {
            loads(&spool, *id, data, "stored as one of many").await?;
        }
    }
    Ok(())
}

async fn loading_many_answers_in_order(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let stored = stage.ids(30);
    let payload = |place: usize| Bytes::from(format!("payload {place}"));
    let entries = stored.iter().enumerate().map(|(place, id)| (*id, payload(place)));
    spool.store_many(entries.collect(), false, None).await?;

    let missing = stage.id();
    let mut asked: Vec<_> = (0..30).rev().map(|place| (stored[place], Some(place))).collect();
    asked.insert(5, (missing, None));
    asked.push((stored[3], Some(3)));
    let ids: Vec<_> = asked.iter().map(|(id, _)| *id).collect();
    let answers = spool.load_many(&ids).await;
    ensure_eq!(answers.len(), ids.len(), "load_many gives one answer for each id");
    for ((id, place), answer) in asked.iter().zip(answers) {
        match (place, answer) {
            (Some(place), Ok(seen)) => same_bytes(&format!("{id}"), &seen, &payload(*place))?,
            (None, Err(SpoolError::NotFound { id: named })) => {
                ensure!(named == *id, "the error of {id} names {named}");
            }
            (_, answer) => {
                return Err(Violation::new(format!(
                    "load_many has to answer for {id} as load does: {answer:?}"
                )));
            }
        }
    }
    Ok(())
}

async fn an_empty_list_is_ok(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    spool.store_many(Vec::new(), true, None).await?;
    spool.remove_many(Vec::new(), false).await?;
    ensure!(spool.load_many(&[]).await.is_empty(), "no ids have no answers");
    Ok(())
}
