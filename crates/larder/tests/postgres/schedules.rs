//! Two writers of one key, step by step: the interleavings that let both of them win with other statements.
//!
//! One is a session whose transaction stands still at a moment of our choice, the other one is the store.

use std::sync::Arc;

use larder::consensus::PostgresConsensus;
use larder::{CaSResult, Consensus, SeqNo, VersionedData};
use larder_testkit::service::{PostgresServer, PostgresSession};

use crate::place::{number, uri};

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
        let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'larder' \
                     AND wait_event_type = 'Lock'";
        while number(&self.server, waits) == 0 {
            assert!(!call.is_finished(), "it did not wait for the other one");
            tokio::task::yield_now().await;
        }
        call
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
    for seqno in 0..3_u64 {
        let new = VersionedData { seqno: SeqNo(seqno), data: "mine".into() };
        let expected = seqno.checked_sub(1).map(SeqNo);
        let done = two.store.compare_and_set("k", expected, new).await.unwrap();
        assert_eq!(done, CaSResult::Committed);
    }
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
    let waits = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'larder' \
                 AND wait_event_type = 'Lock'";
    while number(&two.server, waits) == 0 {
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
