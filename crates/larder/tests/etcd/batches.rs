//! Calls that go together.

use futures_util::future::join_all;
use larder::{CaSResult, Consensus, Effect, Retry, SeqNo};
use larder_testkit::service::EtcdServer;

use crate::place::{assert_fails, cas, number, open, version};

pub(crate) async fn calls_that_wait_go_together_and_each_is_judged_by_itself() {
    let server = EtcdServer::start().unwrap();
    let store = open(&format!("{}/x?timeout=20s", server.uri())).await;
    let keys: Vec<String> = (0..600).map(|at| format!("k{at}")).collect();
    let first = join_all(keys.iter().map(|key| cas(&store, key, None, version(5, key)))).await;
    assert!(first.iter().all(|swapped| matches!(swapped, Ok(CaSResult::Committed))));
    let steps = || number(&server.post("/v3/maintenance/status", "{}").unwrap(), "raftIndex");
    let before = steps();
    // Of each three keys one is as expected, one has another head, and one is none.
    let calls = keys.iter().enumerate().map(|(at, key)| match at % 3 {
        0 => (key.clone(), Some(5), Ok(CaSResult::Committed)),
        1 => (key.clone(), Some(4), Err(Some(SeqNo(5)))),
        _ => (format!("new {key}"), Some(5), Err(None)),
    });
    let calls: Vec<_> = calls.collect();
    let swaps = calls.iter().map(|(key, from, _)| cas(&store, key, *from, version(9, "next")));
    for (swapped, (key, _, wanted)) in join_all(swaps).await.into_iter().zip(&calls) {
        let wanted = wanted.unwrap_or_else(|current| CaSResult::ExpectationMismatch { current });
        assert_eq!(swapped.unwrap(), wanted, "{key}");
    }
    let steps = steps() - before;
    assert!(steps < 60, "600 calls were {steps} steps");
    let heads = join_all(keys.iter().map(|key| store.head(key))).await;
    for ((at, key), head) in keys.iter().enumerate().zip(heads) {
        let wanted = if at % 3 == 0 { version(9, "next") } else { version(5, key) };
        assert_eq!(head.unwrap(), Some(wanted), "{key}");
    }
}

pub(crate) async fn a_server_that_takes_less_gets_less() {
    let settings = ["--max-txn-ops=5", "--max-request-bytes=65536"];
    let server = EtcdServer::start_with(&settings).unwrap();
    let store = open(&format!("{}/x?timeout=20s", server.uri())).await;
    let keys: Vec<String> = (0..100).map(|at| format!("k{at}")).collect();
    let data = "x".repeat(3_000);
    let swaps = join_all(keys.iter().map(|key| cas(&store, key, None, version(1, &data)))).await;
    for swapped in swaps {
        assert_eq!(swapped.unwrap(), CaSResult::Committed);
    }
    for head in join_all(keys.iter().map(|key| store.head(key))).await {
        assert_eq!(head.unwrap(), Some(version(1, &data)));
    }
    // What is too large alone is refused, and those beside it are not.
    let large = "x".repeat(100_000);
    let swaps = keys.iter().enumerate().map(|(at, key)| {
        let data = if at == 50 { &large } else { &data };
        cas(&store, key, Some(1), version(2, data))
    });
    for (at, swapped) in join_all(swaps).await.into_iter().enumerate() {
        if at == 50 {
            let told = assert_fails(swapped, Effect::NotApplied, Retry::Never);
            assert!(told.contains("--max-request-bytes"), "{told}");
        } else {
            assert_eq!(swapped.unwrap(), CaSResult::Committed, "{at}");
        }
    }
    assert_eq!(store.head("k50").await.unwrap(), Some(version(1, &data)));
}
