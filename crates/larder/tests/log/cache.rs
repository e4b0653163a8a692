//! A cache on a disk that is killed, loses power, fills up, hangs and fails.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{LogCache, LogCacheBuilder};
use larder::registry::OpenError;
use larder::{
    CacheError, CacheValue, Condition, DeleteStatus, Effect, Failure, Key, KeyRef, Now, Retry,
    Tier, Version,
};
use larder_log::sim::SimDisk;
use larder_log::{Batch, Durability, Log, Slot};

use crate::disk::TestDisk;

/// One run of the machine, and the next.
const RUNS: [Option<[u8; 16]>; 2] = [Some([1; 16]), Some([2; 16])];

fn key(n: usize) -> Key {
    Key::new(format!("key {n}")).unwrap()
}

fn value(n: usize, len: usize) -> CacheValue<Bytes> {
    CacheValue::new(Bytes::from(format!("{n} ").repeat(len / 3 + 1)))
}

fn tight() -> LogCacheBuilder {
    LogCache::builder("log:/cache?capacity=1MiB&timeout=1s").unwrap()
}

/// The cache on a simulated disk, in a run of the machine.
fn on_sim(disk: &SimDisk, run: Option<[u8; 16]>) -> LogCache {
    let builder = tight().boot_id(run);
    let log = Log::open_with(Arc::new(disk.clone()), Path::new("/cache"), builder.log_options());
    builder.open_on(log.unwrap()).unwrap()
}

fn on_disk(disk: &TestDisk, path: &Path) -> LogCache {
    let builder = tight();
    let log = disk.open(path, builder.log_options());
    builder.open_on(log).unwrap()
}

async fn write(cache: &LogCache, n: usize, value: CacheValue<Bytes>) -> Result<(), CacheError> {
    let status = cache.write(key(n).as_ref(), value, Condition::Always).await?;
    assert!(status.applied);
    Ok(())
}

async fn read(cache: &LogCache, n: usize) -> Option<CacheValue<Bytes>> {
    cache.read(key(n).as_ref()).await.unwrap().map(|found| found.value)
}

/// Sixty entries, of which the first twenty are removed and the next twenty replaced.
async fn fill(cache: &LogCache) {
    for n in 0..60 {
        write(cache, n, value(n, 300)).await.unwrap();
    }
    for n in 0..20 {
        let removed = cache.remove(key(n).as_ref(), Condition::Always).await.unwrap();
        assert_eq!(removed, DeleteStatus::Deleted(1));
        write(cache, 20 + n, value(1_000 + n, 300)).await.unwrap();
    }
}

/// Nothing that was removed or replaced by [`fill`] is there; how many of the others are.
async fn intact(cache: &LogCache) -> usize {
    let mut there = 0;
    for n in 0..60 {
        let Some(found) = read(cache, n).await else { continue };
        assert!(n >= 20, "what was removed is back");
        let newest = if n < 40 { value(1_000 + n - 20, 300) } else { value(n, 300) };
        assert_eq!(found, newest, "what was replaced is back");
        there += 1;
    }
    there
}

