//! Reads: without waiting, of a disk that fails, and of files that change under the reader.

#![expect(clippy::unwrap_used, clippy::cast_possible_truncation, reason = "this is a test")]

use std::collections::BTreeMap;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_log::{
    Batch, CompactMode, Durability, Log, LogOptions, Now, Outcome, ReadError, Slot, Swept,
};

mod tap;

use tap::Tap;

const EIO: i32 = 5;
const EMFILE: i32 = 24;

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Slot { namespace: 1, id }
}

fn number(slot: Slot) -> u64 {
    u64::from_be_bytes(slot.id[8..].try_into().unwrap())
}

fn open(tap: &Tap, path: &Path) -> Log {
    let options =
        LogOptions { segment_bytes: 64 << 10, auto_compact: false, ..LogOptions::default() };
    Log::open_with(Arc::new(tap.clone()), path, options).unwrap()
}

fn change(log: &Log, fill: impl FnOnce(&mut Batch)) {
    let mut batch = Batch::new();
    fill(&mut batch);
    let outcome = log.submit(batch, Durability::Process).unwrap().wait(None);
    assert!(matches!(outcome, Some(Outcome::Done { .. })), "{outcome:?}");
}

fn put(log: &Log, n: u64, byte: u8, len: usize) {
    change(log, |batch| {
        batch.put(slot(n), vec![byte; len].into());
    });
}

fn delete(log: &Log, n: u64) {
    change(log, |batch| {
        batch.delete(slot(n));
    });
}

fn swept(log: &Log) -> Result<Vec<Swept>, ReadError> {
    log.sweep(1, |_| true).collect()
}

#[test]
fn failed_read_is_an_error_and_never_corruption() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    (0..100).for_each(|n| put(&log, n, n as u8, 900));
    for errno in [EIO, EMFILE] {
        let failed = |error: ReadError| match error {
            ReadError::Io { source, .. } => source.raw_os_error() == Some(errno),
            _ => false,
        };
        tap.on_read(move |_, _, _| Err(io::Error::from_raw_os_error(errno)));
        assert!(failed(log.get(slot(1)).unwrap_err()));
        assert!(failed(log.get_now(slot(1)).unwrap_err()));
        assert!(failed(swept(&log).unwrap_err()));
        let mut sweep = log.sweep(1, |_| true);
        assert!(sweep.next().unwrap().is_err());
        assert!(sweep.next().is_none(), "nothing comes after an error");
        tap.let_go();
        assert_eq!(log.damaged(1), vec![]);
        assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 900]);
        assert_eq!(swept(&log).unwrap().len(), 100);
    }
}

#[test]
fn short_reads_are_gone_on_with() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    (0..30).for_each(|n| put(&log, n, n as u8, 300));
    tap.on_read(|file, buf, offset| {
        let len = buf.len().min(7);
        file.read_at(&mut buf[..len], offset)
    });
    assert_eq!(log.get(slot(3)).unwrap().unwrap(), vec![3; 300]);
    assert_eq!(log.get_now(slot(3)).unwrap(), Now::WouldBlock);
    assert_eq!(swept(&log).unwrap().len(), 30);
    assert_eq!(log.damaged(1), vec![]);
}

#[test]
fn what_would_block_is_said_and_what_would_not_is_answered() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    put(&log, 1, 1, 1000);
    put(&log, 2, 2, 0);
    put(&log, 3, 3, (1 << 20) + 1);
    tap.set_cold(true);
    assert_eq!(log.get_now(slot(1)).unwrap(), Now::WouldBlock);
    assert_eq!(log.get_now(slot(9)).unwrap(), Now::Ready(None));
    assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![1; 1000]);
    tap.set_cold(false);
    assert_eq!(log.get_now(slot(2)).unwrap(), Now::Ready(Some("".into())));
    assert_eq!(log.get_now(slot(3)).unwrap(), Now::WouldBlock, "too large to be read in passing");
    assert_eq!(log.get(slot(3)).unwrap().unwrap(), vec![3; (1 << 20) + 1]);
    // The file system of the test may be one that always waits; what it answers is right anyway.
    let now = log.get_now(slot(1)).unwrap();
    assert!(now == Now::WouldBlock || now == Now::Ready(Some(vec![1; 1000].into())), "{now:?}");
}

