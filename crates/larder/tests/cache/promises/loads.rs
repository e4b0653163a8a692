//! Cases 3 to 5: what is loaded.

use bytes::Bytes;
use larder::cache::{Hit, LoadError, PutOptions};
use tokio::task::JoinHandle;

use super::{Path, Settings, paths};
use crate::load::{Loader, settle};
use crate::scripted::key;

type Given = Result<Option<Hit<Bytes>>, LoadError>;

async fn ask(path: &Path, loader: &Loader) -> JoinHandle<Given> {
    let (cache, load) = (path.cache.clone(), loader.load());
    let asking = tokio::spawn(async move { cache.get_or_load(key("k"), load).await });
    settle().await;
    asking
}

fn payload(given: Given) -> Option<Bytes> {
    given.unwrap().map(|hit| hit.value)
}

#[tokio::test]
async fn a_change_during_a_load_wins_in_every_tier_and_the_next_caller_loads_anew() {
    for put in [false, true] {
        for path in paths(&Settings::default()) {
            let loader = Loader::default();
            let first = ask(&path, &loader).await;
            if put {
                path.put("k", "NEW", PutOptions::new()).await;
            } else {
                path.cache.remove(key("k")).await.unwrap();
            }
            let after = ask(&path, &loader).await;
            loader.answer(0, Bytes::from("OLD")).await;
            assert_eq!(payload(first.await.unwrap()), Some(Bytes::from("OLD")), "{}", path.name);
            path.all_have("k", put.then_some("NEW")).await;
            if put {
                assert_eq!(payload(after.await.unwrap()), Some(Bytes::from("NEW")));
                assert_eq!(loader.calls(), 1, "{}", path.name);
            } else {
                assert_eq!(loader.calls(), 2, "{}: it does not join the old load", path.name);
                loader.answer(1, Bytes::from("NEW")).await;
                assert_eq!(payload(after.await.unwrap()), Some(Bytes::from("NEW")));
                path.all_have("k", Some("NEW")).await;
            }
        }
    }
}

#[tokio::test]
async fn fifty_who_wait_are_served_when_the_first_one_leaves_and_told_when_the_loader_panics() {
    for panics in [false, true] {
        for path in paths(&Settings::default()) {
            let loader = Loader::default();
            let first = ask(&path, &loader).await;
            let mut waiters = Vec::new();
            for _ in 0..50 {
                waiters.push(ask(&path, &loader).await);
            }
            first.abort();
            settle().await;
            if panics {
                drop(loader.take(0));
            } else {
                loader.answer(0, Bytes::from("v")).await;
            }
            settle().await;
            for waiter in waiters {
                let given = waiter.await.unwrap();
                if panics {
                    assert!(matches!(given, Err(LoadError::Panicked)), "{}", path.name);
                } else {
                    assert_eq!(payload(given), Some(Bytes::from("v")), "{}", path.name);
                }
            }
            assert_eq!(loader.calls(), 1, "{}", path.name);
            path.all_have("k", (!panics).then_some("v")).await;
            // Nothing of it is left over.
            path.cache.remove(key("k")).await.unwrap();
            let next = ask(&path, &loader).await;
            assert_eq!(loader.calls(), 2, "{}", path.name);
            loader.answer(1, Bytes::from("next")).await;
            assert_eq!(payload(next.await.unwrap()), Some(Bytes::from("next")));
        }
    }
}

#[tokio::test]
async fn a_hundred_who_wait_for_a_load_that_fails_get_one_error_and_the_next_one_tries_again() {
    for path in paths(&Settings::default()) {
        let loader = Loader::default();
        let mut waiters = Vec::new();
        for _ in 0..100 {
            waiters.push(ask(&path, &loader).await);
        }
        loader.fail(0, 7).await;
        for waiter in waiters {
            let error = waiter.await.unwrap().unwrap_err();
            let chain = larder_core::error::chain(&error);
            assert!(chain.contains("the database is down: 7"), "{chain}");
        }
        assert_eq!((loader.calls(), path.cache.stats().load_errors), (1, 1), "{}", path.name);
        path.all_have("k", None).await;
        let next = ask(&path, &loader).await;
        assert_eq!(loader.calls(), 2, "{}", path.name);
        loader.answer(1, Bytes::from("v")).await;
        assert_eq!(payload(next.await.unwrap()), Some(Bytes::from("v")));
    }
}
