//! A cluster whose members die, hang and are alone.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use larder::consensus::EtcdConsensus;
use larder::recipes::{Resolution, resolve};
use larder::{
    CaSResult, Clock, Consensus, ConsensusError, Durability, Effect, Failure, Retry, SeqNo,
    SystemClock, VersionedData,
};
use larder_testkit::service::EtcdCluster;

use crate::place::{assert_fails, cas, in_the_end, open, version, within};

const LIMIT: Duration = Duration::from_secs(1);
/// An election takes half a second to one, and the first call of each connection a limit; the rest is for a
/// busy machine.
const BACK_MAX: Duration = Duration::from_secs(30);
/// So many versions each client writes before the next leader dies, however long that takes.
const STEADY: usize = 10;

/// What one client was told: of each version whether it was acknowledged.
struct Told {
    key: String,
    acknowledged: Vec<VersionedData>,
    resolved: usize,
    /// The longest time without an acknowledgement.
    gap: Duration,
}

/// Appends to a key of its own until it is told to stop; whatever is unknown is resolved.
async fn append(
    store: &EtcdConsensus,
    client: usize,
    written: &AtomicUsize,
    enough: &AtomicBool,
) -> Told {
    let key = format!("client {client}");
    let mut told =
        Told { key: key.clone(), acknowledged: Vec::new(), resolved: 0, gap: Duration::ZERO };
    let (mut head, mut last) = (None, SystemClock.instant());
    let mut seqno = 0;
    while !enough.load(Ordering::SeqCst) {
        seqno += 1;
        let new = version(seqno, &format!("{client}.{seqno}"));
        let is_there = match cas(store, &key, head, new.clone()).await {
            Ok(CaSResult::Committed) => true,
            Ok(other) => panic!("{other:?} although nobody else writes {key}"),
            Err(error @ ConsensusError::Indeterminate(_)) => {
                assert_eq!(error.retry(), Retry::Later, "{error:?}");
                told.resolved += 1;
                settle(store, &key, head, &new).await
            }
            Err(error) => {
                assert_eq!(error.retry(), Retry::Later, "{error:?}");
                tokio::time::sleep(Duration::from_millis(5)).await;
                false
            }
        };
        if is_there {
            let now = SystemClock.instant();
            told.gap = told.gap.max(now - last);
            last = now;
            head = Some(seqno);
            told.acknowledged.push(new);
            written.fetch_add(1, Ordering::SeqCst);
        }
    }
    told
}

/// Finds out whether a write has come about; one that still may is sent again, so that one of the two does.
async fn settle(
    store: &EtcdConsensus,
    key: &str,
    expected: Option<u64>,
    new: &VersionedData,
) -> bool {
    let expected = expected.map(SeqNo);
    loop {
        match in_the_end(async || resolve(store, key, expected, new).await).await {
            Resolution::Committed => return true,
            Resolution::Open => match store.compare_and_set(key, expected, new.clone()).await {
                Ok(CaSResult::Committed) => return true,
                Ok(CaSResult::ExpectationMismatch { current }) => {
                    assert_eq!(current, Some(new.seqno), "somebody else wrote {key}");
                }
                Err(error) => assert_eq!(error.retry(), Retry::Later, "{error:?}"),
            },
            other => panic!("{other:?} although nobody else writes {key}"),
        }
    }
}