/// What a reader finds when the file that it reads from is retired and used again at that moment.
#[test]
fn reader_that_loses_a_race_looks_again_and_calls_nothing_corrupt() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    for now in [false, true] {
        put(&log, 1, 1, 1000);
        let (writer, mut first) = (log.clone(), true);
        tap.on_read(move |file, buf, offset| {
            if std::mem::take(&mut first) {
                put(&writer, 1, 2, 1000);
                buf.fill(0x55);
                return Ok(buf.len());
            }
            file.read_at(buf, offset)
        });
        if now {
            assert_eq!(log.get_now(slot(1)).unwrap(), Now::Ready(Some(vec![2; 1000].into())));
        } else {
            assert_eq!(log.get(slot(1)).unwrap().unwrap(), vec![2; 1000]);
        }
        assert_eq!(log.damaged(1), vec![]);
        tap.let_go();
    }
    tap.on_read(|_, buf, _| {
        buf.fill(0x55);
        Ok(buf.len())
    });
    assert!(matches!(log.get(slot(1)), Err(ReadError::Corrupt { .. })), "nobody has changed it");
    assert_eq!(log.damaged(1).len(), 1);
    tap.let_go();
}

#[test]
fn entry_that_never_holds_still_is_an_error_and_not_missing() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    put(&log, 1, 1, 10);
    let writer = log.clone();
    tap.on_read(move |_, buf, _| {
        put(&writer, 1, 2, 10);
        buf.fill(0);
        Ok(buf.len())
    });
    assert!(matches!(log.get(slot(1)), Err(ReadError::Io { .. })));
    assert_eq!(log.damaged(1), vec![]);
    tap.let_go();
}

/// Entries are deleted, replaced and moved while the walk runs, at every third of its steps.
#[test]
fn sweep_meets_what_stays_exactly_once_whatever_happens_meanwhile() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    let len = |n: u64| if n.is_multiple_of(97) { 40_000 } else { 20 + (n as usize * 7) % 900 };
    for n in 0..3000 {
        put(&log, n, n as u8, len(n));
    }
    let mut times: BTreeMap<u64, usize> = BTreeMap::new();
    for (step, found) in (0..).zip(log.sweep(1, |_| true)) {
        let found = found.unwrap();
        let (n, payload) = (number(found.slot), found.payload.unwrap());
        assert!(payload.iter().all(|byte| *byte == payload[0]));
        assert!(payload[0] == n as u8 || (n % 3 == 1 && payload[0] == n as u8 ^ 0xff), "{n}");
        *times.entry(n).or_default() += 1;
        let other = (step * 1117) % 3000;
        match other % 3 {
            0 => delete(&log, other),
            1 => put(&log, other, other as u8 ^ 0xff, len(other)),
            _ => {}
        }
        put(&log, 10_000 + step, 1, 100);
        if step % 500 == 499 {
            log.compact(CompactMode::Full).unwrap();
        }
    }
    assert!(times.values().all(|times| *times == 1));
    let stayed = (0..3000).filter(|n| n % 3 != 0);
    assert_eq!(stayed.filter(|n| !times.contains_key(n)).collect::<Vec<_>>(), Vec::<u64>::new());
    assert!(times.keys().all(|n| *n < 3000), "what came later is not on the list");
    assert_eq!(log.damaged(1), vec![]);
}

#[test]
fn sweep_reads_what_is_wanted_and_skips_what_was_deleted_before_its_turn() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    (0..200).for_each(|n| put(&log, n, n as u8, 500));
    let asked = AtomicU64::new(0);
    let mut sweep = log.sweep(1, |entry| {
        asked.fetch_add(1, Ordering::Relaxed);
        assert_eq!((entry.len, entry.pre_open), (500, false));
        number(entry.slot).is_multiple_of(2)
    });
    assert_eq!(number(sweep.next().unwrap().unwrap().slot), 0, "in the order of the disk");
    assert!(sweep.is_at_hand());
    (0..200).filter(|n| ![100, 102].contains(n)).for_each(|n| delete(&log, n));
    put(&log, 102, 7, 500);
    let first = |found: Swept| (number(found.slot), found.payload.unwrap()[0]);
    let left: Vec<(u64, u8)> = sweep.map(|found| first(found.unwrap())).collect();
    assert_eq!((left, asked.load(Ordering::Relaxed)), (vec![(100, 100), (102, 7)], 200));
    let mut left: Vec<u64> = log.entries(1).map(|entry| number(entry.slot)).collect();
    left.sort_unstable();
    assert_eq!(left, vec![100, 102]);
    assert_eq!(log.entries(2).count(), 0);
}

