use std::time::Duration;

use larder_core::{SharedSpool, Spool, SpoolId, Timestamp};

use super::gather::{gather, list, size};
use crate::law::laws;
use crate::{Stage, Verdict, ensure_eq};

laws! { SharedSpool, "list";
    /// A listing gives each live entry exactly once with the size of its payload, zero included.
    a_listing_gives_the_size_of_every_payload;
    /// A listing and an enumeration with the same start time name the same entries.
    a_listing_names_what_an_enumeration_sends;
    /// A replaced entry is listed with its new size, a removed one not at all.
    a_listing_follows_replacements_and_removes;
}

async fn a_listing_gives_the_size_of_every_payload(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let mut entries = Vec::new();
    for (len, id) in [0, 1, 7, 4_096, 100_000].into_iter().zip(stage.ids(5)) {
        entries.push((id, random.bytes(len)));
    }
    spool.store_many(entries.clone(), false, None).await?;
    let (listed, summary) = list(&spool, Timestamp::MAX).await?;
    for (id, data) in &entries {
        let sizes = listed.get(id).cloned().unwrap_or_default();
        ensure_eq!(sizes, vec![size(data)], "how {id} is listed");
    }
    let count = listed.values().flatten().count();
    ensure_eq!(usize::try_from(summary.items)?, count, "the entries that the handle counts");
    ensure_eq!(
        summary.bytes,
        listed.values().flatten().sum::<u64>(),
        "the bytes that the handle counts"
    );
    Ok(())
}

async fn a_listing_names_what_an_enumeration_sends(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let data = stage.random().bytes(30);
    let mut ids = stage.ids(20);
    let start = stage.now().saturating_add(Duration::from_secs(1));
    let future = SpoolId::created_at(start.saturating_add(Duration::from_mins(1)));
    ids.push(future);
    spool.store_many(ids.iter().map(|id| (*id, data.clone())).collect(), false, None).await?;
    let (listed, _) = list(&spool, start).await?;
    let gathered = gather(&spool, start).await?;
    for id in &ids {
        let times = listed.get(id).map_or(0, Vec::len);
        ensure_eq!(times, gathered.times(*id), "how often {id} is listed, and enumerated");
    }
    ensure_eq!(gathered.times(future), 0, "an id created after the start time");
    Ok(())
}

async fn a_listing_follows_replacements_and_removes(stage: &Stage<SharedSpool>) -> Verdict {
    let spool = stage.open().await?;
    let mut random = stage.random();
    let (replaced, removed) = (stage.id(), stage.id());
    spool.store(replaced, random.bytes(500), false, None).await?;
    spool.store(removed, random.bytes(500), false, None).await?;
    spool.store(replaced, random.bytes(3), false, None).await?;
    spool.remove(removed).await?;
    let (listed, _) = list(&spool, Timestamp::MAX).await?;
    ensure_eq!(listed.get(&replaced), Some(&vec![3]), "how a replaced entry is listed");
    ensure_eq!(listed.get(&removed), None, "how a removed entry is listed");
    Ok(())
}
