//! A spool whose disk misbehaves.

use std::path::Path;
use std::pin::pin;
use std::task::{Context, Waker};
use std::time::{Duration, Instant};

use bytes::Bytes;
use larder::channel::channel;
use larder::spool::{LogSpool, LogSpoolOptions};
use larder::{
    Clock, Effect, Failure, Listing, Spool, SpoolEntry, SpoolError, SpoolHealth, SpoolId,
    SystemClock, Timestamp,
};
use larder_log::{FreeLimit, LogOptions};

use crate::disk::TestDisk;

const LONG: Duration = Duration::from_secs(30);
const SHORT: Duration = Duration::from_millis(50);

fn open(disk: &TestDisk, path: &Path, store_deadline: Duration) -> LogSpool {
    LogSpool::with_log(disk.open(path, LogOptions::default()), store_deadline)
}

fn id() -> SpoolId {
    SpoolId::new(&SystemClock)
}

fn soon() -> Instant {
    SystemClock.instant() + SHORT
}

async fn listed(spool: &LogSpool) -> Vec<SpoolId> {
    let (sender, mut receiver) = channel(8);
    let handle = spool.list(sender, Timestamp::MAX).unwrap();
    let mut ids = Vec::new();
    while let Some(entry) = receiver.recv().await {
        match entry {
            Listing::Item { id, .. } => ids.push(id),
            Listing::Corrupt { error, .. } => panic!("{error}"),
        }
    }
    assert!(handle.await.is_ok());
    ids
}

