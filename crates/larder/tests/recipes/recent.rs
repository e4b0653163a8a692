//! Recent heads never go back and are never too old, in whatever order answers arrive.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use futures_util::future::join_all;
use larder::recipes::Recent;
use larder::{CaSResult, Consensus, SeqNo, VersionedData};
use larder_testkit::Random;
use tokio::time::{Instant, sleep};

use crate::shaky::{Hints, Shaky};
use crate::{Virtual, each_seed};

const KEYS: usize = 3;
const READERS: usize = 5;
const READS: usize = 40;
const WRITES: u64 = 30;

/// A cache of heads: the recipe, or one with a flaw.
enum Cache {
    Recent(Recent<Shaky>),
    Flawed(Flaw, Shaky, Mutex<HashMap<String, (Option<VersionedData>, Instant)>>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flaw {
    /// Whoever answers last is remembered.
    LastAnswer,
    /// The age counts from the answer.
    YoungerThanItIs,
}

impl Cache {
    async fn read(&self, key: &str, max_age: Duration) -> Option<Option<SeqNo>> {
        let number = |head: Option<VersionedData>| head.map(|head| head.seqno);
        match self {
            Self::Recent(recent) => recent.head_recent(key, max_age).await.ok().map(number),
            Self::Flawed(flaw, store, heads) => {
                let asked = Instant::now();
                if let Some((head, since)) = heads.lock().unwrap().get(key)
                    && asked - *since < max_age
                {
                    return Some(number(head.clone()));
                }
                let head = store.head(key).await.ok()?;
                let since = if *flaw == Flaw::LastAnswer { asked } else { Instant::now() };
                let mut heads = heads.lock().unwrap();
                let known = heads.get(key).map(|(head, _)| number(head.clone()));
                if *flaw == Flaw::LastAnswer
                    || known.is_none_or(|known| number(head.clone()) >= known)
                {
                    heads.insert(key.to_owned(), (head.clone(), since));
                }
                Some(number(head))
            }
        }
    }

    async fn write(&self, key: &str, expected: Option<SeqNo>, new: VersionedData) -> bool {
        let done = match self {
            Self::Recent(recent) => recent.compare_and_set(key, expected, new).await,
            Self::Flawed(_, store, _) => store.compare_and_set(key, expected, new).await,
        };
        matches!(done, Ok(CaSResult::Committed))
    }
}

/// One read: between when and when, of what, how old at most, and what came.
struct Read {
    key: usize,
    asked: Instant,
    answered: Instant,
    max_age: Duration,
    seen: Option<SeqNo>,
}

async fn simulate(seed: u64, flaw: Option<Flaw>) -> Result<(), String> {
    let store = Shaky::new(seed, 10, Hints::Lost);
    let cache = if let Some(flaw) = flaw {
        Cache::Flawed(flaw, store.clone(), Mutex::default())
    } else {
        // Fewer than there are, so that heads are forgotten all the time.
        let recent = Recent::new(store.clone()).keys(2);
        Cache::Recent(recent.with_clock(Arc::new(Virtual(Instant::now()))))
    };
    let cache = &cache;
    let name = |key: usize| format!("k{key}");
    let told = Mutex::new(Vec::new());
    let ask = async |mut random: Random| {
        for _ in 0..READS {
            let key = random.below(KEYS);
            let max_age = Duration::from_millis([0, 5, 20, 100][random.below(4)]);
            let asked = Instant::now();
            let given = cache.read(&name(key), max_age).await;
            let answered = Instant::now();
            if let Some(head) = given {
                told.lock().unwrap().push(Read { key, asked, answered, max_age, seen: head });
            }
            sleep(Duration::from_millis(random.word() % 8)).await;
        }
    };
    // When each version was replaced: it is seen a little later at most.
    let replaced = Mutex::new(HashMap::new());
    let writer = async |mut random: Random| {
        for _ in 0..WRITES {
            let key = random.below(KEYS);
            let head = store.truth().head(&name(key)).await.unwrap().map(|head| head.seqno);
            let seqno = SeqNo(head.map_or(1, |SeqNo(head)| head + 1));
            let new = VersionedData { seqno, data: "x".into() };
            let mine = cache.write(&name(key), head, new).await;
            let now = store.truth().head(&name(key)).await.unwrap().map(|head| head.seqno);
            if mine || now != head {
                replaced.lock().unwrap().entry((key, head)).or_insert_with(Instant::now);
            }
            sleep(Duration::from_millis(random.word() % 12)).await;
        }
    };
    let mut random = Random::seeded(seed ^ 0xABCD);
    let writing = writer(random.fork());
    let readers: Vec<Random> = (0..READERS).map(|_| random.fork()).collect();
    tokio::join!(join_all(readers.into_iter().map(ask)), writing);
    let (told, replaced) = (told.into_inner().unwrap(), replaced.into_inner().unwrap());
    for read in &told {
        for later in told.iter().filter(|later| later.key == read.key) {
            if later.asked > read.answered && later.seen < read.seen {
                return Err(format!("went back from {:?} to {:?}", read.seen, later.seen));
            }
        }
        if let Some(replaced) = replaced.get(&(read.key, read.seen))
            && *replaced + read.max_age < read.asked
        {
            let age = read.asked - *replaced;
            return Err(format!("too old: {age:?} and not {:?}", read.max_age));
        }
    }
    Ok(())
}

#[test]
fn heads_never_go_back_and_are_never_too_old() {
    each_seed(1_000, |seed| simulate(seed, None)).unwrap();
}

#[test]
fn flawed_caches_are_found_out() {
    for (flaw, word) in [(Flaw::LastAnswer, "went back"), (Flaw::YoungerThanItIs, "too old")] {
        let found = each_seed(300, |seed| simulate(seed, Some(flaw))).unwrap_err();
        assert!(found.contains(word), "{flaw:?}: {found}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_remembered_rejects_nothing_and_is_read_after_it_was_written() {
    let clock = Arc::new(Virtual(Instant::now()));
    let recent = Recent::new(Shaky::new(1, 0, Hints::Lost)).with_clock(clock);
    let version = |seqno: u64| VersionedData { seqno: SeqNo(seqno), data: "x".into() };
    let long = Duration::from_hours(1);
    assert_eq!(recent.head_recent("k", long).await.unwrap(), None);
    // Somebody else writes; here the key still looks empty.
    recent.store().truth().compare_and_set("k", None, version(1)).await.unwrap();
    assert_eq!(recent.head_recent("k", long).await.unwrap(), None);
    let done = recent.compare_and_set("k", Some(SeqNo(1)), version(2)).await.unwrap();
    assert_eq!(done, CaSResult::Committed);
    assert_eq!(recent.head_recent("k", long).await.unwrap(), Some(version(2)));
    // One who lost learns what is there.
    recent.store().truth().compare_and_set("k", Some(SeqNo(2)), version(3)).await.unwrap();
    let lost = recent.compare_and_set("k", Some(SeqNo(2)), version(9)).await.unwrap();
    assert_eq!(lost, CaSResult::ExpectationMismatch { current: Some(SeqNo(3)) });
    assert_eq!(recent.head_recent("k", long).await.unwrap(), Some(version(3)));
    let looks = recent.store().looks();
    assert_eq!(recent.head_recent("k", long).await.unwrap(), Some(version(3)));
    assert_eq!(recent.store().looks(), looks, "it was young enough");
    recent.head_recent("k", Duration::ZERO).await.unwrap();
    assert_eq!(recent.store().looks(), looks + 1);
}
