//! Two writers of one key, step by step: the interleavings that let both of them win with other statements.
//!
//! One is a session whose transaction stands still at a moment of our choice, the other one is the store.

use std::sync::Arc;

use futures_util::future::join_all;
use larder::consensus::PostgresConsensus;
use larder::{CaSResult, Consensus, ConsensusError, Determinate, SeqNo, VersionedData};
use larder_testkit::service::{PostgresServer, PostgresSession};

use crate::place::{number, uri};

/// Statements of the store that wait for a lock.
const WAITS: &str = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'larder' \
                     AND wait_event_type = 'Lock'";

struct Two {
    server: PostgresServer,
    store: Arc<PostgresConsensus>,
    other: PostgresSession,
}

impl Two {
    async fn start() -> Self {
        let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
        let store = PostgresConsensus::open(&uri(&server, "schema=two&timeout=20s")).await;
        let other = server.session().unwrap();
        Self { store: Arc::new(store.unwrap()), other, server }
    }

    /// Begins a transaction of the other writer that makes `to` the head, and leaves it open.
    fn stand(&mut self, key: &str, from: Option<u64>, to: u64) {
        let head = match from {
            None => format!("INSERT INTO two.consensus_head VALUES ('{key}', {to})"),
            Some(from) => format!(
                "UPDATE two.consensus_head SET seqno = {to} WHERE key = '{key}' AND seqno = {from}"
            ),
        };
        let version = format!("INSERT INTO two.consensus_version VALUES ('{key}', {to}, 'other')");
        self.other.query(&format!("BEGIN; {head}; {version}")).unwrap();
    }

    /// Lets the store write meanwhile, until it waits for the other one.
    async fn race(
        &self,
        key: &'static str,
        from: Option<u64>,
        to: u64,
    ) -> tokio::task::JoinHandle<CaSResult> {
        let store = Arc::clone(&self.store);
        let new = VersionedData { seqno: SeqNo(to), data: "mine".into() };
        let call =
            tokio::spawn(
                async move { store.compare_and_set(key, from.map(SeqNo), new).await.unwrap() },
            );
        self.until_it_waits(&call).await;
        call
    }

    /// Lets the store truncate meanwhile, until it waits for the other one.
    async fn race_truncation(
        &self,
        key: &'static str,
        below: u64,
    ) -> tokio::task::JoinHandle<usize> {
        let store = Arc::clone(&self.store);
        let call = tokio::spawn(async move { store.truncate(key, SeqNo(below)).await.unwrap() });
        self.until_it_waits(&call).await;
        call
    }

    async fn until_it_waits<T>(&self, call: &tokio::task::JoinHandle<T>) {
        while number(&self.server, WAITS) == 0 {
            assert!(!call.is_finished(), "it did not wait for the other one");
            tokio::task::yield_now().await;
        }
    }

    /// Versions 0, 1 and 2 of each key.
    async fn three_versions(&self, keys: &[impl AsRef<str>]) {
        for seqno in 0..3_u64 {
            let append = |key: &str| {
                let (store, key) = (Arc::clone(&self.store), key.to_owned());
                let new = VersionedData { seqno: SeqNo(seqno), data: "mine".into() };
                let expected = seqno.checked_sub(1).map(SeqNo);
                async move { store.compare_and_set(&key, expected, new).await.unwrap() }
            };
            let done = join_all(keys.iter().map(|key| append(key.as_ref()))).await;
            assert!(done.iter().all(|done| *done == CaSResult::Committed));
        }
    }

    async fn chain(&self, key: &str) -> Vec<(u64, String)> {
        let versions = self.store.scan(key, SeqNo::MIN, usize::MAX).await.unwrap();
        let shown = |version: VersionedData| {
            (version.seqno.0, String::from_utf8_lossy(&version.data).into_owned())
        };
        versions.into_iter().map(shown).collect()
    }
}

const fn lost_to(seqno: u64) -> CaSResult {
    CaSResult::ExpectationMismatch { current: Some(SeqNo(seqno)) }
}

fn chain(versions: &[(u64, &str)]) -> Vec<(u64, String)> {
    versions.iter().map(|(seqno, data)| (*seqno, (*data).to_owned())).collect()
}

pub(crate) async fn two_writers_with_gaps_do_not_both_win() {
    let mut two = Two::start().await;
    two.stand("k", None, 5);
    two.other.query("COMMIT").unwrap();
    for (key, ends, answer, left) in [
        ("k", "COMMIT", lost_to(10), chain(&[(5, "other"), (10, "other")])),
        ("l", "ROLLBACK", CaSResult::Committed, chain(&[(5, "other"), (11, "mine")])),
    ] {
        if key == "l" {
            two.stand("l", None, 5);
            two.other.query("COMMIT").unwrap();
        }
        two.stand(key, Some(5), 10);
        let mine = two.race(key, Some(5), 11).await;
        two.other.query(ends).unwrap();
        assert_eq!(mine.await.unwrap(), answer, "{ends}");
        assert_eq!(two.chain(key).await, left, "{ends}");
    }
}