#[tokio::test(flavor = "multi_thread")]
async fn the_sooner_limit_names_the_error_and_the_effect_is_unknown() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), Duration::from_millis(200));
    disk.stall();
    let caller = spool.store(id(), "a".into(), true, Some(soon())).await.unwrap_err();
    assert!(matches!(caller, SpoolError::CallerDeadlineExceeded { effect: Effect::Unknown }));
    let late = Some(SystemClock.instant() + LONG);
    let own = spool.store(id(), "b".into(), true, late).await.unwrap_err();
    assert!(
        matches!(own, SpoolError::BackpressureTimeout { deadline, .. } if deadline.as_millis() == 200),
        "{own:?}"
    );
    assert!(spool.unhealthy_reason().is_none(), "a slow store closes nothing");
    disk.resume();
    spool.store(id(), "c".into(), true, None).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_answered_an_error_is_never_seen_again() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let (replaced, fresh) = (id(), id());
    spool.store(replaced, "before".into(), true, None).await.unwrap();
    disk.stall();
    let other = {
        let (spool, id) = (spool.clone(), id());
        tokio::spawn(async move { spool.store(id, "other".into(), true, None).await.map(|()| id) })
    };
    disk.until_stuck();
    for id in [replaced, fresh] {
        let error = spool.store(id, "after".into(), true, Some(soon())).await.unwrap_err();
        assert!(matches!(error, SpoolError::CallerDeadlineExceeded { .. }), "{error:?}");
    }
    disk.resume();
    let other = other.await.unwrap().unwrap();
    // A later store of the same id is a store of its own.
    let retried = id();
    spool.store(retried, "again".into(), true, None).await.unwrap();
    let check = async |spool: &LogSpool| {
        assert_eq!(spool.load(replaced).await.unwrap(), "before");
        assert!(matches!(spool.load(fresh).await, Err(SpoolError::NotFound { .. })));
        let mut ids = listed(spool).await;
        ids.sort();
        let mut expected = vec![replaced, other, retried];
        expected.sort();
        assert_eq!(ids, expected);
    };
    check(&spool).await;
    spool.shutdown().await.unwrap();
    check(&open(&disk, folder.path(), LONG)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_annulled_in_flight_is_never_seen_again() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let id = id();
    spool.store(id, "before".into(), true, None).await.unwrap();
    disk.stall();
    // The first one in line: it is written, and its own sync is the one that is stuck.
    let error = spool.store(id, "after".into(), true, Some(soon())).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown);
    assert_eq!(spool.load(id).await.unwrap(), "before");
    disk.resume();
    spool.store(SpoolId::new(&SystemClock), "x".into(), true, None).await.unwrap();
    assert_eq!(spool.load(id).await.unwrap(), "before");
    spool.shutdown().await.unwrap();
    let spool = open(&disk, folder.path(), LONG);
    assert_eq!(spool.load(id).await.unwrap(), "before");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_write_budget_is_told_before_anything_is_written() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let options = LogOptions { budget_bytes: 4096, ..LogOptions::default() };
    let spool = LogSpool::with_log(disk.open(folder.path(), options), LONG);
    disk.stall();
    let first = tokio::spawn({
        let spool = spool.clone();
        async move { spool.store(id(), Bytes::from(vec![1; 4000]), true, None).await }
    });
    disk.until_stuck();
    let error =
        spool.store(id(), Bytes::from(vec![2; 4000]), true, Some(soon())).await.unwrap_err();
    assert!(matches!(error, SpoolError::CallerDeadlineExceeded { effect: Effect::NotApplied }));
    disk.resume();
    first.await.unwrap().unwrap();
    assert_eq!(listed(&spool).await.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_refuses_stores_and_keeps_serving_what_is_there() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let (kept, lost) = (id(), id());
    spool.store(kept, "kept".into(), true, None).await.unwrap();
    disk.fail();
    let error = spool.store(lost, "lost".into(), true, None).await.unwrap_err();
    assert_eq!(error.effect(), Effect::Unknown, "{error:?}");
    assert!(spool.unhealthy_reason().is_some());
    let refused = spool.store(id(), "more".into(), true, None).await.unwrap_err();
    assert!(matches!(refused, SpoolError::Unhealthy { .. }), "{refused:?}");
    assert_eq!(spool.load(kept).await.unwrap(), "kept");
    assert!(matches!(spool.load(lost).await, Err(SpoolError::NotFound { .. })));
    assert_eq!(listed(&spool).await, [kept]);
    assert!(matches!(spool.acknowledge().await, Err(SpoolError::Unhealthy { .. })));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_and_recovers_by_itself() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let (kept, refused) = (id(), id());
    spool.store(kept, "kept".into(), true, None).await.unwrap();
    disk.set_full(true);
    let error = spool.store(refused, "refused".into(), true, None).await.unwrap_err();
    assert!(matches!(error, SpoolError::NoSpace { .. }), "{error:?}");
    assert_eq!(spool.load(kept).await.unwrap(), "kept");
    disk.set_full(false);
    spool.store(id(), "later".into(), true, None).await.unwrap();
    assert!(matches!(spool.load(refused).await, Err(SpoolError::NotFound { .. })));
    spool.shutdown().await.unwrap();
    let spool = open(&disk, folder.path(), LONG);
    assert!(matches!(spool.load(refused).await, Err(SpoolError::NotFound { .. })));
    assert_eq!(listed(&spool).await.len(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_store_disturbs_no_other_one() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    disk.stall();
    let mut stores = Vec::new();
    for number in 0..100_u8 {
        let spool = spool.clone();
        stores.push((
            number,
            tokio::spawn(async move {
                let id = id();
                spool.store(id, Bytes::from(vec![number; 100]), true, None).await.map(|()| id)
            }),
        ));
    }
    disk.until_stuck();
    tokio::time::sleep(SHORT).await;
    stores.iter().filter(|(number, _)| number % 2 == 0).for_each(|(_, store)| store.abort());
    disk.resume();
    for (number, store) in stores {
        match store.await {
            Ok(acknowledged) => {
                let data = spool.load(acknowledged.unwrap()).await.unwrap();
                assert_eq!(data, Bytes::from(vec![number; 100]));
            }
            Err(cancelled) => assert!(cancelled.is_cancelled() && number % 2 == 0),
        }
    }
    // What was dropped is there as a whole or not at all.
    let (sender, mut receiver) = channel(8);
    let handle = spool.enumerate(sender, Timestamp::MAX).unwrap();
    while let Some(entry) = receiver.recv().await {
        let SpoolEntry::Item { data, .. } = entry else { panic!("{entry:?}") };
        assert!(data.len() == 100 && data.iter().all(|byte| *byte == data[0]));
    }
    assert!(handle.await.is_ok());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_limit_beyond_every_clock_is_no_limit() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), Duration::MAX);
    let id = id();
    spool.store(id, "a".into(), true, None).await.unwrap();
    spool.remove(id).await.unwrap();
}