#[tokio::test]
async fn a_cache_that_was_closed_remembers_everything_also_in_the_next_run_of_the_machine() {
    let folder = tempfile::tempdir().unwrap();
    for run in [RUNS[0], RUNS[0], RUNS[1], None, RUNS[0]] {
        let builder = LogCacheBuilder::at(folder.path()).boot_id(run);
        let cache = builder.open().unwrap();
        if cache.usage().unwrap().entries == 0 {
            fill(&cache).await;
        }
        assert_eq!(intact(&cache).await, 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_process_costs_nothing_and_a_power_failure_everything() {
    for seed in 0..20 {
        let disk = SimDisk::new(seed);
        let cache = on_sim(&disk, RUNS[0]);
        fill(&cache).await;
        let killed = disk.kill(seed);
        drop(cache);
        let cache = on_sim(&killed, RUNS[0]);
        assert_eq!(intact(&cache).await, 40, "after kill -9");
        let after = killed.crash(seed);
        drop(cache);
        let cache = on_sim(&after, RUNS[1]);
        assert_eq!(intact(&cache).await, 0, "after a power failure");
        // And it goes on as a new one.
        fill(&cache).await;
        let killed = after.kill(seed);
        drop(cache);
        assert_eq!(intact(&on_sim(&killed, RUNS[1])).await, 40);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nobody_knows_whether_the_machine_went_on_nothing_is_believed() {
    let disk = SimDisk::new(3);
    let cache = on_sim(&disk, None);
    fill(&cache).await;
    let killed = disk.kill(3);
    drop(cache);
    assert_eq!(intact(&on_sim(&killed, None)).await, 0);
}

/// The control: believed after a power failure, a cache shows what was removed. If it never did, the
/// test above would prove nothing.
#[tokio::test(flavor = "multi_thread")]
async fn without_that_rule_removed_values_come_back() {
    let mut back = false;
    for seed in 0..40 {
        let disk = SimDisk::new(seed);
        let cache = on_sim(&disk, RUNS[0]);
        for n in 0..20 {
            write(&cache, n, value(n, 300)).await.unwrap();
        }
        // Closed, so that the values are on the disk for good.
        drop(cache);
        let cache = on_sim(&disk, RUNS[0]);
        for n in 0..20 {
            cache.remove(key(n).as_ref(), Condition::Always).await.unwrap();
        }
        let after = disk.crash(seed);
        drop(cache);
        let cache = on_sim(&after, RUNS[0]);
        for n in 0..20 {
            back |= read(&cache, n).await.is_some();
        }
    }
    assert!(back, "no removed value ever came back from an unsynced remove");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_lost_segment_empties_the_cache_and_closes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let cache = LogCache::builder(&format!("log:{}?capacity=1MiB", folder.path().display()));
    let cache = cache.unwrap().open().unwrap();
    for n in 0..40 {
        write(&cache, n, value(n, 9_000)).await.unwrap();
    }
    drop(cache);
    std::fs::remove_file(folder.path().join("seg-0000000000000002.log")).unwrap();
    let cache = LogCache::open(folder.path()).unwrap();
    assert_eq!(cache.usage().unwrap().entries, 0);
    fill(&cache).await;
    assert_eq!(intact(&cache).await, 40);
}

/// Bytes of all files in a folder.
fn folder_bytes(path: &Path) -> u64 {
    let files = std::fs::read_dir(path).unwrap();
    files.map(|file| file.unwrap().metadata().map_or(0, |found| found.len())).sum()
}

#[tokio::test(flavor = "multi_thread")]
async fn writers_far_beyond_the_capacity_never_pass_it() {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("log:{}?capacity=4MiB&max_entries=300", folder.path().display());
    let cache = Arc::new(LogCache::builder(&uri).unwrap().open().unwrap());
    let mut writers = tokio::task::JoinSet::new();
    for writer in 0..8 {
        let cache = Arc::clone(&cache);
        writers.spawn(async move {
            for n in 0..200 {
                write(&cache, writer * 200 + n, value(n, 20_000)).await.unwrap();
                let usage = cache.usage().unwrap();
                assert!(usage.bytes <= 4 << 20, "{} bytes", usage.bytes);
                assert!(usage.entries <= 300 + 8, "{} entries", usage.entries);
            }
        });
    }
    let mut most = 0;
    while writers.try_join_next().is_some() || !writers.is_empty() {
        most = most.max(folder_bytes(folder.path()));
        tokio::task::yield_now().await;
    }
    assert!(most <= 4 << 20, "the folder took {most} bytes");
    assert!(cache.usage().unwrap().entries > 50, "{:?}", cache.usage());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_read_outlives_what_is_not() {
    let folder = tempfile::tempdir().unwrap();
    let uri = format!("log:{}?capacity=1MiB", folder.path().display());
    let cache = LogCache::builder(&uri).unwrap().open().unwrap();
    for n in 0..20 {
        write(&cache, n, value(n, 2_000)).await.unwrap();
    }
    // Six times the capacity passes through; half of the first ones are read all the time.
    let mut missed = 0;
    for n in 100..3_100 {
        write(&cache, n, value(n, 2_000)).await.unwrap();
        if n % 5 == 0 {
            let hot = n / 5 % 10;
            if let Some(found) = read(&cache, hot).await {
                assert_eq!(found, value(hot, 2_000), "write {n}");
            } else {
                missed += 1;
                write(&cache, hot, value(hot, 2_000)).await.unwrap();
            }
        }
    }
    // Marks are shared by some entries: now and then a hot one is taken for cold.
    assert!(missed <= 6, "{missed} of 600 reads missed");
    for n in 10..20 {
        assert_eq!(read(&cache, n).await, None);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_slot_that_another_key_has_is_a_miss_and_is_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let builder = LogCacheBuilder::at(folder.path());
    let log = Log::open(folder.path(), builder.log_options()).unwrap();
    let cache = builder.open_on(log.clone()).unwrap();
    let slot_of = |n: usize| {
        let (cache, log) = (&cache, &log);
        async move {
            let before: Vec<Slot> = log.entries(3).map(|entry| entry.slot).collect();
            write(cache, n, value(n, 30)).await.unwrap();
            let mut added = log.entries(3).map(|entry| entry.slot);
            added.find(|slot| !before.contains(slot)).unwrap()
        }
    };
    let (one, other) = (slot_of(1).await, slot_of(2).await);
    // As if the two had the same hash.
    let mut batch = Batch::new();
    batch.put(one, log.get(other).unwrap().unwrap());
    log.submit(batch, Durability::Process).unwrap().wait(None);
    assert_eq!(read(&cache, 1).await, None);
    let removed = cache.remove(key(1).as_ref(), Condition::Always).await.unwrap();
    assert_eq!(removed, DeleteStatus::Missing);
    assert!(log.contains(one));
    let version = Version::from_parts(1, 1);
    let newer = Condition::IfNewerThan(version);
    let new = value(1, 30).with_version(version);
    assert!(cache.write(key(1).as_ref(), new.clone(), newer).await.unwrap().applied);
    assert_eq!(read(&cache, 1).await, Some(new));
    drop(log);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_disk_refuses_writes_and_recovers_by_itself() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let cache = on_disk(&disk, folder.path());
    write(&cache, 1, value(1, 300)).await.unwrap();
    disk.set_full(true);
    let error = loop {
        if let Err(error) = write(&cache, 2, value(2, 20_000)).await {
            break error;
        }
    };
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later), "{error}");
    // Reads and removes go on.
    let _ = read(&cache, 1).await;
    cache.remove(key(3).as_ref(), Condition::Always).await.unwrap();
    disk.set_full(false);
    let again = async {
        while write(&cache, 4, value(4, 300)).await.is_err() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), again).await.unwrap();
    assert_eq!(read(&cache, 4).await, Some(value(4, 300)));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_disk_that_hangs_costs_the_time_limit_and_the_order_holds() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let cache = on_disk(&disk, folder.path());
    write(&cache, 1, value(1, 300)).await.unwrap();
    disk.stall_reads();
    let error = cache.read(key(1).as_ref()).await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later), "{error}");
    // What is not there is known without the disk.
    assert_eq!(cache.read_now(key(9).as_ref()), Now::Miss);
    assert_eq!(read(&cache, 9).await, None);
    disk.resume_reads();
    assert_eq!(read(&cache, 1).await, Some(value(1, 300)));

    // A sync hangs, and the write behind it; its caller is answered in time and not told a lie.
    disk.stall();
    write(&cache, 1, value(2, 300)).await.unwrap();
    disk.until_stuck();
    let error = write(&cache, 1, value(3, 300)).await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::Unknown, Retry::Later), "{error}");
    let error = write(&cache, 1, value(4, 300)).await.unwrap_err();
    assert_eq!(error.effect(), Effect::NotApplied, "it never got its turn: {error}");
    disk.resume();
    let removed = cache.remove(key(1).as_ref(), Condition::Always).await.unwrap();
    assert_eq!(removed, DeleteStatus::Deleted(1));
    assert_eq!(read(&cache, 1).await, None, "the late write landed over a later remove");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_sync_ends_writes_but_not_reads() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let cache = on_disk(&disk, folder.path());
    write(&cache, 1, value(1, 300)).await.unwrap();
    disk.fail();
    let failed = async {
        loop {
            match write(&cache, 2, value(2, 300)).await {
                Ok(()) => tokio::time::sleep(Duration::from_millis(20)).await,
                Err(error) => break error,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(30), failed).await.unwrap();
    assert_eq!(read(&cache, 1).await, Some(value(1, 300)));
    let error = write(&cache, 3, value(3, 300)).await.unwrap_err();
    assert_eq!(error.effect(), Effect::NotApplied);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_folder_belongs_to_one_contract_and_one_process() {
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str| format!("log:{}", folder.path().join(name).display());
    let spool = larder::open_spool(&at("spool")).await.unwrap();
    let id = larder::SpoolId::new(&larder::SystemClock);
    larder::Spool::store(&spool, id, "mail".into(), true, None).await.unwrap();
    let error = larder::open_cache(&at("spool")).await.unwrap_err();
    assert!(matches!(error, OpenError::Locked { pid: Some(_), .. }), "{error}");
    larder::Spool::shutdown(&spool).await.unwrap();
    let error = larder::open_cache(&at("spool")).await.unwrap_err();
    assert!(matches!(error, OpenError::OtherContract { holds: "a spool", .. }), "{error}");
    let spool = larder::open_spool(&at("spool")).await.unwrap();
    assert_eq!(larder::Spool::load(&spool, id).await.unwrap(), "mail");

    drop(larder::open_cache(&at("cache")).await.unwrap());
    let error = larder::open_consensus(&at("cache")).await.unwrap_err();
    assert!(matches!(error, OpenError::OtherContract { holds: "a cache", .. }), "{error}");
    let cache = larder::open_cache(&at("cache")).await.unwrap();
    let error = larder::open_cache(&at("cache")).await.unwrap_err();
    assert!(matches!(error, OpenError::Locked { pid: Some(_), .. }), "{error}");
    drop(cache);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dropped_write_keeps_its_turn_until_it_has_ended() {
    let (folder, disk) = (tempfile::tempdir().unwrap(), TestDisk::default());
    let cache = on_disk(&disk, folder.path());
    write(&cache, 1, value(1, 300)).await.unwrap();
    disk.stall();
    write(&cache, 1, value(2, 300)).await.unwrap();
    disk.until_stuck();
    {
        let (key, old) = (key(1), value(7, 300).with_version(Version::from_parts(7, 0)));
        let mut late =
            std::pin::pin!(cache.write(KeyRef::new(key.as_str()).unwrap(), old, Condition::Always));
        let polled = tokio::time::timeout(Duration::from_millis(20), &mut late).await;
        assert!(polled.is_err());
    }
    disk.resume();
    // Decided on what the dropped write has left, not on what was there before it.
    let version = Version::from_parts(5, 0);
    let older = value(5, 300).with_version(version);
    let status =
        cache.write(key(1).as_ref(), older, Condition::IfNewerThan(version)).await.unwrap();
    assert!(!status.applied, "an older version landed over a write that was on its way");
    assert_eq!(read(&cache, 1).await.unwrap().data, value(7, 300).data);
}
