use std::time::Duration;

use larder_core::{CaSResult, Consensus, SeqNo, SharedConsensus, VersionedData};
use tokio::time::timeout;

use crate::law::laws;
use crate::{Stage, Verdict, Violation, ensure, ensure_eq};

laws! { SharedConsensus, "changed";
    /// A wait for a change writes nothing, whoever gives it up.
    a_wait_for_a_change_has_no_effect;
    /// Who waits for changes and looks from time to time never sees a version come back, and sees the last one.
    who_waits_and_looks_sees_the_last_version;
}

/// How long a wait is trusted before one looks anyway.
const TRUST: Duration = Duration::from_millis(20);

fn version(seqno: u64) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: format!("version {seqno}").into() }
}

async fn append(store: &SharedConsensus, key: &str, seqno: u64) -> Verdict {
    let expected = seqno.checked_sub(1).map(SeqNo);
    let done = store.compare_and_set(key, expected, version(seqno)).await?;
    ensure_eq!(done, CaSResult::Committed, "version {seqno}");
    Ok(())
}

async fn a_wait_for_a_change_has_no_effect(stage: &Stage<SharedConsensus>) -> Verdict {
    let store = stage.open().await?;
    let (empty, key) = (stage.key("empty"), stage.key("key"));
    // Given up before the key has data, and afterwards; it may also return at once.
    for seen in [None, Some(SeqNo(7))] {
        let _ = timeout(TRUST, store.changed(&empty, seen)).await;
    }
    ensure_eq!(store.head(&empty).await?, None, "a key that was only waited for");
    append(&store, &key, 0).await?;
    for seen in [None, Some(SeqNo(0)), Some(SeqNo(7))] {
        let _ = timeout(TRUST, store.changed(&key, seen)).await;
    }
    append(&store, &key, 1).await?;
    ensure_eq!(
        store.scan(&key, SeqNo::MIN, 9).await?,
        [version(0), version(1)],
        "the versions of a key that was waited for"
    );
    Ok(())
}

async fn who_waits_and_looks_sees_the_last_version(stage: &Stage<SharedConsensus>) -> Verdict {
    const LAST: u64 = 20;
    let store = stage.open().await?;
    let key = stage.key("watched");
    let watching = async {
        let mut seen = None;
        while seen != Some(SeqNo(LAST)) {
            let head = store.head(&key).await?.map(|head| head.seqno);
            ensure!(head >= seen, "the head went back from {seen:?} to {head:?}");
            if head == seen {
                let _ = timeout(TRUST, store.changed(&key, seen)).await;
                // A hint that always returns at once must not keep others from working.
                tokio::task::yield_now().await;
            }
            seen = head;
        }
        Ok(())
    };
    let writing = async {
        for seqno in 0..=LAST {
            append(&store, &key, seqno).await?;
            tokio::task::yield_now().await;
        }
        Ok::<_, Violation>(())
    };
    let (watched, written) = tokio::join!(watching, writing);
    written.and(watched)
}
