use larder_core::{Consensus, SeqNo, SharedConsensus};

use super::log::{commits, grow, head_is, holds, keys, mismatches};
use crate::law::laws;
use crate::{Stage, Verdict, ensure, ensure_eq};

laws! { SharedConsensus, "keys";
    /// `list_keys` gives every key that got a committed version, each once.
    every_key_with_a_version_is_listed_once;
    /// An unused store lists no keys, and one that is used lists no others than those written.
    no_other_key_is_listed [Exclusive];
    /// A first write that fails creates no key; neither does reading.
    a_failed_first_write_creates_no_key;
    /// A key stays listed after all but its head was truncated.
    a_truncated_key_stays_listed;
    /// What is done to one key never shows in another one.
    keys_are_independent;
    /// A listing may be left before its end without harm.
    an_abandoned_listing_does_no_harm;
}

async fn every_key_with_a_version_is_listed_once(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let made: Vec<String> = (0..40).map(|number| stage.key(number)).collect();
    for (place, key) in made.iter().enumerate() {
        let versions: Vec<u64> = (0..=u64::try_from(place % 3)?).collect();
        grow(&store, key, &versions).await?;
    }
    let listed = keys(&store).await?;
    for key in &made {
        let times = listed.iter().filter(|listed| *listed == key).count();
        ensure_eq!(times, 1, "how often a key with versions is listed");
    }
    Ok(())
}

async fn no_other_key_is_listed(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    ensure_eq!(keys(&store).await?, Vec::<String>::new(), "the keys of an unused store");
    let mut made: Vec<String> = (0..5).map(|number| stage.key(number)).collect();
    for key in &made {
        commits(&store, key, None, 1).await?;
        store.head(&stage.key("only read")).await?;
        mismatches(&store, &stage.key("only tried"), Some(1), 2, None).await?;
    }
    let mut listed = keys(&store).await?;
    listed.sort();
    made.sort();
    ensure_eq!(listed, made, "the keys of a used store");
    Ok(())
}

async fn a_failed_first_write_creates_no_key(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("failed"));
    mismatches(&store, &key, Some(1), 2, None).await?;
    head_is(&store, &key, None, "after a failed first write").await?;
    store.scan(&key, SeqNo::MIN, 5).await?;
    ensure!(!keys(&store).await?.contains(&key), "a failed first write created a key");
    commits(&store, &key, None, 1).await?;
    ensure!(keys(&store).await?.contains(&key), "a committed first write created no key");
    Ok(())
}

async fn a_truncated_key_stays_listed(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("truncated"));
    grow(&store, &key, &[1, 2, 3]).await?;
    store.truncate(&key, SeqNo(3)).await?;
    let times = keys(&store).await?.iter().filter(|listed| **listed == key).count();
    ensure_eq!(times, 1, "how often a truncated key is listed");
    Ok(())
}

async fn keys_are_independent(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let (one, other) = (stage.key("one"), stage.key("other"));
    grow(&store, &one, &[1, 5]).await?;
    // The head of one key is no expectation for another.
    mismatches(&store, &other, Some(5), 6, None).await?;
    grow(&store, &other, &[2, 3]).await?;
    mismatches(&store, &other, Some(5), 6, Some(3)).await?;
    commits(&store, &one, Some(5), 6).await?;
    holds(&store, &one, &[1, 5, 6], "of one key").await?;
    holds(&store, &other, &[2, 3], "of another key").await
}

async fn an_abandoned_listing_does_no_harm(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let made: Vec<String> = (0..10).map(|number| stage.key(number)).collect();
    for key in &made {
        commits(&store, key, None, 1).await?;
    }
    for _ in 0..5 {
        let mut listing = store.list_keys();
        ensure!(listing.next().await.is_some(), "a listing of ten keys has a first one");
    }
    for key in &made {
        commits(&store, key, Some(1), 2).await?;
    }
    Ok(())
}
