//! Stores that are no place for consensus, and places that belong to somebody else.

use std::time::Duration;

use futures_util::future::join_all;
use larder::consensus::ObjectConsensus;
use larder::registry::OpenError;
use larder::{Consensus, Durability, Effect, Retry};
use larder_testkit::Proxy;
use larder_testkit::service::{S3Quirk, S3Server};

use crate::place::{assert_fails, commit, store, uri};

async fn is_unfit(quirk: S3Quirk, words: &str) {
    let server = S3Server::start().unwrap();
    server.behave_as(Some(quirk));
    let told = assert_fails(
        ObjectConsensus::open(&uri(&server, "timeout=30s")).await,
        Effect::NotApplied,
        Retry::Never,
    );
    assert!(told.contains("conditional PUTs") && told.contains(words), "{told}");
    // Nothing stays that says that this is a store.
    assert_eq!(server.names(), Vec::<String>::new());
    server.behave_as(None);
    store(&server, "timeout=5s").await;
}

pub(crate) async fn a_store_without_if_match_is_refused() {
    is_unfit(S3Quirk::IgnoresIfMatch, "an ETag where nothing is").await;
}

pub(crate) async fn a_store_without_if_none_match_is_refused() {
    is_unfit(S3Quirk::IgnoresIfNoneMatch, "If-None-Match").await;
}

pub(crate) async fn a_store_that_looks_before_it_writes_is_refused() {
    is_unfit(S3Quirk::LooksThenWrites, "two PUTs that name the same ETag").await;
}

pub(crate) async fn another_format_is_refused_and_left_alone() {
    let server = S3Server::start().unwrap();
    let before = store(&server, "timeout=5s").await;
    commit(&before, None, 1, "one").await;
    server.overwrite("test/larder", b"larder consensus 99\n").unwrap();
    let names = server.names();
    let error = larder::open_consensus(&uri(&server, "timeout=5s")).await.unwrap_err();
    assert!(matches!(error, OpenError::Newer { .. }), "{error:?}");
    assert!(error.to_string().contains("format 99"), "{error}");
    assert_eq!(server.names(), names);
    // An object of another release, met by one that is open.
    let mut bytes = server.object("test/keys/by-name/k").unwrap();
    bytes[4] = 2;
    server.overwrite("test/keys/by-name/k", &bytes).unwrap();
    let told = assert_fails(before.head("k").await, Effect::NotApplied, Retry::Never);
    assert!(told.contains("another release"), "{told}");
}

pub(crate) async fn what_belongs_to_something_else_is_refused() {
    let server = S3Server::start().unwrap();
    for mark in
        [&b"larder spool 1\n"[..], b"", b"larder consensus 1", b"\xff", b"larder consensus x\n"]
    {
        server.overwrite("test/larder", mark).unwrap();
        let error = larder::open_consensus(&uri(&server, "timeout=5s")).await.unwrap_err();
        assert!(matches!(error, OpenError::OtherContract { .. }), "{mark:?}: {error:?}");
        assert_eq!(server.object("test/larder").unwrap(), mark);
    }
}

pub(crate) async fn wrong_credentials_and_buckets_are_told_at_once_and_not_shown() {
    let server = S3Server::start().unwrap();
    let open = async |uri: String| ObjectConsensus::open(&uri).await;
    let right = uri(&server, "timeout=5s");
    let table = [
        (right.replace("hush/with", "hush/not-with"), "403 SignatureDoesNotMatch"),
        (right.replace("larder:", "hush:"), "NotSignedUp"),
        (right.replace("@shelf", "@other-shelf"), "NoSuchBucket"),
    ];
    for (uri, words) in table {
        let told = assert_fails(open(uri).await, Effect::NotApplied, Retry::Never);
        assert!(told.contains(words), "{told}");
    }
    let opened = open(right).await.unwrap();
    assert!(!format!("{opened:?}").contains("hush"));
    assert_eq!(opened.durability(), Durability::Power);
}

pub(crate) async fn an_endpoint_that_is_away_or_hangs_fails_in_time() {
    let server = S3Server::start().unwrap();
    let proxy = Proxy::to_port(server.port()).unwrap();
    let uri = uri(&server, "timeout=900ms")
        .replace(&server.port().to_string(), &proxy.address().port().to_string());
    proxy.hang();
    let opening = tokio::time::timeout(Duration::from_mins(1), ObjectConsensus::open(&uri));
    let told = assert_fails(opening.await.unwrap(), Effect::NotApplied, Retry::Later);
    assert!(told.contains("no answer from s3://shelf/test at http://127.0.0.1:"), "{told}");
    proxy.restore();
    let opened = ObjectConsensus::open(&uri.replace("900ms", "3s")).await.unwrap();
    drop(proxy);
    let told = assert_fails(opened.head("k").await, Effect::NotApplied, Retry::Later);
    assert!(told.contains("cannot connect to s3://shelf/test"), "{told}");
    let new = crate::place::version(1, "never sent");
    let told = assert_fails(
        opened.compare_and_set("k", None, new).await,
        Effect::NotApplied,
        Retry::Later,
    );
    assert!(told.contains("cannot connect"), "{told}");
    let told = assert_fails(ObjectConsensus::open(&uri).await, Effect::NotApplied, Retry::Later);
    assert!(told.contains("cannot connect"), "{told}");
}

pub(crate) async fn those_who_open_at_once_agree() {
    let server = S3Server::start().unwrap();
    let opening = (0..8).map(async |_| store(&server, "timeout=10s").await);
    let stores = join_all(opening.collect::<Vec<_>>()).await;
    // Of those who make the first version at once, one does.
    let racing = stores.iter().enumerate().map(async |(seqno, store)| {
        let seqno = u64::try_from(seqno).unwrap();
        crate::place::cas(store, None, seqno, &format!("by {seqno}")).await.unwrap()
    });
    let answers = join_all(racing.collect::<Vec<_>>()).await;
    let won = answers.iter().filter(|answer| **answer == larder::CaSResult::Committed).count();
    assert_eq!(won, 1, "{answers:?}");
}

pub(crate) async fn opening_leaves_one_object() {
    let server = S3Server::start().unwrap();
    for _ in 0..2 {
        store(&server, "timeout=5s").await;
        assert_eq!(server.names(), ["test/larder"]);
    }
    assert_eq!(server.object("test/larder").unwrap(), b"larder consensus 1\n");
}
