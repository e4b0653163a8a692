//! Rot under a running log: found before a reader meets it, told entry by entry, never copied.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::SimDisk;
use larder_log::{
    Batch, Committer, CompactMode, DamageKind, Durability, Error, Log, LogOptions, Next, Outcome,
    ReadError, Slot,
};

const DIR: &str = "/log";

fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 10, auto_compact: false, ..LogOptions::default() }
}

fn segment(n: u64) -> PathBuf {
    Path::new(DIR).join(format!("seg-{n:016x}.log"))
}

/// Eighty entries in several sealed segments.
fn filled(disk: &SimDisk) -> (Log, Committer) {
    let io = Arc::new(disk.clone());
    let (log, mut committer) = Log::open_stepped(io, Path::new(DIR), options()).unwrap();
    for n in 0..80 {
        let mut batch = Batch::new();
        batch.put(slot(n), vec![n; 900].into());
        drop(log.submit(batch, Durability::Power).unwrap());
        settle(&mut committer);
    }
    assert!(log.stats().segments > 5);
    (log, committer)
}

fn settle(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    while !matches!(committer.step(now), Next::Wait(None) | Next::Closed) {
        now += Duration::from_secs(1);
    }
}

fn delete(log: &Log, committer: &mut Committer, n: u8) {
    let mut batch = Batch::new();
    batch.delete(slot(n));
    drop(log.submit(batch, Durability::Power).unwrap());
    settle(committer);
}

/// Flips a bit in the payload of an entry.
fn rot(bytes: &mut [u8], n: u8) {
    let at = bytes.windows(900).position(|window| window == [n; 900]).unwrap();
    bytes[at + 450] ^= 0x10;
}

#[test]
fn sound_log_is_read_whole_and_found_sound() {
    let disk = SimDisk::new(1);
    let (log, _committer) = filled(&disk);
    let report = log.scrub().unwrap();
    let stats = log.stats();
    assert_eq!((report.found, report.unreadable), (0, 0), "{report:?}");
    assert_eq!(report.segments, stats.segments - 1, "all but the one that is written");
    assert!(report.bytes > 60_000 && report.bytes == stats.scrubbed_bytes, "{report:?}");
    assert_eq!((stats.scrub_passes, stats.corrupt), (1, 0));
    assert_eq!(log.damaged(1), vec![]);
}

#[test]
fn one_pass_finds_every_rotten_entry_once() {
    let disk = SimDisk::new(2);
    let (log, mut committer) = filled(&disk);
    delete(&log, &mut committer, 3);
    disk.tamper(&segment(1), |bytes| [2, 3, 7].iter().for_each(|n| rot(bytes, *n)));
    disk.tamper(&segment(3), |bytes| {
        let first = bytes[4096 + 40];
        rot(bytes, first);
    });
    let before = log.stats().corrupt;
    // Entry 3 is dead: nobody misses it.
    assert_eq!(log.scrub().unwrap().found, 3);
    assert_eq!(log.stats().corrupt, before + 3);
    let damaged = log.damaged(1);
    assert_eq!(damaged.len(), 3, "{damaged:?}");
    assert!(damaged.iter().all(|d| d.what == DamageKind::Payload && d.slot.is_some()));
    assert!(damaged.iter().any(|d| d.slot == Some(slot(2)) && d.segment == 1));
    assert!(matches!(log.get(slot(2)), Err(ReadError::Corrupt { .. })));
    assert_eq!(log.get(slot(4)).unwrap().unwrap(), vec![4; 900]);
    assert_eq!(log.unhealthy_reason(), None);
    // Neither a second pass nor the reader tells it again.
    assert_eq!(log.scrub().unwrap().found, 0);
    assert_eq!(log.damaged(1).len(), 3);
    assert_eq!(log.stats().scrub_passes, 2);
}

