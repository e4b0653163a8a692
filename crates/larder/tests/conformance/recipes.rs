//! What is built on consensus, on every store of it.

use std::time::Duration;

use futures_util::future::try_join_all;
use larder::recipes::{Nonced, Recent, Resolution, Watch, resolve, update};
use larder::{CaSResult, Consensus, SeqNo, SharedConsensus, VersionedData};
use larder_testkit::{Law, Stage, Verdict, Violation};

macro_rules! laws {
    ($($(#[doc = $clause:literal])+ $name:ident;)+) => {
        pub(crate) const LAWS: &[Law<SharedConsensus>] = &[$(Law {
            name: concat!("recipes_", stringify!($name)),
            theme: "recipes",
            clause: concat!($($clause),+),
            needs: &[],
            run: |stage| Box::pin(async move { $name(&stage).await }),
        }),+];
    };
}

laws! {
    /// Clients that count together lose no count and count nothing twice.
    update_counts_once;
    /// A watcher is given rising versions and the last one, while others write.
    watch_sees_the_last_version;
    /// A recent head is one's own last version at least, and at the age of zero the head.
    recent_heads_do_not_go_back;
    /// A write is found, and one that lost is told from one that may yet land.
    resolve_tells_what_became_of_a_write;
}

fn broken(what: String) -> Verdict {
    Err(Violation::new(what))
}

fn version(seqno: u64) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: format!("version {seqno}").into() }
}

async fn update_counts_once(stage: &Stage<SharedConsensus>) -> Verdict {
    const CLIENTS: u64 = 6;
    const EACH: u64 = 10;
    let (store, key) = (Nonced::new(stage.open().await?), stage.key("count"));
    let count = |head: Option<&VersionedData>| -> u64 {
        head.and_then(|head| std::str::from_utf8(&head.data).ok()?.parse().ok()).unwrap_or(0)
    };
    let client = async |_| {
        for _ in 0..EACH {
            update(&store, &key, |head| Some((count(head) + 1).to_string().into())).await?;
        }
        Ok::<_, Violation>(())
    };
    try_join_all((0..CLIENTS).map(client)).await?;
    let counted = count(store.head(&key).await?.as_ref());
    if counted == CLIENTS * EACH {
        return Ok(());
    }
    broken(format!("{counted} were counted of {}", CLIENTS * EACH))
}

async fn watch_sees_the_last_version(stage: &Stage<SharedConsensus>) -> Verdict {
    const LAST: u64 = 20;
    let (store, key) = (stage.open().await?, stage.key("watched"));
    let mut watch = Watch::new(store.clone(), key.clone());
    let watching = async {
        let mut seen = None;
        while seen < Some(SeqNo(LAST)) {
            let head = watch.next().await?;
            if Some(head.seqno) <= seen || head != version(head.seqno.0) {
                return broken(format!("{head:?} was given after {seen:?}"));
            }
            seen = Some(head.seqno);
        }
        Ok(())
    };
    let writing = async {
        for seqno in 0..=LAST {
            let expected = seqno.checked_sub(1).map(SeqNo);
            store.compare_and_set(&key, expected, version(seqno)).await?;
            if seqno % 5 == 0 {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        }
        Ok::<_, Violation>(())
    };
    let (watched, written) = tokio::join!(watching, writing);
    written.and(watched)
}

async fn recent_heads_do_not_go_back(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("recent"));
    let recent = Recent::new(store.clone());
    for seqno in 0..10 {
        let expected = u64::checked_sub(seqno, 1).map(SeqNo);
        let done = if seqno % 3 == 0 {
            store.compare_and_set(&key, expected, version(seqno)).await?
        } else {
            recent.compare_and_set(&key, expected, version(seqno)).await?
        };
        if done != CaSResult::Committed {
            return broken(format!("version {seqno} was rejected: {done:?}"));
        }
        let old = recent.head_recent(&key, Duration::from_hours(1)).await?;
        let now = recent.head_recent(&key, Duration::ZERO).await?;
        if now != Some(version(seqno)) || (seqno % 3 != 0 && old != now) {
            return broken(format!("after version {seqno}: {old:?} and {now:?}"));
        }
    }
    Ok(())
}

async fn resolve_tells_what_became_of_a_write(stage: &Stage<SharedConsensus>) -> Verdict {
    let (store, key) = (stage.open().await?, stage.key("resolved"));
    let (store, key) = (&store, key.as_str());
    let mine = |seqno: u64| VersionedData { seqno: SeqNo(seqno), data: "mine".into() };
    let is = async |expected: Option<u64>, seqno, wanted| {
        let resolution = resolve(store, key, expected.map(SeqNo), &mine(seqno)).await?;
        if resolution == wanted {
            return Ok(());
        }
        broken(format!("{expected:?} to {seqno}: {resolution:?} and not {wanted:?}"))
    };
    is(None, 1, Resolution::Open).await?;
    store.compare_and_set(key, None, mine(1)).await?;
    is(None, 1, Resolution::Committed).await?;
    is(Some(1), 5, Resolution::Open).await?;
    store.compare_and_set(key, Some(SeqNo(1)), version(3)).await?;
    is(Some(1), 5, Resolution::Lost).await?;
    is(None, 1, Resolution::Committed).await?;
    store.compare_and_set(key, Some(SeqNo(3)), version(9)).await?;
    is(Some(1), 5, Resolution::Lost).await?;
    store.truncate(key, SeqNo(9)).await?;
    is(None, 1, Resolution::Unknown).await
}
