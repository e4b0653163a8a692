//! Who watches a key sees it rise, and sees where it ends.

use std::time::Duration;

use larder::recipes::Watch;
use larder::{Consensus, MemoryConsensus, SeqNo, VersionedData};
use larder_testkit::Random;
use tokio::time::{sleep, timeout};

use crate::each_seed;
use crate::shaky::{Hints, Shaky};

const LAST: u64 = 12;

fn version(seqno: u64) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: format!("version {seqno}").into() }
}

/// Writes the versions, some at once and some after pauses.
async fn write(store: &Shaky, seed: u64) {
    let mut random = Random::seeded(seed);
    for seqno in 1..=LAST {
        let expected = (seqno > 1).then(|| SeqNo(seqno - 1));
        store.truth().compare_and_set("k", expected, version(seqno)).await.unwrap();
        if random.happens(60) {
            sleep(Duration::from_millis(random.word() % 3_000)).await;
        }
    }
}

/// What a watcher is given, until it has the last version.
async fn watched(store: Shaky, pauses: u64) -> Result<(), String> {
    let mut watch = Watch::new(store, "k").seeded(pauses);
    let mut seen = SeqNo(0);
    while seen < SeqNo(LAST) {
        // A look that fails is repeated.
        let Ok(head) = watch.next().await else { continue };
        if head.seqno <= seen || head != version(head.seqno.0) {
            return Err(format!("{head:?} after {seen}"));
        }
        seen = head.seqno;
    }
    Ok(())
}

/// Waits for hints alone.
async fn trusting(store: Shaky) -> Result<(), String> {
    let mut seen = None;
    while seen < Some(SeqNo(LAST)) {
        let hint = store.changed("k", seen);
        timeout(Duration::from_mins(5), hint).await.map_err(|_| "no hint came".to_owned())?;
        if let Ok(head) = store.head("k").await {
            seen = head.map(|head| head.seqno);
        }
    }
    Ok(())
}

#[test]
fn the_last_version_is_seen_whatever_becomes_of_hints() {
    for hints in [Hints::Lost, Hints::Wrong, Hints::Mixed] {
        let simulate = |seed| async move {
            let store = Shaky::new(seed, 30, hints);
            let (seen, ()) = tokio::join!(watched(store.clone(), seed), write(&store, seed));
            // At most 10 looks a second and some for each version, over at most 40 seconds.
            let looks = store.looks();
            let longest = 3 * LAST + 5;
            if looks as u64 > 100 * longest {
                return Err(format!("{looks} looks"));
            }
            seen
        };
        each_seed(150, simulate).unwrap();
    }
}

#[test]
fn who_trusts_hints_is_found_out() {
    let simulate = |seed| async move {
        let store = Shaky::new(seed, 30, Hints::Mixed);
        let (seen, ()) = tokio::join!(trusting(store.clone()), write(&store, seed));
        seen
    };
    assert!(each_seed(150, simulate).unwrap_err().contains("no hint came"));
}

#[tokio::test(start_paused = true)]
async fn a_backend_that_cries_wolf_is_asked_no_more_often_than_one_that_is_mute() {
    for hints in [Hints::Wrong, Hints::Lost] {
        let store = Shaky::new(1, 0, hints);
        store.truth().compare_and_set("k", None, version(1)).await.unwrap();
        let mut watch = Watch::new(store.clone(), "k").after(SeqNo(1));
        assert!(timeout(Duration::from_mins(10), watch.next()).await.is_err());
        // Once a second or two at the most, in ten minutes.
        assert!((300..=1_250).contains(&store.looks()), "{hints:?}: {}", store.looks());
    }
}

#[tokio::test(start_paused = true)]
async fn a_change_that_is_hinted_at_is_given_at_once() {
    let store = std::sync::Arc::new(MemoryConsensus::default());
    let mut watch = Watch::new(std::sync::Arc::clone(&store), "k");
    for seqno in 1..=20 {
        let expected = (seqno > 1).then(|| SeqNo(seqno - 1));
        let writing = async {
            sleep(Duration::from_mins(1)).await;
            store.compare_and_set("k", expected, version(seqno)).await.unwrap();
            tokio::time::Instant::now()
        };
        let watching = async { (watch.next().await.unwrap(), tokio::time::Instant::now()) };
        let ((head, seen), written) = tokio::join!(watching, writing);
        assert_eq!((head, seen), (version(seqno), written));
    }
    assert_eq!(watch.seen(), Some(SeqNo(20)));
}
