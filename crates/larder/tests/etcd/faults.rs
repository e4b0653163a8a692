//! A server that dies, hangs and loses connections.

use std::sync::Arc;
use std::time::Duration;

use larder::recipes::{Resolution, resolve};
use larder::{CaSResult, Consensus, ConsensusError, Effect, Failure, Retry, SeqNo};
use larder_testkit::service::EtcdServer;
use larder_testkit::{Direction, Proxy};

use crate::place::{assert_fails, cas, in_the_end, open, version, within};

/// Long enough for a busy machine to answer in where it should.
const LIMIT: Duration = Duration::from_secs(1);

pub(crate) async fn a_killed_server_fails_calls_in_time_and_is_found_again() {
    let server = EtcdServer::start().unwrap();
    let store = open(&format!("{}/x?timeout=1s", server.uri())).await;
    in_the_end(async || cas(&store, "k", None, version(1, "before")).await).await;
    server.kill();
    for _ in 0..20 {
        let error = within(LIMIT, store.head("k")).await.unwrap_err();
        assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later));
        let error = within(LIMIT, cas(&store, "k", Some(1), version(2, "x"))).await.unwrap_err();
        assert_eq!(error.retry(), Retry::Later, "{error:?}");
    }
    // By now nobody believes in a connection, so it is known that nothing was sent.
    let never = cas(&store, "k", Some(1), version(3, "never")).await;
    let told = assert_fails(never, Effect::NotApplied, Retry::Later);
    assert!(told.contains("cannot connect to etcd://127.0.0.1:"), "{told}");
    server.restart().unwrap();
    // What was committed is there, and what failed has not come about.
    let head = in_the_end(async || store.head("k").await).await;
    assert_eq!(head, Some(version(1, "before")));
    in_the_end(async || cas(&store, "k", Some(1), version(5, "after")).await).await;
    assert_eq!(store.head("k").await.unwrap(), Some(version(5, "after")));
}

pub(crate) async fn a_stopped_server_fails_calls_in_time() {
    let server = EtcdServer::start().unwrap();
    let store = open(&format!("{}/x?timeout=1s", server.uri())).await;
    in_the_end(async || cas(&store, "k", None, version(1, "old")).await).await;
    server.pause().unwrap();
    let late = version(2, "late");
    let told = within(LIMIT, cas(&store, "k", Some(1), late.clone())).await;
    let told = assert_fails(told, Effect::Unknown, Retry::Later);
    assert!(told.contains("no answer"), "{told}");
    // The connection was left, and no other one can be had.
    let told = within(LIMIT, cas(&store, "k", Some(1), version(3, "no"))).await;
    let told = assert_fails(told, Effect::NotApplied, Retry::Later);
    assert!(told.contains("no connection"), "{told}");
    assert_fails(within(LIMIT, store.head("k")).await, Effect::NotApplied, Retry::Later);
    server.resume().unwrap();
    let resolved = in_the_end(async || resolve(&store, "k", Some(SeqNo(1)), &late).await).await;
    let head = in_the_end(async || store.head("k").await).await.unwrap();
    match resolved {
        Resolution::Committed => assert_eq!(head, late),
        Resolution::Open => assert!(head == late || head == version(1, "old"), "{head:?}"),
        other => panic!("{other:?} although nobody else wrote"),
    }
}

pub(crate) async fn an_answer_that_is_lost_leaves_the_outcome_unknown() {
    let server = EtcdServer::start().unwrap();
    let proxy = Proxy::to_port(server.port()).unwrap();
    let uri = format!("etcd://{}/x?timeout=5s", proxy.address());
    let store = open(&uri).await;
    let (mut head, mut committed) = (None, 0);
    for turn in 0..20 {
        // The server gets the request, and the client no answer.
        proxy.kill_after(Direction::Answer, 0);
        let new = version(turn, &format!("lost {turn}"));
        let error = cas(&store, "k", head, new.clone()).await.unwrap_err();
        assert!(matches!(error, ConsensusError::Indeterminate(_)), "{error:?}");
        assert_eq!(error.retry(), Retry::Later);
        proxy.restore();
        let expected = head.map(SeqNo);
        match in_the_end(async || resolve(&store, "k", expected, &new).await).await {
            Resolution::Committed => committed += 1,
            // The same once more: at most one of the two lands.
            Resolution::Open => {
                let again = store.compare_and_set("k", expected, new.clone()).await.unwrap();
                let landed = CaSResult::ExpectationMismatch { current: Some(new.seqno) };
                assert!(again == CaSResult::Committed || again == landed, "{again:?}");
            }
            other => panic!("{other:?} although nobody else wrote"),
        }
        assert_eq!(store.head("k").await.unwrap(), Some(new));
        head = Some(turn);
    }
    assert!(committed > 0, "no call ever was carried out whose answer was lost");
}

pub(crate) async fn what_never_left_did_not_happen() {
    let server = EtcdServer::start().unwrap();
    let proxy = Proxy::to_port(server.port()).unwrap();
    let store = open(&format!("etcd://{}/x?timeout=1s", proxy.address())).await;
    proxy.cut();
    // At first the end of the connection may not have been noticed.
    let _ = cas(&store, "other", None, version(1, "x")).await;
    for turn in 0..5 {
        let refused = cas(&store, "k", None, version(turn, "x")).await;
        assert_fails(refused, Effect::NotApplied, Retry::Later);
    }
    proxy.restore();
    assert_eq!(in_the_end(async || store.head("k").await).await, None);
}

pub(crate) async fn another_member_is_asked_when_one_is_away_or_silent() {
    let server = EtcdServer::start().unwrap();
    let proxy = Proxy::to_port(server.port()).unwrap();
    let (away, near) = ("127.0.0.1:1", format!("127.0.0.1:{}", server.port()));
    let store = open(&format!("etcd://{away},{},{near}/x?timeout=1s", proxy.address())).await;
    assert_eq!(proxy.accepted(), 1, "the first that answers is taken");
    in_the_end(async || cas(&store, "k", None, version(1, "a")).await).await;
    proxy.hang();
    assert_fails(within(LIMIT, store.head("k")).await, Effect::NotApplied, Retry::Later);
    // The next one is asked at once, not the one that is silent.
    assert_eq!(within(LIMIT, store.head("k")).await.unwrap(), Some(version(1, "a")));
    let swapped = cas(&store, "k", Some(1), version(2, "b")).await.unwrap();
    assert_eq!(swapped, CaSResult::Committed);
}

pub(crate) async fn a_store_outlives_the_runtime_that_connected_it() {
    let server = EtcdServer::shared().unwrap();
    let uri = format!("{}/runtimes", server.uri());
    let store = std::thread::spawn(move || {
        let mut runtime = tokio::runtime::Builder::new_current_thread();
        runtime.enable_all().build().unwrap().block_on(async {
            let store = Arc::new(open(&uri).await);
            cas(&*store, "k", None, version(1, "x")).await.unwrap();
            store
        })
    });
    let store = store.join().unwrap();
    let head = in_the_end(async || store.head("k").await).await;
    assert_eq!(head, Some(version(1, "x")));
}