pub(crate) async fn what_was_acknowledged_survives_each_leader() {
    let cluster = Arc::new(EtcdCluster::start(3).unwrap());
    let store = open(&format!("{}/x?timeout=1s", cluster.uri())).await;
    assert_eq!(store.durability(), Durability::Machine);
    let enough = AtomicBool::new(false);
    let written: Vec<AtomicUsize> = (0..8).map(|_| AtomicUsize::new(0)).collect();
    let clients = written.iter().enumerate();
    let clients = join_all(clients.map(|(client, own)| append(&store, client, own, &enough)));
    let disturbing = async {
        for _ in 0..3 {
            for own in &written {
                let before = own.load(Ordering::SeqCst);
                while own.load(Ordering::SeqCst) < before + STEADY {
                    tokio::time::sleep(Duration::from_millis(5)).await;
                }
            }
            let cluster = Arc::clone(&cluster);
            let killing = tokio::task::spawn_blocking(move || {
                let leader = cluster.leader()?;
                cluster.members()[leader].kill();
                // The others have a new one before it comes back.
                let next = cluster.leader()?;
                assert_ne!(leader, next);
                cluster.members()[leader].restart()
            });
            killing.await.unwrap().unwrap();
        }
        enough.store(true, Ordering::SeqCst);
    };
    let (told, ()) = tokio::join!(clients, disturbing);
    for told in &told {
        assert!(told.gap <= BACK_MAX, "{} went on after {:?}", told.key, told.gap);
        let kept = in_the_end(async || store.scan(&told.key, SeqNo::MIN, usize::MAX).await).await;
        let lost = told.acknowledged.iter().find(|version| !kept.contains(version));
        assert_eq!(lost, None, "acknowledged and lost");
    }
    let resolved: usize = told.iter().map(|told| told.resolved).sum();
    assert!(resolved > 0, "no call was on its way when a leader died");
}

pub(crate) async fn a_member_without_the_others_answers_later_and_nothing_old() {
    let cluster = EtcdCluster::start(3).unwrap();
    let store = open(&format!("{}/x?timeout=1s", cluster.uri())).await;
    in_the_end(async || cas(&store, "k", None, version(1, "old")).await).await;
    let leader = cluster.leader().unwrap();
    let alone = &cluster.members()[leader];
    let one = open(&format!("{}/x?timeout=1s", alone.uri())).await;
    assert_eq!(one.head("k").await.unwrap(), Some(version(1, "old")));
    for (at, member) in cluster.members().iter().enumerate() {
        if at != leader {
            member.kill();
        }
    }
    // It has the data and knows nobody who agrees.
    for _ in 0..4 {
        assert_fails(within(LIMIT, one.head("k")).await, Effect::NotApplied, Retry::Later);
        assert_fails(
            within(LIMIT, one.scan("k", SeqNo(0), 9)).await,
            Effect::NotApplied,
            Retry::Later,
        );
        let error = within(LIMIT, cas(&one, "k", Some(1), version(2, "x"))).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Later, "{error:?}");
    }
    let error = EtcdConsensus::open(&format!("{}/x", alone.uri())).await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later), "{error:?}");
    for (at, member) in cluster.members().iter().enumerate() {
        if at != leader {
            member.restart().unwrap();
        }
    }
    let head = in_the_end(async || one.head("k").await).await.unwrap();
    assert!(head == version(1, "old") || head == version(2, "x"), "{head:?}");
}

pub(crate) async fn who_stood_still_does_not_answer_with_what_was() {
    let cluster = EtcdCluster::start(3).unwrap();
    let leader = cluster.leader().unwrap();
    let stopped = &cluster.members()[leader];
    let old = open(&format!("{}/x?timeout=1s", stopped.uri())).await;
    in_the_end(async || cas(&old, "k", None, version(1, "old")).await).await;
    let others = cluster.members().iter().enumerate().filter(|(at, _)| *at != leader);
    let hosts: Vec<String> =
        others.map(|(_, other)| format!("127.0.0.1:{}", other.port())).collect();
    stopped.pause().unwrap();
    let new = open(&format!("etcd://{}/x?timeout=1s", hosts.join(","))).await;
    in_the_end(async || cas(&new, "k", Some(1), version(2, "new")).await).await;
    // Asked before it can have heard of anything.
    let (asked, resumed) =
        tokio::join!(in_the_end(async || old.head("k").await), async { stopped.resume() });
    resumed.unwrap();
    assert_eq!(asked, Some(version(2, "new")));
}
