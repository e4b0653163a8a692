//! A server that says no.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use larder::consensus::EtcdConsensus;
use larder::registry::OpenError;
use larder::{Consensus, Durability, Effect, Failure, Retry};
use larder_testkit::service::EtcdServer;

use crate::fake::{Fake, status};
use crate::place::{assert_fails, cas, in_the_end, let_in_me, open, version};

pub(crate) async fn every_refusal_has_its_effect_over_the_wire() {
    use Effect::{NotApplied, Unknown};
    use Retry::{Later, Never};
    let fake = Fake::start().await;
    let store = open(&format!("{}?timeout=10s", fake.uri())).await;
    let table = [
        (3, "etcdserver: request is too large", NotApplied, Never),
        (8, "etcdserver: too many requests", NotApplied, Later),
        (7, "etcdserver: permission denied", NotApplied, Never),
        (16, "etcdserver: invalid auth token", NotApplied, Later),
        (12, "unknown method hush", NotApplied, Never),
        (14, "etcdserver: request timed out", Unknown, Later),
        (14, "etcdserver: leader changed", Unknown, Later),
        (14, "etcdserver: no leader", Unknown, Later),
        (4, "context deadline exceeded", Unknown, Later),
        (1, "context canceled", Unknown, Later),
        (2, "raft: stopped", Unknown, Later),
        (2, "hush", Unknown, Never),
        (13, "hush", Unknown, Never),
        (10, "hush", Unknown, Never),
    ];
    for (code, text, effect, retry) in table {
        fake.change(|says| says.refusals = vec![(code, text)]);
        let told = assert_fails(cas(&store, "k", None, version(1, "x")).await, effect, retry);
        assert!(told.contains("etcd answers") && (code == 12 || !told.contains("hush")), "{told}");
        fake.change(|says| says.refusals = vec![(code, text)]);
        assert_fails(store.truncate("k", larder::SeqNo(0)).await, effect, retry);
        // A read changes nothing, whatever is said.
        fake.change(|says| says.refusals = vec![(code, text)]);
        assert_fails(store.head("k").await, NotApplied, retry);
    }
    // An answer without what was asked for is no answer.
    assert_fails(cas(&store, "k", None, version(1, "x")).await, Unknown, Never);
    assert_fails(store.head("k").await, NotApplied, Never);
}

#[track_caller]
fn refused(opened: Result<EtcdConsensus, OpenError>, retry: Retry, words: &str) {
    let error = opened.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, retry), "{error:?}");
    let told = format!("{} {error:?}", larder::error::chain(&error));
    assert!(told.contains(words), "{told}");
    assert!(!told.contains("hush"), "{told}");
}

pub(crate) async fn a_member_that_is_not_fit_is_passed_over() {
    let (fake, server) = (Fake::start().await, EtcdServer::shared().unwrap());
    for (status, retry, words) in [
        (status("3.3.27", 1, false, ""), Retry::Never, "older than etcd 3.4"),
        (status("3.4.23", 1, true, ""), Retry::Later, "a learner"),
        (status("3.4.23", 0, false, ""), Retry::Later, "no leader"),
        (status("3.4.23", 1, false, "alarm:CORRUPT "), Retry::Never, "corrupt"),
    ] {
        fake.change(|says| says.status = status);
        refused(EtcdConsensus::open(&fake.uri()).await, retry, words);
        let both = format!("etcd://127.0.0.1:{},127.0.0.1:{}/fit", fake.port, server.port());
        let store = open(&both).await;
        assert_eq!(store.durability(), Durability::Power, "a cluster of one");
        assert_eq!(store.head("k").await.unwrap(), None);
    }
    fake.change(|says| says.status = status("3.10.0", 1, false, "alarm:NOSPACE "));
    open(&fake.uri()).await;
}

pub(crate) async fn keys_of_another_release_are_refused_and_left_alone() {
    let server = EtcdServer::start().unwrap();
    let uri = format!("{}/newer", server.uri());
    let first = open(&uri).await;
    cas(&first, "k", None, version(1, "x")).await.unwrap();
    let [key, value] = ["newer//layout", "99"].map(|text| BASE64_STANDARD.encode(text));
    server.post("/v3/kv/put", &format!("{{\"key\":\"{key}\",\"value\":\"{value}\"}}")).unwrap();
    let error = EtcdConsensus::open(&uri).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
    assert!(error.to_string().contains("layout \"99\""), "{error}");
    // Whoever was connected before is found out when it connects again.
    server.restart().unwrap();
    let mut told = String::new();
    for _ in 0..3 {
        told = larder::error::chain(&first.head("k").await.unwrap_err());
    }
    assert!(told.contains("another release"), "{told}");
}

pub(crate) async fn a_wrong_login_is_told_at_once_and_not_shown() {
    let server = EtcdServer::start().unwrap();
    let_in_me(&server);
    let at =
        |login: &str, prefix: &str| format!("etcd://{login}127.0.0.1:{}/{prefix}", server.port());
    let never = Retry::Never;
    refused(EtcdConsensus::open(&at("me:hush-not@", "shop")).await, never, "password are wrong");
    refused(EtcdConsensus::open(&at("nobody:hush@", "shop")).await, never, "password are wrong");
    refused(EtcdConsensus::open(&at("", "shop")).await, never, "user and password");
    refused(EtcdConsensus::open(&at("me:hush@", "shops")).await, never, "may not do that");
    let store = open(&at("me:hush@", "shop")).await;
    cas(&store, "k", None, version(1, "x")).await.unwrap();
    assert!(!format!("{store:?}").contains("hush"));
    let mut listing = store.list_keys();
    assert_eq!(listing.next().await.unwrap().unwrap(), "k");
    // A server that starts again has forgotten who was let in.
    server.restart().unwrap();
    in_the_end(async || cas(&store, "k", Some(1), version(2, "x")).await).await;
}
