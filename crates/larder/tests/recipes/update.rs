//! Clients that count together: whatever the store does, what was acknowledged is counted, once.

use std::time::Duration;

use futures_util::future::join_all;
use larder::recipes::{Nonced, Resolution, Update, Updated, resolve, update};
use larder::{
    CaSResult, Consensus, ConsensusError, Effect, Failure, MemoryConsensus, Retry, SeqNo,
    VersionedData,
};
use larder_testkit::Unreliable;

use crate::each_seed;
use crate::shaky::{Hints, Shaky};

const CLIENTS: u64 = 4;
const EACH: u64 = 6;

/// A way to add one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Way {
    /// The recipe.
    Update,
    /// The recipe's way, but with the bare data: two clients write the same bytes.
    Bare,
    /// Takes an unknown outcome for a failure.
    Careless,
    /// Takes what may yet land for lost.
    Hasty,
}

fn count(data: &[u8]) -> u64 {
    std::str::from_utf8(data).unwrap().parse().unwrap()
}

#[expect(clippy::unnecessary_wraps, reason = "it is what an update asks")]
fn more(head: Option<&VersionedData>) -> Option<bytes::Bytes> {
    Some((head.map_or(0, |head| count(&head.data)) + 1).to_string().into())
}

/// One more by hand, with a flaw; `None`: unknown.
async fn flawed(store: &Shaky, way: Way) -> Option<bool> {
    for _ in 0..60 {
        tokio::time::sleep(Duration::from_millis(3)).await;
        let Ok(head) = store.head("k").await else { continue };
        let expected = head.as_ref().map(|head| head.seqno);
        let seqno = SeqNo(expected.map_or(0, |SeqNo(expected)| expected + 1));
        let new = VersionedData { seqno, data: more(head.as_ref())? };
        loop {
            match store.compare_and_set("k", expected, new.clone()).await {
                Ok(CaSResult::Committed) => return Some(true),
                Err(ConsensusError::Indeterminate(_)) if way != Way::Careless => {}
                _ => break,
            }
            let resolved = loop {
                if let Ok(resolved) = resolve(store, "k", expected, &new).await {
                    break resolved;
                }
            };
            match resolved {
                Resolution::Committed => return Some(true),
                Resolution::Open if way != Way::Hasty => {}
                _ => break,
            }
        }
    }
    None
}

/// What all were told, what is there in the end, and how that came about.
#[derive(Debug, PartialEq, Eq)]
struct Counted {
    sure: u64,
    unsure: u64,
    found: u64,
    looks: usize,
    took: Duration,
}

/// All count.
async fn counted(seed: u64, way: Way) -> Counted {
    let began = tokio::time::Instant::now();
    let store = Shaky::new(seed, 40, Hints::Lost);
    let nonced = Nonced::new(store.clone());
    let client = async |number: u64| {
        let (mut sure, mut unsure) = (0_u64, 0_u64);
        for turn in 0..EACH {
            let update = Update::new().seeded(seed ^ number << 32 ^ turn << 48);
            let done = match way {
                Way::Update => match update.run(&nonced, "k", more).await {
                    Ok(_) => Some(true),
                    Err(error) if error.effect() == Effect::NotApplied => Some(false),
                    Err(_) => None,
                },
                _ => flawed(&store, way).await,
            };
            sure += u64::from(done == Some(true));
            unsure += u64::from(done.is_none());
        }
        (sure, unsure)
    };
    let told = join_all((0..CLIENTS).map(client)).await;
    store.settle().await;
    store.heal();
    let (sure, unsure) = told.iter().fold((0, 0), |sum, told| (sum.0 + told.0, sum.1 + told.1));
    let head = match way {
        Way::Update => nonced.head("k").await,
        _ => store.head("k").await,
    };
    let found = head.unwrap().map_or(0, |head| count(&head.data));
    Counted { sure, unsure, found, looks: store.looks(), took: began.elapsed() }
}

/// What is there in the end has to be what they were told.
async fn counting(seed: u64, way: Way) -> Result<(), String> {
    let Counted { sure, unsure, found, .. } = counted(seed, way).await;
    if sure < CLIENTS {
        return Err(format!("hardly anything was done: {sure}"));
    }
    if (sure..=sure + unsure).contains(&found) {
        return Ok(());
    }
    Err(format!("{found} were counted, {sure} were acknowledged and {unsure} are unknown"))
}