pub(crate) async fn two_initialisers_do_not_both_win() {
    let mut two = Two::start().await;
    for (key, ends, answer, left) in [
        ("k", "COMMIT", lost_to(5), chain(&[(5, "other")])),
        ("l", "ROLLBACK", CaSResult::Committed, chain(&[(7, "mine")])),
    ] {
        two.stand(key, None, 5);
        let mine = two.race(key, None, 7).await;
        two.other.query(ends).unwrap();
        assert_eq!(mine.await.unwrap(), answer, "{ends}");
        assert_eq!(two.chain(key).await, left, "{ends}");
    }
}

pub(crate) async fn a_writer_that_stood_still_makes_nothing_again_that_was_truncated() {
    let mut two = Two::start().await;
    two.three_versions(&["k"]).await;
    // One more version is on its way while the low end goes.
    two.stand("k", Some(2), 9);
    assert_eq!(two.store.truncate("k", SeqNo(2)).await.unwrap(), 2);
    // It waits to see what becomes of the head, and is told what it was when the call came.
    let late = two.race("k", None, 0).await;
    two.other.query("COMMIT").unwrap();
    assert_eq!(late.await.unwrap(), lost_to(2));
    let late = VersionedData { seqno: SeqNo(1), data: "late".into() };
    let done = two.store.compare_and_set("k", Some(SeqNo(0)), late).await.unwrap();
    assert_eq!(done, lost_to(9));
    assert_eq!(two.chain("k").await, chain(&[(2, "mine"), (9, "other")]));
}

pub(crate) async fn what_is_not_committed_is_not_seen() {
    let mut two = Two::start().await;
    two.stand("k", None, 5);
    assert_eq!(two.store.head("k").await.unwrap(), None);
    assert_eq!(two.chain("k").await, []);
    let mut keys = two.store.list_keys();
    assert!(keys.next().await.is_none());
    two.other.query("COMMIT").unwrap();
    assert_eq!(two.store.head("k").await.unwrap().unwrap().seqno, SeqNo(5));
    assert_eq!(two.store.list_keys().next().await.unwrap().unwrap(), "k");
}

pub(crate) async fn a_batch_is_judged_key_by_key() {
    let mut two = Two::start().await;
    let keys: Vec<String> = (0..40).map(|number| format!("k{number:02}")).collect();
    let swap = |key: &str, expected: Option<u64>, seqno: u64| {
        let (store, key) = (Arc::clone(&two.store), key.to_owned());
        let new = VersionedData { seqno: SeqNo(seqno), data: "mine".into() };
        tokio::spawn(
            async move { store.compare_and_set(&key, expected.map(SeqNo), new).await.unwrap() },
        )
    };
    let calls: Vec<_> = keys.iter().map(|key| swap(key, None, 1)).collect();
    for call in calls {
        assert_eq!(call.await.unwrap(), CaSResult::Committed);
    }
    // One key is held by the other writer, who wins it; every third call expects something else.
    two.stand("k20", Some(1), 3);
    let two_calls: Vec<_> = keys
        .iter()
        .enumerate()
        .map(|(at, key)| {
            let (store, key) = (Arc::clone(&two.store), key.clone());
            let expected = Some(SeqNo(u64::from(at % 3 != 0)));
            let new = VersionedData { seqno: SeqNo(2), data: "mine".into() };
            tokio::spawn(async move { store.compare_and_set(&key, expected, new).await.unwrap() })
        })
        .collect();
    while number(&two.server, WAITS) == 0 {
        tokio::task::yield_now().await;
    }
    two.other.query("COMMIT").unwrap();
    for (at, call) in two_calls.into_iter().enumerate() {
        let answer = match at {
            20 => lost_to(3),
            at if at % 3 == 0 => lost_to(1),
            _ => CaSResult::Committed,
        };
        assert_eq!(call.await.unwrap(), answer, "{at}");
    }
}

pub(crate) async fn two_truncations_count_each_version_once() {
    let mut two = Two::start().await;
    two.three_versions(&["k", "l"]).await;
    let left = [("k", "COMMIT", 1), ("l", "ROLLBACK", 2)];
    for (key, ends, mine) in left {
        // The other one takes version 0 away.
        let gone = format!("DELETE FROM two.consensus_version WHERE key = '{key}' AND seqno = 0");
        two.other.query(&format!("BEGIN; {gone}")).unwrap();
        let call = two.race_truncation(key, 2).await;
        two.other.query(ends).unwrap();
        assert_eq!(call.await.unwrap(), mine, "{ends}");
        assert_eq!(two.chain(key).await, chain(&[(2, "mine")]), "{ends}");
    }
}

