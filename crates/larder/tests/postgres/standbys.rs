//! A server that has promised to wait for a standby, which is not there.

use std::time::Duration;

use bytes::Bytes;
use larder::consensus::PostgresConsensus;
use larder::recipes::{Resolution, resolve};
use larder::{
    CaSResult, Clock, Consensus, ConsensusError, Durability, Effect, Failure, Retry, SeqNo,
    SystemClock, VersionedData,
};
use larder_testkit::service::PostgresServer;

use crate::place::{number, uri, within};

const PATIENCE: Duration = Duration::from_secs(20);

fn version(seqno: u64, text: &str) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: Bytes::copy_from_slice(text.as_bytes()) }
}

/// A server that waits for a standby, and a store on it with one version of `k`.
async fn waiting(parameters: &str) -> (PostgresServer, PostgresConsensus) {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let uri = uri(&server, parameters);
    let store = PostgresConsensus::open(&uri).await.unwrap();
    assert_eq!(store.durability(), Durability::Power);
    let made = store.compare_and_set("k", None, version(1, "before")).await.unwrap();
    assert_eq!(made, CaSResult::Committed);
    wait_for(&server, "absent");
    until_it_waits(&server);
    let store = PostgresConsensus::open(&uri).await.unwrap();
    assert_eq!(store.durability(), Durability::Machine);
    (server, store)
}

/// Tells the server which standbys to wait for.
fn wait_for(server: &PostgresServer, standbys: &str) {
    server.query(&format!("ALTER SYSTEM SET synchronous_standby_names = '{standbys}'")).unwrap();
    server.query("SELECT pg_reload_conf()").unwrap();
}

/// Waits until the server waits for its standbys: one of its processes says so to the others, some time after
/// new settings can be seen.
fn until_it_waits(server: &PostgresServer) {
    let until = SystemClock.instant() + PATIENCE;
    let waiting = "SELECT pg_cancel_backend(pid) FROM pg_stat_activity \
                   WHERE application_name = 'testkit' AND wait_event = 'SyncRep'";
    loop {
        let mut session = server.session().unwrap();
        // A commit that has written something.
        let commit = "SELECT pg_logical_emit_message(true, 'probe', 'probe')";
        let probe = std::thread::spawn(move || session.query(commit).map(drop));
        let mut has_waited = false;
        while !probe.is_finished() {
            has_waited |= !server.query(waiting).unwrap().is_empty();
        }
        probe.join().unwrap().unwrap();
        if has_waited {
            return;
        }
        assert!(SystemClock.instant() < until, "it does not wait for its standbys");
    }
}

/// Calls of ours that have committed and wait for the standby.
const WAITING: &str = "application_name = 'larder' AND wait_event = 'SyncRep'";

/// Does something to the first call that waits for the standby.
async fn disturb_a_call(server: &PostgresServer, function: &str) {
    let until = SystemClock.instant() + PATIENCE;
    let sql = format!("SELECT {function}(pid) FROM pg_stat_activity WHERE {WAITING}");
    while server.query(&sql).unwrap().is_empty() {
        assert!(SystemClock.instant() < until, "no call waits for a standby");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

#[track_caller]
fn unknown<T: std::fmt::Debug>(ended: Result<T, ConsensusError>, words: &str) {
    let error = ended.unwrap_err();
    let told = larder::error::chain(&error);
    assert_eq!((error.effect(), error.retry()), (Effect::Unknown, Retry::Later), "{told}");
    assert!(told.contains(words), "{told}");
}

pub(crate) async fn what_a_standby_was_not_waited_for_is_not_acknowledged() {
    let (server, store) = waiting("timeout=20s").await;
    let new = version(2, "after");
    let (swapped, ()) = tokio::join!(
        store.compare_and_set("k", Some(SeqNo(1)), new.clone()),
        disturb_a_call(&server, "pg_cancel_backend")
    );
    unknown(swapped, "not to wait for its standbys");
    // The server itself has it and shows it.
    let resolved = resolve(&store, "k", Some(SeqNo(1)), &new).await.unwrap();
    assert_eq!(resolved, Resolution::Committed);
    let (truncated, ()) =
        tokio::join!(store.truncate("k", SeqNo(2)), disturb_a_call(&server, "pg_cancel_backend"));
    unknown(truncated, "not to wait for its standbys");
    let (swapped, ()) = tokio::join!(
        store.compare_and_set("k", Some(SeqNo(2)), version(3, "ended")),
        disturb_a_call(&server, "pg_terminate_backend")
    );
    unknown(swapped, "");
    // A warning is about its own statement only.
    wait_for(&server, "");
    let head = store.head("k").await.unwrap().unwrap();
    for seqno in 4..20 {
        let expected = if seqno == 4 { head.seqno } else { SeqNo(seqno - 1) };
        let swapped = store.compare_and_set("k", Some(expected), version(seqno, "x")).await;
        assert_eq!(swapped.unwrap(), CaSResult::Committed);
    }
}

/// The time limit of a statement is over when it has committed: it neither ends the wait nor makes it a success.
pub(crate) async fn a_standby_that_is_away_leaves_the_outcome_unknown() {
    let limit = Duration::from_secs(2);
    let (server, store) = waiting("timeout=2s").await;
    let new = version(2, "after");
    let swapped = store.compare_and_set("k", Some(SeqNo(1)), new.clone());
    unknown(within(limit, swapped).await, "no answer");
    assert_eq!(
        number(&server, &format!("SELECT count(*) FROM pg_stat_activity WHERE {WAITING}")),
        1
    );
    // What waits for a standby is seen by nobody, and nobody passes it.
    assert_eq!(store.head("k").await.unwrap(), Some(version(1, "before")));
    let passing = store.compare_and_set("k", Some(SeqNo(1)), version(3, "never")).await;
    assert_eq!(passing.unwrap_err().retry(), Retry::Later);
    wait_for(&server, "");
    let resolved = loop {
        match resolve(&store, "k", Some(SeqNo(1)), &new).await {
            Ok(Resolution::Open) => {}
            Ok(resolved) => break resolved,
            Err(error) => assert_eq!(error.retry(), Retry::Later, "{error:?}"),
        }
    };
    assert_eq!(resolved, Resolution::Committed);
    let kept = store.scan("k", SeqNo(0), 9).await.unwrap();
    assert_eq!(kept, [version(1, "before"), new]);
}

pub(crate) async fn a_warning_that_nobody_knows_leaves_the_outcome_unknown() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let store = PostgresConsensus::open(&uri(&server, "schema=warned&timeout=20s")).await.unwrap();
    store.compare_and_set("k", None, version(1, "before")).await.unwrap();
    let make = "CREATE FUNCTION warned.warn() RETURNS trigger LANGUAGE plpgsql AS \
                $$ BEGIN RAISE WARNING 'hush'; RETURN NEW; END $$; \
                CREATE TRIGGER warn BEFORE INSERT ON warned.consensus_version \
                FOR EACH ROW EXECUTE FUNCTION warned.warn()";
    server.query(make).unwrap();
    let swapped = store.compare_and_set("k", Some(SeqNo(1)), version(2, "after")).await;
    let told = larder::error::chain(swapped.as_ref().unwrap_err());
    unknown(swapped, "it warned");
    assert!(!told.contains("hush"), "{told}");
    server.query("DROP TRIGGER warn ON warned.consensus_version").unwrap();
    let swapped = store.compare_and_set("k", Some(SeqNo(2)), version(3, "x")).await.unwrap();
    assert_eq!(swapped, CaSResult::Committed);
}