#[test]
fn a_simulation_is_the_same_again() {
    let runs = [(); 2].map(|()| {
        let runs = std::cell::RefCell::new(Vec::new());
        let simulate = |seed| {
            let runs = &runs;
            async move {
                let counted = counted(seed, Way::Update).await;
                runs.borrow_mut().push(counted);
                Ok(())
            }
        };
        each_seed(30, simulate).unwrap();
        runs.into_inner()
    });
    assert_eq!(runs[0], runs[1]);
    assert_ne!(runs[0][0], runs[0][1], "another seed is another run");
}

#[test]
fn what_is_acknowledged_is_counted_once() {
    each_seed(400, |seed| counting(seed, Way::Update)).unwrap();
}

#[test]
fn flawed_ways_are_found_out() {
    for way in [Way::Bare, Way::Careless, Way::Hasty] {
        let found = each_seed(400, |seed| counting(seed, way)).unwrap_err();
        assert!(found.contains("were counted"), "{way:?}: {found}");
    }
}

#[tokio::test(start_paused = true)]
async fn who_is_always_beaten_gives_up_and_has_changed_nothing() {
    let store = Nonced::new(MemoryConsensus::default());
    let mut asked = 0;
    let (inner, mut at) = (store.inner(), None);
    let brief = Update::new().attempts(5);
    let beaten = brief.run(&store, "k", |head| {
        asked += 1;
        assert_eq!(head.map(|head| head.seqno), at, "asked again with an old head");
        // Somebody else is faster, every time.
        let seqno = SeqNo(at.map_or(0, |SeqNo(at)| at + 3));
        let theirs = VersionedData { seqno, data: "theirs".into() };
        let kept = Nonced::<MemoryConsensus>::seal(&theirs);
        let done = futures_util::FutureExt::now_or_never(inner.compare_and_set("k", at, kept));
        assert_eq!(done.unwrap().unwrap(), CaSResult::Committed);
        at = Some(seqno);
        Some("mine".into())
    });
    let error = beaten.await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later));
    assert_eq!(asked, 5);
    let versions = store.scan("k", SeqNo::MIN, 99).await.unwrap();
    assert!(versions.iter().all(|version| version.data == "theirs"));
    // With no time at all there still is one attempt.
    let once = Update::new().within(Duration::ZERO);
    let done = once.run(&store, "k", |_| Some("at last".into())).await.unwrap();
    assert_eq!(done.into_head().unwrap().data, "at last");
}

#[tokio::test(start_paused = true)]
async fn nothing_to_change_writes_nothing_and_bad_arguments_are_told_at_once() {
    let store = Nonced::new(MemoryConsensus::default());
    assert_eq!(update(&store, "k", |_| None).await.unwrap(), Updated::Left(None));
    assert_eq!(store.head("k").await.unwrap(), None);
    let mut asked = 0;
    let refused = update(&store, "", |_| {
        asked += 1;
        None
    });
    assert!(matches!(refused.await, Err(ConsensusError::InvalidArgument(_))));
    assert_eq!(asked, 0);
    let last = VersionedData { seqno: SeqNo::MAX, data: "last".into() };
    store.compare_and_set("full", None, last).await.unwrap();
    let full = update(&store, "full", |_| Some("more".into())).await.unwrap_err();
    assert!(matches!(full, ConsensusError::InvalidArgument(_)), "{full:?}");
}

#[tokio::test(start_paused = true)]
async fn a_store_that_stays_away_ends_in_time_and_says_what_is_known() {
    let store = Nonced::new(Unreliable::new(MemoryConsensus::default(), 3, 100));
    let begun = tokio::time::Instant::now();
    let brief = Update::new().attempts(u32::MAX).within(Duration::from_secs(2));
    let error = brief.run(&store, "k", |_| Some("x".into())).await.unwrap_err();
    assert!(begun.elapsed() <= Duration::from_secs(2), "{:?}", begun.elapsed());
    // Not even the first read came back, so nothing was written.
    assert_eq!(error.effect(), Effect::NotApplied, "{error:?}");
    assert_eq!(store.inner().inner().head("k").await.unwrap(), None);
}
