//! A consensus store whose disk misbehaves.

use std::time::Duration;

use larder::consensus::LogConsensus;
use larder::{CaSResult, Consensus, ConsensusError, Determinate, OpenError, SeqNo, VersionedData};
use larder_log::{Log, LogOptions};

use crate::disk::TestDisk;

const SHORT: Duration = Duration::from_millis(50);

fn version(seqno: u64) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: format!("version {seqno}").into() }
}

fn open(disk: &TestDisk, folder: &tempfile::TempDir) -> LogConsensus {
    LogConsensus::with_log(disk.open(folder.path(), LogOptions::default()), "test").unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_sees_a_version_before_it_is_durable() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let store = open(&disk, &folder);
    store.compare_and_set("k", None, version(1)).await.unwrap();
    disk.stall();
    let winner = tokio::spawn({
        let store = store.clone();
        async move { store.compare_and_set("k", Some(SeqNo(1)), version(2)).await }
    });
    disk.until_stuck();
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(1));
    assert_eq!(store.scan("k", SeqNo(0), 9).await.unwrap(), [version(1)]);
    // A loser, too, is told only what is durable: it waits for the version that beats it.
    let loser = tokio::spawn({
        let store = store.clone();
        async move { store.compare_and_set("k", Some(SeqNo(1)), version(3)).await }
    });
    tokio::time::sleep(SHORT).await;
    assert!(!winner.is_finished() && !loser.is_finished());
    disk.resume();
    assert_eq!(winner.await.unwrap().unwrap(), CaSResult::Committed);
    let lost = CaSResult::ExpectationMismatch { current: Some(SeqNo(2)) };
    assert_eq!(loser.await.unwrap().unwrap(), lost);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_call_goes_on_and_the_next_one_builds_on_it() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let store = open(&disk, &folder);
    disk.stall();
    let zombie = tokio::spawn({
        let store = store.clone();
        async move { store.compare_and_set("k", None, version(1)).await }
    });
    disk.until_stuck();
    zombie.abort();
    assert!(zombie.await.unwrap_err().is_cancelled());
    let next = tokio::spawn({
        let store = store.clone();
        async move { store.compare_and_set("k", None, version(5)).await }
    });
    tokio::time::sleep(SHORT).await;
    disk.resume();
    let lost = CaSResult::ExpectationMismatch { current: Some(SeqNo(1)) };
    assert_eq!(next.await.unwrap().unwrap(), lost);
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(1));
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_failed_sync_the_outcome_is_unknown_and_nothing_builds_on_it() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let store = open(&disk, &folder);
    store.compare_and_set("k", None, version(1)).await.unwrap();
    disk.fail();
    let unknown = store.compare_and_set("k", Some(SeqNo(1)), version(2)).await;
    assert!(matches!(unknown, Err(ConsensusError::Indeterminate(_))), "{unknown:?}");
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(1));
    for (key, expected) in [("k", Some(SeqNo(1))), ("fresh", None)] {
        let refused = store.compare_and_set(key, expected, version(3)).await;
        let refused = refused.unwrap_err();
        assert!(
            matches!(refused, ConsensusError::Determinate(Determinate::Unavailable { .. })),
            "{refused:?}"
        );
    }
    let mut keys = store.list_keys();
    assert_eq!(keys.next().await.unwrap().unwrap(), "k");
    assert!(keys.next().await.is_none(), "a failed first write makes no key");
    drop((keys, store));
    // Opened again, the version is there as a whole or not at all.
    let store = open(&TestDisk::default(), &folder);
    let head = store.head("k").await.unwrap().unwrap();
    assert!(head == version(1) || head == version(2), "{head:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_share_one_sync() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let log = disk.open(folder.path(), LogOptions::default());
    let store = LogConsensus::with_log(log.clone(), "test").unwrap();
    disk.stall();
    let mut writes = Vec::new();
    for key in 0..50 {
        let store = store.clone();
        let write =
            async move { store.compare_and_set(&format!("k{key}"), None, version(1)).await };
        writes.push(tokio::spawn(write));
    }
    disk.until_stuck();
    tokio::time::sleep(SHORT).await;
    disk.resume();
    for write in writes {
        assert_eq!(write.await.unwrap().unwrap(), CaSResult::Committed);
    }
    assert!(log.stats().syncs <= 10, "{:?}", log.stats());
}

/// A header that is put right loses no version; where one may be lost nobody may win in its place, also
/// when the spool in the same folder was told to go on.
#[tokio::test(flavor = "multi_thread")]
async fn rotten_header_is_put_right_or_keeps_the_store_shut() {
    let folder = tempfile::tempdir().unwrap();
    let reopen = || Log::open(folder.path(), LogOptions::default()).unwrap();
    let log = reopen();
    let store = LogConsensus::with_log(log.clone(), "test").unwrap();
    store.compare_and_set("k", None, version(1)).await.unwrap();
    store.compare_and_set("k", Some(SeqNo(1)), version(2)).await.unwrap();
    drop(store);
    log.close().unwrap();
    drop(log);
    let path = folder.path().join("seg-0000000000000001.log");
    let rot = |len: usize| {
        let mut bytes = std::fs::read(&path).unwrap();
        let payload = bytes.windows(9).position(|window| window == b"version 2").unwrap();
        bytes[payload - 20..][..len].iter_mut().for_each(|byte| *byte ^= 0x33);
        std::fs::write(&path, bytes).unwrap();
    };
    rot(1);
    let store = LogConsensus::open(folder.path(), LogOptions::default()).unwrap();
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(2));
    drop(store);
    rot(2);
    for _ in 0..2 {
        let opened = LogConsensus::open(folder.path(), LogOptions::default());
        assert!(matches!(opened, Err(OpenError::Damaged { .. })), "{opened:?}");
        let log = reopen();
        log.acknowledge().unwrap();
        log.close().unwrap();
    }
}

/// A hint comes when the version is durable, also when the one who wrote it has gone.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_for_a_change_is_told_when_it_is_durable() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let store = open(&disk, &folder);
    let waiting = |seen: Option<SeqNo>| {
        let store = larder::SharedConsensus::new(std::sync::Arc::new(store.clone()));
        tokio::spawn(async move { store.changed("k", seen).await })
    };
    let soon = Duration::from_secs(20);
    let first = waiting(None);
    store.compare_and_set("k", None, version(1)).await.unwrap();
    tokio::time::timeout(soon, first).await.unwrap().unwrap();
    // What has moved already is told at once, what has not is not.
    tokio::time::timeout(soon, waiting(None)).await.unwrap().unwrap();
    let (second, later) = (waiting(Some(SeqNo(1))), waiting(Some(SeqNo(2))));
    disk.stall();
    let zombie = tokio::spawn({
        let store = store.clone();
        async move { store.compare_and_set("k", Some(SeqNo(1)), version(2)).await }
    });
    disk.until_stuck();
    zombie.abort();
    assert!(zombie.await.unwrap_err().is_cancelled());
    tokio::time::sleep(SHORT).await;
    assert!(!second.is_finished(), "told before it was durable");
    disk.resume();
    tokio::time::timeout(soon, second).await.unwrap().unwrap();
    assert_eq!(store.head("k").await.unwrap().unwrap(), version(2));
    assert!(!later.is_finished());
    later.abort();
}
