//! A quota that is used up.

use futures_util::future::join_all;
use larder::{CaSResult, Consensus, Effect, Retry, SeqNo};
use larder_testkit::service::EtcdServer;

use crate::fake::{Fake, looked};
use crate::place::{assert_fails, cas, open, version};

pub(crate) async fn a_used_up_quota_is_told_as_it_is() {
    let server = EtcdServer::start_with(&["--quota-backend-bytes=8388608"]).unwrap();
    let uri = format!("{}/x?timeout=20s", server.uri());
    let stores = join_all((0..4).map(|_| open(&uri))).await;
    let data = "x".repeat(1 << 20);
    let mut refused = 0;
    for turn in 0..8 {
        let calls = stores.iter().enumerate().flat_map(|(at, store)| {
            let data = &data;
            (0..4).map(move |call| async move {
                let key = format!("k{turn}.{at}.{call}");
                let swapped = cas(store, &key, None, version(1, data)).await;
                (key, swapped)
            })
        });
        for (key, swapped) in join_all(calls).await {
            let is_there = stores[0].head(&key).await.unwrap().is_some();
            match swapped {
                Ok(swapped) => assert!(is_there && swapped == CaSResult::Committed, "{key}"),
                Err(larder::ConsensusError::Indeterminate(_)) => refused += 1,
                Err(error) => {
                    assert!(!is_there, "{key}: {error:?}, and it is there");
                    refused += 1;
                }
            }
        }
    }
    assert!(refused > 16, "the quota was never used up");
    // Writes are refused from now on, reads are not, and neither is whoever opens the store.
    let store = open(&uri).await;
    let told = cas(&store, "new", None, version(1, "x")).await;
    let told = assert_fails(told, Effect::NotApplied, Retry::Later);
    assert!(told.contains("quota"), "{told}");
    assert_eq!(store.head("new").await.unwrap(), None);
    assert!(store.head("k0.0.0").await.unwrap().is_some());
    assert_eq!(store.scan("k0.0.0", SeqNo(0), 9).await.unwrap().len(), 1);
}

pub(crate) async fn whoever_uses_up_the_quota_may_have_been_carried_out() {
    let fake = Fake::start().await;
    let store = open(&fake.uri()).await;
    let full = (8, "etcdserver: mvcc: database space exceeded");
    for (found, effect) in [
        (Some(1), Effect::NotApplied),
        (Some(2), Effect::Unknown),
        (Some(7), Effect::Unknown),
        (None, Effect::Unknown),
    ] {
        fake.change(|says| (says.refusals, says.txn) = (vec![full], looked(found)));
        let swapped = cas(&store, "k", Some(1), version(2, "x")).await;
        assert_fails(swapped, effect, Retry::Later);
    }
    // Nobody can be asked whether it came about.
    fake.change(|says| says.refusals = vec![full, full]);
    let swapped = cas(&store, "k", Some(1), version(2, "x")).await;
    assert_fails(swapped, Effect::Unknown, Retry::Later);
}