/// The damaged ids and the sound ones, as enumerated and as listed.
async fn told(spool: &LogSpool) -> [(Vec<Option<SpoolId>>, Vec<SpoolId>); 2] {
    let (sender, mut receiver) = channel(8);
    let handle = spool.enumerate(sender, Timestamp::MAX).unwrap();
    let mut enumerated = (Vec::new(), Vec::new());
    while let Some(entry) = receiver.recv().await {
        match entry {
            SpoolEntry::Item { id, .. } => enumerated.1.push(id),
            SpoolEntry::Corrupt { id, .. } => enumerated.0.push(id),
        }
    }
    assert!(handle.await.is_ok());
    let (sender, mut receiver) = channel(8);
    let handle = spool.list(sender, Timestamp::MAX).unwrap();
    let mut listed = (Vec::new(), Vec::new());
    while let Some(entry) = receiver.recv().await {
        match entry {
            Listing::Item { id, .. } => listed.1.push(id),
            Listing::Corrupt { id, .. } => listed.0.push(id),
        }
    }
    assert!(handle.await.is_ok());
    [enumerated, listed]
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_told_once_and_no_more_when_the_entry_was_replaced_or_removed() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let (replaced, removed) = (id(), id());
    for (id, letter) in [(replaced, b'r'), (removed, b's')] {
        spool.store(id, vec![letter; 2_000].into(), true, None).await.unwrap();
    }
    let file = folder.path().join("seg-0000000000000001.log");
    let mut bytes = std::fs::read(&file).unwrap();
    for letter in [b'r', b's'] {
        let at = bytes.windows(2_000).position(|window| window == [letter; 2_000]).unwrap();
        bytes[at + 7] ^= 1;
    }
    std::fs::write(&file, bytes).unwrap();
    for id in [replaced, removed] {
        assert!(matches!(spool.load(id).await, Err(SpoolError::Corrupt { .. })));
    }
    for (damaged, sound) in told(&spool).await {
        assert_eq!(damaged.len(), 2);
        assert!(damaged.contains(&Some(replaced)) && damaged.contains(&Some(removed)));
        assert_eq!(sound, []);
    }
    spool.store(replaced, "sound".into(), true, None).await.unwrap();
    spool.remove(removed).await.unwrap();
    for said in told(&spool).await {
        assert_eq!(said, (Vec::new(), vec![replaced]));
    }
}

/// As many as the pool has places, and then some.
const MANY: usize = 200;
const PLACES: usize = 64;