#[test]
fn header_that_can_be_put_right_is_and_one_that_cannot_is_told_with_its_entry() {
    let disk = SimDisk::new(3);
    let (log, _committer) = filled(&disk);
    let victim = disk.read(&segment(2)).unwrap()[4096 + 40];
    let sound = disk.read(&segment(2));
    // One byte, and all of it: the footer has it again.
    for rotten in [17..18, 0..40] {
        disk.tamper(&segment(2), |bytes| bytes[4096..4136][rotten].fill(0xee));
        assert_eq!(log.scrub().unwrap().found, 0);
        assert_eq!(disk.read(&segment(2)), sound);
    }
    // With its payload, which nothing has again; the footer still says that no delete was there.
    disk.tamper(&segment(2), |bytes| bytes[4096 + 17..4096 + 60].fill(0xee));
    assert_eq!(log.scrub().unwrap().found, 1);
    let damaged = log.damaged(1);
    assert!(damaged.iter().any(|d| d.slot == Some(slot(victim)) && d.offset == 4096));
    assert_eq!(log.unhealthy_reason(), None);
    // Without its footer nobody knows that.
    disk.tamper(&segment(2), |bytes| {
        let end = bytes.iter().rposition(|byte| *byte != 0).unwrap();
        bytes[end - 60..].fill(0xee);
    });
    log.scrub().unwrap();
    let damaged = log.damaged(1);
    assert!(damaged.iter().any(|d| d.slot.is_none() && d.what == DamageKind::Unidentified));
    assert!(log.unhealthy_reason().is_some());
    log.acknowledge().unwrap();
    log.scrub().unwrap();
    assert_eq!(log.unhealthy_reason(), None);
    assert!(log.damaged(1).iter().any(|d| d.what == DamageKind::Accepted));
}

#[test]
fn rotten_header_block_and_cut_file_are_told() {
    let disk = SimDisk::new(4);
    let (log, _committer) = filled(&disk);
    disk.tamper(&segment(1), |bytes| bytes[20] ^= 1);
    assert_eq!(log.scrub().unwrap().found, 1);
    assert_eq!(log.damaged(1)[0].what, DamageKind::SegmentHeader);
    assert_eq!(log.unhealthy_reason(), None);
    disk.tamper(&segment(2), |bytes| bytes.truncate(9000));
    log.scrub().unwrap();
    assert!(log.damaged(1).iter().any(|d| d.what == DamageKind::CutShort && d.segment == 2));
    assert!(log.unhealthy_reason().is_some());
    // Who has accepted it is not asked again by the next pass.
    log.acknowledge().unwrap();
    log.scrub().unwrap();
    assert_eq!(log.unhealthy_reason(), None);
}

#[test]
fn system_error_is_no_damage_and_the_pass_goes_on() {
    let disk = SimDisk::new(5);
    let (log, _committer) = filled(&disk);
    disk.fail_reads(1);
    let report = log.scrub().unwrap();
    assert_eq!((report.unreadable, report.found), (1, 0));
    assert_eq!(report.segments, log.stats().segments - 2);
    assert_eq!(log.damaged(1), vec![]);
}

#[test]
fn compaction_leaves_rot_where_it_is_and_tells_each_entry() {
    for header in [false, true] {
        let disk = SimDisk::new(6);
        let (log, mut committer) = filled(&disk);
        for n in 0..8 {
            delete(&log, &mut committer, n);
        }
        disk.tamper(&segment(1), |bytes| {
            if header {
                // The id, and right behind it the payload.
                let at = bytes.windows(916).position(|window| window == [9; 916]).unwrap();
                bytes[at..at + 40].fill(0xee);
            } else {
                rot(bytes, 9);
            }
        });
        let error = committer.compact(CompactMode::Full).unwrap_err();
        assert!(matches!(error, Error::Corrupt { entries: 1, segment: 1 }), "{error}");
        assert!(matches!(log.get(slot(9)), Err(ReadError::Corrupt { .. })));
        assert!(log.damaged(1).iter().any(|d| d.slot == Some(slot(9))));
        for n in [8, 10, 40, 79] {
            assert_eq!(log.get(slot(n)).unwrap().unwrap(), vec![n; 900], "{n}");
        }
        // It goes once nothing in it is wanted, and its bytes are kept.
        for n in 8..14 {
            delete(&log, &mut committer, n);
        }
        committer.compact(CompactMode::Full).unwrap();
        assert!(disk.read(&segment(1)).is_none());
        let aside = Path::new(DIR).join("quarantine/seg-0000000000000001.log");
        assert!(disk.read(&aside).is_some());
    }
}

