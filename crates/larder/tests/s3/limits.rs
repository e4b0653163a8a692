//! Keys, sizes and numbers at their bounds.

use std::time::Duration;

use futures_util::FutureExt as _;
use futures_util::future::join_all;
use larder::{CaSResult, Consensus, ConsensusError, Determinate, Effect, Retry, SeqNo};
use larder_testkit::service::{S3Fault, S3Server};

use crate::place::{assert_fails, cas, commit, store, uri, version, versions};

async fn keys(store: &impl Consensus) -> Vec<String> {
    let mut listing = store.list_keys();
    let mut keys = Vec::new();
    while let Some(key) = listing.next().await {
        keys.push(key.unwrap());
    }
    keys.sort();
    keys
}

pub(crate) async fn odd_keys_have_objects_of_their_own() {
    let server = S3Server::start().unwrap();
    let store = store(&server, "timeout=10s").await;
    let longest = "k".repeat(1_024);
    let umlauts = "ü".repeat(512);
    let mut odd = vec![
        "a",
        "A",
        "a/b",
        "a//b",
        "/",
        "//",
        "/a",
        "a/",
        ".",
        "..",
        "../..",
        "../larder",
        "a%2Fb",
        "a b",
        "a+b",
        "%",
        "?",
        "#",
        "&=;",
        "ü",
        "u\u{308}",
        "日本",
        "🦀",
        "\u{1}",
        "\u{7f}",
        "\\",
        "_",
        "_61",
        "\"<'>",
        &longest,
        &longest[1..],
        &umlauts,
        "k",
    ];
    for (at, key) in odd.iter().enumerate() {
        let new = version(u64::try_from(at).unwrap(), key);
        assert_eq!(
            store.compare_and_set(key, None, new).await.unwrap(),
            CaSResult::Committed,
            "{key}"
        );
    }
    for (at, key) in odd.iter().enumerate() {
        let head = store.head(key).await.unwrap().unwrap();
        assert_eq!(head, version(u64::try_from(at).unwrap(), key), "{key}");
    }
    odd.sort_unstable();
    assert_eq!(keys(&store).await, odd);
    // Whatever they are called, their objects stay in one place and below the limits of stores.
    for name in server.names() {
        assert!(name.starts_with("test/keys/by-") || name == "test/larder", "{name}");
        assert!(name.bytes().all(|b| b.is_ascii_alphanumeric() || b"/_-".contains(&b)), "{name}");
        assert!(name.split('/').all(|part| part.len() <= 255), "{name}");
    }
}

pub(crate) async fn a_full_object_says_what_to_do() {
    let server = S3Server::start().unwrap();
    let small = store(&server, "timeout=10s&max_object=4KiB").await;
    let puts = server.puts();
    let large = "x".repeat(4_096);
    match cas(&small, None, 1, &large).await.unwrap_err() {
        ConsensusError::Determinate(Determinate::TooLarge { bytes: 4_096, bytes_max }) => {
            let bytes_max = usize::try_from(bytes_max).unwrap();
            assert!(bytes_max > 4_000 && bytes_max < 4_096);
            // To the byte.
            let over = cas(&small, None, 1, &large[..=bytes_max]).await.unwrap_err();
            assert!(matches!(over, ConsensusError::Determinate(Determinate::TooLarge { .. })));
            assert_eq!(server.puts(), puts);
            commit(&small, None, 1, &large[..bytes_max]).await;
        }
        error => panic!("{error:?}"),
    }
    let told = assert_fails(cas(&small, Some(1), 2, "").await, Effect::NotApplied, Retry::Later);
    assert!(told.contains("truncate the key"), "{told}");
    // Whoever expects something else is told that first.
    assert_eq!(cas(&small, None, 2, "").await.unwrap(), crate::place::mismatch(Some(1)));
    // Another one may have a higher bound; what it writes can be read and truncated.
    let larger = store(&server, "timeout=10s").await;
    commit(&larger, Some(1), 2, "two").await;
    assert_eq!(versions(&small).await.len(), 2);
    assert_eq!(small.truncate("k", SeqNo(2)).await.unwrap(), 1);
    commit(&small, Some(2), 3, "three").await;
}