pub(crate) async fn a_truncation_goes_by_the_head_that_is_committed() {
    let mut two = Two::start().await;
    two.three_versions(&["k"]).await;
    // Version 9 is on its way, and would make this legal.
    two.stand("k", Some(2), 9);
    for below in [3, 9] {
        let refused = two.store.truncate("k", SeqNo(below)).await;
        let above = ConsensusError::Determinate(Determinate::AboveHead {
            seqno: SeqNo(below),
            head: SeqNo(2),
        });
        assert_eq!(format!("{:?}", refused.unwrap_err()), format!("{above:?}"));
    }
    assert_eq!(two.store.truncate("k", SeqNo(1)).await.unwrap(), 1);
    two.other.query("COMMIT").unwrap();
    // A compare-and-set and a truncation of one key do not wait for each other.
    two.stand("k", Some(9), 12);
    assert_eq!(two.store.truncate("k", SeqNo(9)).await.unwrap(), 2);
    two.other.query("ROLLBACK").unwrap();
    assert_eq!(two.chain("k").await, chain(&[(9, "other")]));
}

pub(crate) async fn truncations_and_scans_are_judged_key_by_key() {
    let mut two = Two::start().await;
    let narrow = uri(&two.server, "schema=two&timeout=20s&connections=1");
    two.store = Arc::new(PostgresConsensus::open(&narrow).await.unwrap());
    let keys: Vec<String> = (0..40).map(|number| format!("k{number:02}")).collect();
    two.three_versions(&keys).await;
    // The first one waits for the other session, and all that come meanwhile for the first one.
    two.other.query("BEGIN; DELETE FROM two.consensus_version WHERE key = 'k00'").unwrap();
    let first = two.race_truncation("k00", 1).await;
    let truncate = |at: usize| {
        let (store, key) = (Arc::clone(&two.store), format!("k{at:02}"));
        tokio::spawn(async move { store.truncate(&key, SeqNo(at as u64 % 4)).await })
    };
    let calls: Vec<_> = (1..44).map(truncate).collect();
    for (at, key) in keys.iter().enumerate().skip(1) {
        let (from, limit) = (SeqNo(at as u64 % 4), at % 3);
        // A scan that is given up while it waits leaves nothing behind.
        let scan = two.store.scan(key, from, limit);
        let scan = tokio::time::timeout(std::time::Duration::from_millis(1), scan);
        drop(scan.await);
    }
    two.other.query("ROLLBACK").unwrap();
    assert_eq!(first.await.unwrap(), 1);
    for (at, call) in (1..44).zip(calls) {
        let told = call.await.unwrap();
        match (at, at % 4) {
            (40.., _) => assert!(
                matches!(told, Err(ConsensusError::Determinate(Determinate::NoSuchKey))),
                "{at}: {told:?}"
            ),
            (_, 3) => assert!(
                matches!(told, Err(ConsensusError::Determinate(Determinate::AboveHead { .. }))),
                "{at}: {told:?}"
            ),
            (_, below) => assert_eq!(told.unwrap(), below, "{at}"),
        }
    }
    // Many scans at once, each with its own bounds, and heads among them.
    let scans = keys.iter().enumerate().map(|(at, key)| {
        let store = Arc::clone(&two.store);
        async move {
            let (from, limit) = (SeqNo(at as u64 % 5), 1 + at % 3);
            let head = store.head(key).await.unwrap().unwrap().seqno;
            let scanned = store.scan(key, from, limit).await.unwrap();
            let seqnos: Vec<u64> = scanned.iter().map(|version| version.seqno.0).collect();
            let oldest = match at % 4 {
                3 => 0,
                _ if at == 0 => 1,
                below => below,
            };
            let wanted: Vec<u64> =
                (0..3).filter(|seqno| *seqno >= from.0.max(oldest as u64)).take(limit).collect();
            assert_eq!((head, seqnos), (SeqNo(2), wanted), "{at}");
        }
    });
    join_all(scans).await;
    assert_eq!(two.store.scan("nobody", SeqNo(0), 9).await.unwrap(), []);
    assert_eq!(two.store.scan("k03", SeqNo(0), 0).await.unwrap(), []);
}

pub(crate) async fn batches_of_truncations_in_opposite_orders_do_not_stop_one_another() {
    let two = Two::start().await;
    let keys: Vec<String> = (0..30).map(|number| format!("k{number:02}")).collect();
    two.three_versions(&keys).await;
    let narrow = uri(&two.server, "schema=two&timeout=20s&connections=2");
    let stores = [
        PostgresConsensus::open(&narrow).await.unwrap(),
        PostgresConsensus::open(&narrow).await.unwrap(),
    ];
    for round in 0..60_u64 {
        let mut backwards = keys.clone();
        backwards.reverse();
        let trim = async |store: &PostgresConsensus, keys: &[String]| -> usize {
            let calls = keys.iter().map(|key| store.truncate(key, SeqNo(round + 2)));
            join_all(calls).await.into_iter().map(Result::unwrap).sum()
        };
        let (one, other) = tokio::join!(trim(&stores[0], &keys), trim(&stores[1], &backwards));
        assert_eq!(one + other, keys.len() * if round == 0 { 2 } else { 1 }, "round {round}");
        let next = |key| {
            let new = VersionedData { seqno: SeqNo(round + 3), data: "mine".into() };
            stores[0].compare_and_set(key, Some(SeqNo(round + 2)), new)
        };
        for done in join_all(keys.iter().map(|key| next(key))).await {
            assert_eq!(done.unwrap(), CaSResult::Committed);
        }
    }
}
