//! Opening by footers: what they save, and what becomes of it when they are damaged or lie.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::SimDisk;
use larder_log::{
    Batch, Committer, CompactMode, DamageKind, Durability, Log, LogOptions, Next, ReadError, Slot,
};

const DIR: &str = "/log";
const SEAL_BYTES: usize = 88;

fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 10, auto_compact: false, ..LogOptions::default() }
}

fn open(disk: &SimDisk) -> (Log, Committer) {
    Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap()
}

fn settle(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    while !matches!(committer.step(now), Next::Wait(None) | Next::Closed) {
        now += Duration::from_secs(1);
    }
}

fn put(log: &Log, n: u8, len: usize) {
    let mut batch = Batch::new();
    batch.put(slot(n), vec![n; len].into());
    log.submit(batch, Durability::Power).unwrap();
}

/// Sixty entries in several segments, each with a footer but the last.
fn store() -> SimDisk {
    let disk = SimDisk::new(9);
    let (log, mut committer) = open(&disk);
    for n in 0..60 {
        put(&log, n, 900);
        settle(&mut committer);
    }
    drop(log.shutdown());
    settle(&mut committer);
    disk
}

fn segment(n: u64) -> PathBuf {
    Path::new(DIR).join(format!("seg-{n:016x}.log"))
}

fn number(bytes: &[u8], at: usize) -> usize {
    usize::try_from(u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())).unwrap()
}

/// Where the footer of a sealed file begins, and where its seal does. The file may be longer.
fn footer(bytes: &[u8]) -> (usize, usize) {
    let is_seal = |at: &usize| bytes[at + 4] == 5 && number(bytes, at + 40) == *at;
    let seal = (4096..=bytes.len() - SEAL_BYTES).step_by(8).find(is_seal).unwrap();
    (number(bytes, seal + 40 + 32), seal)
}

fn check_entries(log: &Log) {
    for n in 0..60 {
        assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 900], "{n}");
    }
}

#[test]
fn sealed_segments_are_opened_by_their_footers_alone() {
    let disk = store();
    let segments = disk.files(Path::new(DIR)).iter().filter(|file| segment_like(file)).count();
    // Not a byte of any record is left where it was.
    for n in 1..segments as u64 {
        disk.tamper(&segment(n), |bytes| {
            let end = footer(bytes).0;
            bytes[4096..end].fill(0x77);
        });
    }
    let (log, _committer) = open(&disk);
    let recovery = log.recovery();
    assert_eq!((recovery.footers, recovery.walked), (segments as u64 - 1, 0), "{recovery:?}");
    assert_eq!((recovery.entries, recovery.corrupt), (60, 0));
    let mut rotten = 0;
    for n in 0..60 {
        match log.get(slot(n)) {
            Err(ReadError::Corrupt { slot: found }) if found == slot(n) => rotten += 1,
            sound => assert_eq!(sound.unwrap().unwrap(), vec![n; 900]),
        }
    }
    assert!(rotten > 40, "{rotten}");
    assert_eq!((log.damaged(1).len(), log.unhealthy_reason()), (rotten, None));
}

fn segment_like(file: &Path) -> bool {
    file.to_string_lossy().ends_with(".log")
}

#[test]
fn whichever_byte_of_footer_or_seal_flips_no_entry_is_lost() {
    let disk = store();
    let bytes = disk.read(&segment(2)).unwrap();
    let mut walked = 0;
    let (from, seal) = footer(&bytes);
    for at in from..seal + SEAL_BYTES {
        disk.tamper(&segment(2), |bytes| bytes[at] ^= 0x21);
        let (log, committer) = open(&disk);
        check_entries(&log);
        walked += log.recovery().walked;
        let damaged = log.damaged(1);
        let only_footer = damaged.iter().all(|damage| damage.what == DamageKind::Footer);
        assert!(only_footer && damaged.len() as u64 == log.recovery().walked, "{damaged:?}");
        assert_eq!(log.unhealthy_reason(), None);
        drop((log, committer));
        let report = larder_log::verify_with(&disk, Path::new(DIR)).unwrap();
        assert_eq!(report.damage, damaged, "at {at} of {}", bytes.len());
        disk.tamper(&segment(2), |bytes| bytes[at] ^= 0x21);
    }
    // All but the padding.
    assert!(walked > (seal + SEAL_BYTES - from) as u64 - 8, "{walked}");
}

