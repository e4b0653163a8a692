//! Nothing, much, too much, and too new.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use larder_log::sim::SimDisk;
use larder_log::{Batch, Durability, Log, LogOptions, OpenError, SubmitError};

use crate::sim_log::{DIR, delete, disk_copy, is_done, open, options, put, settle, slot, store};

#[test]
fn limits_shed_puts_and_let_replacements_and_deletes_pass() {
    let disk = SimDisk::new(14);
    let limited = LogOptions {
        max_entries: Some(3),
        max_bytes: Some(4000),
        max_payload_bytes: 2000,
        ..options()
    };
    let (log, mut committer) = Log::open_stepped(Arc::new(disk), Path::new(DIR), limited).unwrap();
    let submit = |n: u8, len: usize| {
        let mut batch = Batch::new();
        batch.put(slot(n), vec![n; len].into());
        log.submit(batch, Durability::Power)
    };
    assert_eq!(submit(1, 2001).unwrap_err(), SubmitError::TooLarge { limit: 2000 });
    for n in 0..3 {
        submit(n, 10).unwrap();
    }
    assert_eq!(submit(3, 10).unwrap_err(), SubmitError::TooManyEntries { limit: 3 });
    settle(&mut committer);
    submit(2, 2000).unwrap();
    settle(&mut committer);
    assert_eq!(submit(1, 2000).unwrap_err(), SubmitError::TooManyBytes { limit: 4000 });
    assert!(is_done(&{
        let ticket = delete(&log, 2);
        settle(&mut committer);
        ticket
    }));
    submit(3, 2000).unwrap();
}

#[test]
fn callers_that_come_at_once_do_not_pass_the_limit_together() {
    const LIMIT: u64 = 4;
    for round in 0..800 {
        let disk = SimDisk::new(round);
        let limited = LogOptions { max_entries: Some(LIMIT), ..options() };
        let (log, mut committer) =
            Log::open_stepped(Arc::new(disk), Path::new(DIR), limited).unwrap();
        // Spinning, so that both begin within the same instant.
        let begun = AtomicU32::new(0);
        std::thread::scope(|scope| {
            for caller in 0..2 {
                let (log, begun) = (&log, &begun);
                scope.spawn(move || {
                    begun.fetch_add(1, Ordering::SeqCst);
                    while begun.load(Ordering::SeqCst) < 2 {
                        std::hint::spin_loop();
                    }
                    for n in 0..4 {
                        let mut batch = Batch::new();
                        batch.put(slot(caller * 50 + n), "x".into());
                        let _ = log.submit(batch, Durability::Process);
                    }
                });
            }
        });
        settle(&mut committer);
        assert!(log.stats().entries <= LIMIT, "{} entries", log.stats().entries);
        // Those who were refused together may come again: the last place is not lost.
        for n in 200..210 {
            let mut batch = Batch::new();
            batch.put(slot(n), "x".into());
            let _ = log.submit(batch, Durability::Process);
        }
        settle(&mut committer);
        assert_eq!(log.stats().entries, LIMIT);
    }
}

#[test]
fn sizes_around_a_segment_and_the_empty_payload_come_back() {
    let disk = SimDisk::new(15);
    let (log, mut committer) = open(&disk);
    let room = (16 << 10) - 4096;
    let sizes = [0, 1, 7, 8, room - 200, room - 1, room, room + 1, 20 * room];
    for (n, len) in sizes.iter().enumerate() {
        put(&log, u8::try_from(n).unwrap(), *len, Durability::Power);
        settle(&mut committer);
    }
    for death in [false, true] {
        let disk = if death { disk.crash(1) } else { disk_copy(&disk, 1) };
        let (log, _committer) = open(&disk);
        assert_eq!(log.damaged(1), vec![]);
        for (n, len) in sizes.iter().enumerate() {
            let n = u8::try_from(n).unwrap();
            assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; *len], "{len}");
        }
    }
}

#[test]
fn later_format_is_refused_and_left_alone() {
    let disk = store();
    let manifest = Path::new(DIR).join("MANIFEST");
    disk.tamper(&manifest, |bytes| {
        bytes[8] = 9;
        let crc = crc32c(&bytes[..32]);
        bytes[32..36].copy_from_slice(&crc.to_le_bytes());
    });
    let steps = disk.steps();
    let result = Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options());
    match result {
        Err(OpenError::Newer { found: 9, supported: 1, .. }) => {}
        other => panic!("{:?}", other.err()),
    }
    assert_eq!(disk.steps(), steps);
}

/// Bit by bit, so that the test does not lean on the code under test.
fn crc32c(bytes: &[u8]) -> u32 {
    let mut crc = u32::MAX;
    for byte in bytes {
        crc ^= u32::from(*byte);
        for _ in 0..8 {
            crc = (crc >> 1) ^ (0x82f6_3b78 & (crc & 1).wrapping_neg());
        }
    }
    !crc
}