#[tokio::test(flavor = "multi_thread")]
async fn reads_that_wait_for_the_disk_are_bounded_and_block_no_worker() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let id = id();
    spool.store(id, "slow".into(), false, None).await.unwrap();
    disk.stall_reads();
    let loads: Vec<_> = (0..MANY)
        .map(|_| {
            let spool = spool.clone();
            tokio::spawn(async move { spool.load(id).await })
        })
        .collect();
    disk.until_reads_are_stuck(PLACES);
    // All workers are free: others get their answers, and no further read begins.
    let missing = spool.load(SpoolId::new(&SystemClock)).await;
    assert!(matches!(missing, Err(SpoolError::NotFound { .. })));
    spool.store(SpoolId::new(&SystemClock), "b".into(), false, None).await.unwrap();
    assert!(!disk.begins_more_reads_than(PLACES));
    disk.resume_reads();
    for load in loads {
        assert_eq!(load.await.unwrap().unwrap(), "slow");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn dropped_loads_give_their_places_back() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let id = id();
    spool.store(id, "data".into(), false, None).await.unwrap();
    disk.stall_reads();
    for _ in 0..MANY {
        let load = tokio::spawn({
            let spool = spool.clone();
            async move { spool.load(id).await }
        });
        tokio::task::yield_now().await;
        load.abort();
        let many = [id; 9];
        let mut context = Context::from_waker(Waker::noop());
        assert!(pin!(spool.load_many(&many)).poll(&mut context).is_pending());
    }
    disk.resume_reads();
    for _ in 0..MANY {
        let loaded = tokio::time::timeout(LONG, spool.load(id)).await;
        assert_eq!(loaded.unwrap().unwrap(), "data");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn load_many_answers_in_order_what_is_cold_and_what_is_missing() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let ids: Vec<SpoolId> = (0..100).map(|_| id()).collect();
    for (n, id) in ids.iter().enumerate() {
        if n % 3 != 0 {
            spool.store(*id, n.to_string().into(), false, None).await.unwrap();
        }
    }
    for (n, loaded) in spool.load_many(&ids).await.into_iter().enumerate() {
        match loaded {
            Ok(data) => assert_eq!(data, n.to_string()),
            Err(SpoolError::NotFound { id }) => assert_eq!((n % 3, id), (0, ids[n])),
            Err(error) => panic!("{error}"),
        }
    }
    assert!(spool.load_many(&[]).await.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn disk_that_cannot_be_read_is_an_error_and_ends_an_enumeration() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let spool = open(&disk, folder.path(), LONG);
    let id = id();
    spool.store(id, "data".into(), false, None).await.unwrap();
    for errno in [5, 24] {
        disk.set_read_error(Some(errno));
        let failed = spool.load(id).await.unwrap_err();
        assert!(!matches!(failed, SpoolError::Corrupt { .. } | SpoolError::NotFound { .. }));
        let (sender, mut receiver) = channel(8);
        let handle = spool.enumerate(sender, Timestamp::MAX).unwrap();
        assert!(receiver.recv().await.is_none());
        let aborted = handle.await.unwrap_err();
        assert!(!matches!(aborted.cause, None | Some(SpoolError::Corrupt { .. })), "{aborted:?}");
        disk.set_read_error(None);
        assert_eq!(spool.load(id).await.unwrap(), "data");
        assert_eq!(spool.stats().await.unwrap().corrupt, 0);
        assert!(spool.unhealthy_reason().is_none());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn too_little_free_space_refuses_stores_with_the_figures_and_serves_the_rest() {
    let folder = tempfile::tempdir().unwrap();
    let open = |min_free_space| {
        let log = LogOptions { min_free_space, ..LogOptions::default() };
        let options = LogSpoolOptions { log, ..LogSpoolOptions::default() };
        LogSpool::open(folder.path(), options).unwrap()
    };
    let (kept, removed) = (id(), id());
    let spool = open(FreeLimit::Off);
    spool.store(kept, "kept".into(), true, None).await.unwrap();
    spool.store(removed, "removed".into(), true, None).await.unwrap();
    spool.shutdown().await.unwrap();
    drop(spool);
    // No file system in use is entirely free.
    let spool = open(FreeLimit::Percent(100));
    let refused = spool.store(id(), "x".into(), true, None).await.unwrap_err();
    assert!(
        matches!(refused, SpoolError::NoSpace { effect: Effect::NotApplied, .. }),
        "{refused:?}"
    );
    let text = refused.to_string();
    for part in ["too little space is free: free_bytes=", " min_free_bytes=", "free some"] {
        assert!(text.contains(part), "{text}");
    }
    assert_eq!(spool.unhealthy_reason(), Some("too little space is free"));
    assert_eq!(spool.load(kept).await.unwrap(), "kept");
    spool.remove_durable(removed).await.unwrap();
    assert_eq!(listed(&spool).await, [kept]);
    let stats = spool.stats().await.unwrap();
    assert_eq!(stats.health(), SpoolHealth::Shedding);
    let held: Vec<_> = stats.conditions.iter().filter(|held| held.since.is_some()).collect();
    assert_eq!((held.len(), held[0].name), (1, "low-space"));
    assert!(held[0].what.contains("free_bytes=") && held[0].what.contains("min_free_bytes="));
    assert!(stats.details.contains(&("gate_refused", 1)), "{:?}", stats.details);
}