#[test]
fn background_finds_rot_in_a_real_file_within_one_pass() {
    let dir = tempfile::tempdir().unwrap();
    let options = LogOptions { scrub_interval: Duration::from_millis(20), ..options() };
    let log = Log::open(dir.path(), options).unwrap();
    for n in 0..80 {
        let mut batch = Batch::new();
        batch.put(slot(n), vec![n; 900].into());
        let done = log.submit(batch, Durability::Power).unwrap().wait(None);
        assert!(matches!(done, Some(Outcome::Done { .. })));
    }
    let file = dir.path().join("seg-0000000000000002.log");
    let bytes = std::fs::read(&file).unwrap();
    let victim = bytes[4096 + 40];
    let at = bytes.windows(900).position(|window| window == [victim; 900]).unwrap() + 450;
    let passes = log.stats().scrub_passes;
    // One byte in place, as rot does it: a file that is written anew would be short for a moment.
    let file = std::fs::File::options().write(true).open(&file).unwrap();
    file.write_all_at(&[victim ^ 0x10], at as u64).unwrap();
    // The pass that is under way may be past it; the next one is not.
    while log.stats().scrub_passes < passes + 2 {
        std::thread::park_timeout(Duration::from_millis(5));
    }
    let damaged = log.damaged(1);
    assert_eq!(damaged.len(), 1, "{damaged:?}");
    assert_eq!((damaged[0].slot, damaged[0].segment), (Some(slot(victim)), 2));
    assert!(matches!(log.get(slot(victim)), Err(ReadError::Corrupt { .. })));
    log.close().unwrap();
}

/// A log that compacts and scrubs at a rate at which it would take years, and has to do both: more
/// dead bytes than are tolerated, not so many that it would hurry, in segments with a rest.
fn slow(dir: &Path) -> Log {
    const SEGMENT: u64 = 256 << 10;
    let slow = LogOptions {
        segment_bytes: SEGMENT,
        compact_bytes_per_second: 1,
        scrub_bytes_per_second: 1,
        scrub_interval: Duration::ZERO,
        ..LogOptions::default()
    };
    let log = Log::open(dir, slow).unwrap();
    let put = |n: u8, len: usize| {
        let mut batch = Batch::new();
        batch.put(slot(n), vec![n; len].into());
        log.submit(batch, Durability::Process).unwrap().wait(None);
    };
    for n in 0..5 {
        put(100 + n, 1000);
        for _ in 0..12 {
            put(n, 20_000);
        }
    }
    // Copies of nothing were made yet, and what is dead as a whole went without.
    let stats = log.stats();
    let dead = stats.disk_bytes.saturating_sub(stats.live_bytes + SEGMENT);
    assert!(dead > stats.live_bytes + 2 * SEGMENT, "{stats:?}");
    log
}

#[test]
fn shutting_down_waits_neither_for_compaction_nor_for_the_scrubber() {
    let dir = tempfile::tempdir().unwrap();
    slow(dir.path()).close().unwrap();
    let log = Log::open(dir.path(), LogOptions::default()).unwrap();
    assert_eq!(log.stats().entries, 10);
}

#[test]
fn compaction_by_hand_does_not_wait_for_the_rate_of_the_background() {
    let dir = tempfile::tempdir().unwrap();
    let log = slow(dir.path());
    log.compact(CompactMode::Due).unwrap();
    let stats = log.stats();
    assert!(stats.compacted_bytes > 0, "{stats:?}");
    log.close().unwrap();
}

/// However slow compaction may be, the space keeps to its bound: it hurries when it falls behind.
#[test]
fn slow_rate_is_lifted_before_the_disk_fills() {
    const SEGMENT: u64 = 256 << 10;
    let dir = tempfile::tempdir().unwrap();
    let slow = LogOptions {
        segment_bytes: SEGMENT,
        auto_compact: true,
        compact_bytes_per_second: 1,
        ..LogOptions::default()
    };
    let log = Log::open(dir.path(), slow).unwrap();
    for round in 0..4000_u32 {
        let mut batch = Batch::new();
        let n = u8::try_from(round.wrapping_mul(2_654_435_761) >> 24).unwrap();
        batch.put(slot(n), vec![n; 5000].into());
        log.submit(batch, Durability::Process).unwrap().wait(None);
    }
    // Twenty megabytes went in; the background is given the time to end what it has begun.
    let settled = (0..1000).any(|_| {
        let stats = log.stats();
        std::thread::park_timeout(Duration::from_millis(10));
        stats.disk_bytes <= 2 * stats.live_bytes + 6 * SEGMENT
    });
    assert!(settled, "{:?}", log.stats());
}