pub(crate) async fn a_listing_has_pages() {
    let server = S3Server::start().unwrap();
    let store = store(&server, "timeout=10s").await;
    let made: Vec<String> = (0..2_100).map(|number| format!("key {number:05}")).collect();
    for some in made.chunks(50) {
        let committing = some.iter().map(|key| store.compare_and_set(key, None, version(1, key)));
        for done in join_all(committing).await {
            assert_eq!(done.unwrap(), CaSResult::Committed);
        }
    }
    assert_eq!(keys(&store).await, made);
}

pub(crate) async fn calls_beyond_the_connections_wait() {
    let server = S3Server::start().unwrap();
    let store = store(&server, "timeout=30s&connections=2").await;
    for _ in 0..8 {
        server.next_get(S3Fault::Hangs);
    }
    let calls = join_all((0..8).map(|_| store.head("k")));
    let calm = async {
        while server.failed() < 2 {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        // Nobody else comes, however long it takes.
        tokio::time::sleep(Duration::from_millis(200)).await;
        assert_eq!(server.failed(), 2);
        server.calm();
    };
    let (answers, ()) = tokio::join!(calls, calm);
    for answer in answers {
        assert_eq!(answer.unwrap(), None);
    }
}

/// The answer of a call that does not wait.
#[track_caller]
fn at_once<T>(call: impl Future<Output = T>) -> T {
    call.now_or_never().unwrap_or_else(|| panic!("a call waits that should have been refused"))
}

pub(crate) async fn calls_beyond_those_that_may_wait_are_refused() {
    /// As the documentation of the store has it.
    const WAITING_MAX: usize = 10_000;
    let server = S3Server::start().unwrap();
    let store = store(&server, "timeout=5min&connections=1").await;
    let failed = server.failed();
    server.next_get(S3Fault::Hangs);
    let ask = || Box::pin(store.head("k"));
    // One has the only place, and its request is on its way.
    let mut first = ask();
    while server.failed() == failed {
        assert!(futures_util::poll!(&mut first).is_pending());
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let mut waiting = Vec::new();
    for number in 0..WAITING_MAX {
        let mut call = ask();
        assert!(futures_util::poll!(&mut call).is_pending(), "call {number}");
        waiting.push(call);
    }
    for _ in 0..3 {
        let told = assert_fails(at_once(ask()), Effect::NotApplied, Retry::Later);
        assert!(told.contains("too many calls are waiting"), "{told}");
        let swapped = at_once(cas(&store, None, 1, "x"));
        assert_fails(swapped, Effect::NotApplied, Retry::Later);
    }
    // Whoever leaves makes room for one.
    waiting.pop();
    let mut next = ask();
    assert!(futures_util::poll!(&mut next).is_pending());
    assert_fails(at_once(ask()), Effect::NotApplied, Retry::Later);
    server.calm();
    assert_eq!(first.await.unwrap(), None);
    // In the order of their coming: all of those before have to be gone.
    drop(waiting);
    assert_eq!(next.await.unwrap(), None);
    assert_eq!(store.head("k").await.unwrap(), None);
}

pub(crate) async fn only_a_prefix_is_cleared() {
    let server = S3Server::start().unwrap();
    let other = larder::open_consensus(&server.uri("test-2")).await.unwrap();
    other.compare_and_set("k", None, version(1, "kept")).await.unwrap();
    let store = store(&server, "timeout=10s").await;
    commit(&store, None, 1, "gone").await;
    larder::registry::drop_prefix(&uri(&server, "timeout=10s")).await.unwrap();
    assert_eq!(server.names(), ["test-2/keys/by-name/k", "test-2/larder"]);
    let error = larder::registry::drop_prefix(&server.uri("")).await.unwrap_err();
    assert!(error.to_string().contains("has to name a prefix"), "{error}");
    assert_eq!(server.names().len(), 2);
}