#[test]
fn footer_and_seal_that_are_wiped_cost_time_and_nothing_else() {
    let disk = store();
    disk.tamper(&segment(2), |bytes| {
        let from = footer(bytes).0;
        bytes[from..].fill(0);
    });
    let (log, committer) = open(&disk);
    check_entries(&log);
    let damaged = log.damaged(1);
    assert_eq!((damaged.len(), damaged[0].what), (1, DamageKind::Footer), "{damaged:?}");
    assert_eq!((log.recovery().walked, log.unhealthy_reason()), (1, None));
    drop((log, committer));
    let report = larder_log::verify_with(&disk, Path::new(DIR)).unwrap();
    assert_eq!((report.damage, report.lost_entries), (damaged, 0));
}

/// The footer says that one entry has the id of another, with every checksum of its own right.
#[test]
fn footer_that_lies_hides_no_entry() {
    let disk = store();
    disk.tamper(&segment(2), |bytes| {
        let (at, seal) = footer(bytes);
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        let from = at + 40;
        let is_id = |at: &usize| bytes[*at..at + 16].iter().all(|byte| *byte == bytes[*at]);
        let id = (from..from + len - 16).find(is_id).unwrap();
        bytes[id..id + 16].fill(200);
        let payload_crc = crc32c::crc32c(&bytes[from..from + len]);
        bytes[at + 12..at + 16].copy_from_slice(&payload_crc.to_le_bytes());
        let seed = crc32c::crc32c_append(crc32c::crc32c(&bytes[12..28]), &2u64.to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &bytes[at + 4..at + 40]);
        bytes[at..at + 4].copy_from_slice(&crc.to_le_bytes());
        assert!(at + 40 + len <= seal);
    });
    let (log, mut committer) = open(&disk);
    check_entries(&log);
    assert!(!log.contains(slot(200)));
    let damaged = log.damaged(1);
    assert_eq!((damaged.len(), damaged[0].what), (1, DamageKind::Footer), "{damaged:?}");
    assert_eq!(log.recovery().walked, 1);
    drop(log.shutdown());
    settle(&mut committer);
    drop((log, committer));
    let report = larder_log::verify_with(&disk, Path::new(DIR)).unwrap();
    assert_eq!(report.damage, damaged);
}

#[test]
fn rotten_payload_is_found_at_open_only_if_that_was_asked_for() {
    let disk = store();
    disk.tamper(&segment(2), |bytes| bytes[4096 + 40 + 100] ^= 1);
    let (log, committer) = open(&disk);
    assert_eq!(log.damaged(1), vec![]);
    drop((log, committer));
    let full = LogOptions { verify_on_open: true, ..options() };
    let (log, _committer) =
        Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), full).unwrap();
    let damaged = log.damaged(1);
    assert_eq!((damaged.len(), damaged[0].what), (1, DamageKind::Payload), "{damaged:?}");
    assert_eq!(log.recovery().footers, 0);
}

#[test]
fn copies_and_what_follows_a_crash_have_footers_too() {
    let disk = store();
    let (log, mut committer) = open(&disk);
    for n in 0..40 {
        let mut batch = Batch::new();
        batch.delete(slot(n));
        log.submit(batch, Durability::Power).unwrap();
    }
    settle(&mut committer);
    committer.compact(CompactMode::Full).unwrap();
    for n in 60..120 {
        put(&log, n, 900);
        settle(&mut committer);
    }
    drop((log, committer));
    let disk = disk.crash(1);
    let (log, mut committer) = open(&disk);
    // The one that was appended to has no footer, and is read as a whole from now on.
    assert_eq!(log.recovery().walked, 0);
    for n in 120..180 {
        put(&log, n, 900);
        settle(&mut committer);
    }
    drop((log, committer));
    let (log, _committer) = open(&disk.crash(2));
    let recovery = log.recovery();
    assert_eq!((recovery.walked, recovery.corrupt), (1, 0), "{recovery:?}");
    for n in 0..180 {
        let want = (n >= 40).then(|| vec![n; 900]);
        assert_eq!(log.get(slot(n)).unwrap().map(Vec::from), want, "{n}");
    }
}
