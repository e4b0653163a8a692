//! A server that has promised to wait for a standby, which is not there.

use std::process::Child;
use std::time::Duration;

use bytes::Bytes;
use larder::consensus::PostgresConsensus;
use larder::recipes::{Resolution, resolve};
use larder::{
    CaSResult, Clock, Consensus, ConsensusError, Durability, Effect, Failure, Retry, SeqNo,
    SystemClock, VersionedData,
};
use larder_testkit::service::PostgresServer;
use tracing::Level;

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
    set(server, "synchronous_standby_names", standbys);
}

/// Changes a setting of the server while it runs, and waits until a session that was there before has it.
fn set(server: &PostgresServer, setting: &str, value: &str) {
    let mut session = server.session().unwrap();
    server.query(&format!("ALTER SYSTEM SET {setting} = '{value}'")).unwrap();
    server.query("SELECT pg_reload_conf()").unwrap();
    let until = SystemClock.instant() + PATIENCE;
    while session.query(&format!("SHOW {setting}")).unwrap() != [[Some(value.to_owned())]] {
        assert!(SystemClock.instant() < until, "{setting} does not change");
    }
}

/// What operators were told of a server.
fn told(server: &PostgresServer) -> Vec<(Level, String)> {
    let place = format!("postgres://127.0.0.1:{}/", server.port());
    let told = crate::events().all().into_iter();
    told.filter(|(_, line)| line.contains(&place)).collect()
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

/// Whoever takes the server's log as it is written, and says when it is on its own disk.
struct Standby {
    receiving: Child,
    _folder: tempfile::TempDir,
}

impl Standby {
    /// One that is called `standby`, and has begun.
    fn of(server: &PostgresServer) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let place =
            format!("port={} host=127.0.0.1 user=larder application_name=standby", server.port());
        let receiving = PostgresServer::command("pg_receivewal").unwrap();
        let receiving = { receiving }
            .args(["--synchronous", "--no-loop", "--dbname", &place, "--directory"])
            .arg(folder.path())
            .spawn()
            .unwrap();
        let standby = Self { receiving, _folder: folder };
        let until = SystemClock.instant() + PATIENCE;
        while Self::state(server, "state") != "streaming" {
            assert!(SystemClock.instant() < until, "it does not begin to stream");
        }
        standby
    }

    /// What the server says of it.
    fn state(server: &PostgresServer, what: &str) -> String {
        let sql =
            format!("SELECT {what} FROM pg_stat_replication WHERE application_name = 'standby'");
        let rows = server.query(&sql).unwrap();
        rows.into_iter().flatten().flatten().next().unwrap_or_default()
    }
}

impl Drop for Standby {
    fn drop(&mut self) {
        let _ = self.receiving.kill();
        let _ = self.receiving.wait();
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

pub(crate) async fn an_operator_who_stops_waiting_for_standbys_is_noticed() {
    let (server, store) = waiting("timeout=20s").await;
    assert!(told(&server).is_empty(), "{:?}", told(&server));
    wait_for(&server, "");
    // The first that is written says so, and no connection had to be made for that.
    let swapped = store.compare_and_set("k", Some(SeqNo(1)), version(2, "alone")).await;
    assert_eq!(swapped.unwrap(), CaSResult::Committed);
    assert_eq!(store.durability(), Durability::Power);
    let swapped = store.compare_and_set("new", None, version(1, "alone")).await;
    assert_eq!(swapped.unwrap(), CaSResult::Committed);
    let [(Level::WARN, warning)] = &told(&server)[..] else { panic!("{:?}", told(&server)) };
    assert!(warning.contains("does not wait for standbys any more"), "{warning}");
    // And back, found out by a connection that is made.
    wait_for(&server, "absent");
    server.terminate("larder").unwrap();
    while store.head("k").await.is_err() {}
    assert_eq!(store.durability(), Durability::Machine);
    assert_eq!(told(&server).len(), 2, "{:?}", told(&server));
}

/// Whoever takes the server's log and is not waited for has less of it than was acknowledged.
pub(crate) async fn a_standby_that_is_left_behind_is_warned_about() {
    let server = PostgresServer::start_with(&["fsync=on"]).unwrap();
    let store = PostgresConsensus::open(&uri(&server, "timeout=20s")).await.unwrap();
    assert_eq!((store.durability(), told(&server).len()), (Durability::Power, 0));
    let _standby = Standby::of(&server);
    // One that comes later is found by the next connection that is made, and told once.
    for _ in 0..2 {
        server.terminate("larder").unwrap();
        while store.head("k").await.is_err() {}
        let [(Level::WARN, warning)] = &told(&server)[..] else { panic!("{:?}", told(&server)) };
        assert!(warning.contains("a failover to one of them takes back"), "{warning}");
    }
    assert_eq!(store.durability(), Durability::Power);
    // The same one, waited for: what is committed now is on its disk as well.
    wait_for(&server, "standby");
    let until = SystemClock.instant() + PATIENCE;
    while Standby::state(&server, "sync_state") != "sync" {
        assert!(SystemClock.instant() < until, "it is not waited for");
    }
    let made = store.compare_and_set("k", None, version(1, "on two")).await;
    assert_eq!(made.unwrap(), CaSResult::Committed);
    assert_eq!(store.durability(), Durability::Machine);
    assert_eq!(told(&server).last().unwrap().0, Level::INFO);
}

pub(crate) async fn an_operator_who_turns_synchronous_commit_off_takes_nothing_from_us() {
    let (server, store) = waiting("timeout=20s").await;
    set(&server, "synchronous_commit", "off");
    let (swapped, ()) = tokio::join!(
        store.compare_and_set("k", Some(SeqNo(1)), version(2, "after")),
        disturb_a_call(&server, "pg_cancel_backend")
    );
    unknown(swapped, "not to wait for its standbys");
}

pub(crate) async fn an_operator_who_turns_fsync_off_is_noticed() {
    let server = PostgresServer::start().unwrap();
    set(&server, "fsync", "on");
    let store = PostgresConsensus::open(&uri(&server, "timeout=20s")).await.unwrap();
    store.compare_and_set("k", None, version(1, "safe")).await.unwrap();
    set(&server, "fsync", "off");
    let new = version(2, "in danger");
    let swapped = store.compare_and_set("k", Some(SeqNo(1)), new.clone()).await;
    unknown(swapped, "fsync=off");
    // Whoever goes on needs a new connection, and is refused one.
    let refused = store.compare_and_set("k", Some(SeqNo(2)), version(3, "never")).await;
    let error = refused.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never), "{error:?}");
    assert!(larder::error::chain(&error).contains("fsync=off"), "{error:?}");
    set(&server, "fsync", "on");
    let resolved = loop {
        match resolve(&store, "k", Some(SeqNo(1)), &new).await {
            Ok(resolved) => break resolved,
            Err(error) => assert_eq!(error.effect(), Effect::NotApplied, "{error:?}"),
        }
    };
    assert_eq!(resolved, Resolution::Committed);
}