/// Where a payload with this byte lies in the first segment.
fn find(path: &Path, byte: u8) -> u64 {
    let bytes = std::fs::read(path).unwrap();
    let found = bytes.windows(400).position(|window| window.iter().all(|b| *b == byte));
    found.unwrap() as u64
}

#[test]
fn bytes_that_nobody_wants_may_be_unreadable() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    (0..40).for_each(|n| put(&log, n, n as u8, 500));
    delete(&log, 20);
    let path = dir.path().join("seg-0000000000000001.log");
    let dead = find(&path, 20) + 300;
    tap.on_read(move |file, buf, offset| {
        if (offset..offset + buf.len() as u64).contains(&dead) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        file.read_at(buf, offset)
    });
    assert_eq!(swept(&log).unwrap().len(), 39);
    put(&log, 99, 1, 1);
    let unreadable = find(&path, 10) + 300;
    tap.on_read(move |file, buf, offset| {
        if (offset..offset + buf.len() as u64).contains(&unreadable) {
            return Err(io::Error::from_raw_os_error(EIO));
        }
        file.read_at(buf, offset)
    });
    assert!(matches!(swept(&log), Err(ReadError::Io { .. })), "somebody wants these");
    tap.let_go();
}

/// A record that was found damaged at open counts as damaged, though its bytes read well by now.
#[test]
fn sweep_believes_the_damage_that_was_found_at_open() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    (0..60).for_each(|n| put(&log, n, n as u8 + 100, 500));
    log.close().unwrap();
    drop(log);
    let path = dir.path().join("seg-0000000000000001.log");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let at = find(&path, 140) + 30;
    file.write_all_at(b"?", at).unwrap();
    let options = LogOptions { verify_on_open: true, ..LogOptions::default() };
    let log = Log::open_with(Arc::new(tap.clone()), dir.path(), options).unwrap();
    file.write_all_at(&[140], at).unwrap();
    let all = swept(&log).unwrap();
    let rotten: Vec<u64> = all
        .iter()
        .filter(|found| found.payload.is_none())
        .map(|found| number(found.slot))
        .collect();
    assert_eq!((all.len(), rotten), (60, vec![40]));
}

/// A header is needed to know whose record lies at a place, so its rot is the harder case.
#[test]
fn rot_of_headers_and_payloads_under_a_running_log_is_met_once_each() {
    let (dir, tap) = (tempfile::tempdir().unwrap(), Tap::default());
    let log = open(&tap, dir.path());
    (0..60).for_each(|n| put(&log, n, n as u8 + 100, 500));
    let path = dir.path().join("seg-0000000000000001.log");
    let file = std::fs::File::options().write(true).open(&path).unwrap();
    let (header, payload) = (find(&path, 130) - 30, find(&path, 140) + 30);
    // More than one byte, and of the payload, too: this cannot be put right.
    file.write_all_at(&[b'?'; 60], header).unwrap();
    file.write_all_at(b"?", payload).unwrap();
    let all = swept(&log).unwrap();
    assert_eq!(all.len(), 60);
    let rotten = all.iter().filter(|found| found.payload.is_none());
    let mut rotten: Vec<u64> = rotten.map(|found| number(found.slot)).collect();
    rotten.sort_unstable();
    assert_eq!(rotten, vec![30, 40]);
    assert!(matches!(log.get(slot(30)), Err(ReadError::Corrupt { .. })));
    assert!(matches!(log.get_now(slot(40)), Err(ReadError::Corrupt { .. })));
    assert_eq!((log.damaged(1).len(), log.unhealthy_reason()), (2, None));

    // Replaced while the walk runs, by a record that is not on its list: it cannot be complete.
    let mut sweep = log.sweep(1, |_| true);
    assert!(sweep.next().unwrap().is_ok());
    put(&log, 30, 1, 500);
    let end: Result<Vec<Swept>, ReadError> = sweep.collect();
    assert!(matches!(end, Err(ReadError::Io { .. })), "{end:?}");
    assert_eq!(swept(&log).unwrap().len(), 60, "the next one is");
}
