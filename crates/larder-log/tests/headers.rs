//! Whichever byte of a header block, of a commit or of a record's header flips: no entry is lost, and
//! nothing wrong is shown.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::SimDisk;
use larder_log::{Batch, Committer, DamageKind, Durability, Io, Log, LogOptions, Next, Slot};

const DIR: &str = "/log";
const COMMIT: u8 = 3;
const FOOTER: u8 = 6;
const FLIPS: [u8; 3] = [0x01, 0x21, 0xff];
const ENTRIES: u8 = 36;
/// Deleted at the end: an older version of it lies in a sealed segment.
const GONE: u8 = 5;

fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 8 << 10, auto_compact: false, ..LogOptions::default() }
}

fn open_with(disk: &SimDisk, options: LogOptions) -> (Log, Committer) {
    Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options).unwrap()
}

fn open(disk: &SimDisk) -> (Log, Committer) {
    open_with(disk, options())
}

fn settle(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    while !matches!(committer.step(now), Next::Wait(None) | Next::Closed) {
        now += Duration::from_secs(1);
    }
}

fn put(log: &Log, committer: &mut Committer, n: u8, with: u8) {
    let mut batch = Batch::new();
    batch.put(slot(n), vec![with; 400].into());
    log.submit(batch, Durability::Power).unwrap();
    settle(committer);
}

/// How the log ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Clean,
    Killed,
}

const ENDS: [End; 2] = [End::Clean, End::Killed];

/// Entries in several sealed segments and one that is not: all of them replaced once, one deleted.
fn store(end: End) -> SimDisk {
    let disk = SimDisk::new(9);
    let (log, mut committer) = open(&disk);
    for n in 0..ENTRIES {
        put(&log, &mut committer, n, 0);
    }
    for n in 0..ENTRIES {
        put(&log, &mut committer, n, n);
    }
    let mut batch = Batch::new();
    batch.delete(slot(GONE));
    log.submit(batch, Durability::Power).unwrap();
    settle(&mut committer);
    if end == End::Clean {
        drop(log.shutdown());
        settle(&mut committer);
    }
    drop(committer);
    drop(log);
    disk.kill(1)
}

fn copy(disk: &SimDisk) -> SimDisk {
    let copy = SimDisk::new(1);
    copy.create_dir(Path::new(DIR)).unwrap();
    for file in disk.files(Path::new(DIR)) {
        copy.create(&file).unwrap();
        let bytes = disk.read(&file).unwrap();
        copy.tamper(&file, |content| *content = bytes);
    }
    copy.sync_dir(Path::new(DIR)).unwrap();
    copy
}

fn segments(disk: &SimDisk) -> Vec<PathBuf> {
    let mut files = disk.files(Path::new(DIR));
    files.retain(|file| file.to_string_lossy().contains("seg-"));
    files
}

/// One that was sealed, and the one that was appended to last.
fn sealed_and_last(disk: &SimDisk) -> [PathBuf; 2] {
    let files = segments(disk);
    [files[files.len() - 3].clone(), files[files.len() - 1].clone()]
}

/// Where the frames of this kind begin, or of all kinds, and how long their payloads are.
fn frames(bytes: &[u8], kind: Option<u8>) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 4096;
    while at + 40 <= bytes.len() && (1..=6).contains(&bytes[at + 4]) {
        let len = u32::from_le_bytes(bytes[at + 8..at + 12].try_into().unwrap()) as usize;
        if kind.is_none_or(|kind| kind == bytes[at + 4]) {
            found.push((at, len));
        }
        at = (at + 40 + len).next_multiple_of(8);
    }
    found
}

/// Opens a copy of `disk` in whose file one byte is flipped, twice, and looks at every entry. Then the
/// log is worked with, and still all is there.
fn check(
    disk: &SimDisk,
    file: &Path,
    at: usize,
    flip: u8,
    options: &LogOptions,
    allowed: &[DamageKind],
) {
    let what = || format!("{} at {at} ^ {flip:x}", file.display());
    let disk = copy(disk);
    disk.tamper(file, |bytes| bytes[at] ^= flip);
    let report = larder_log::verify_with(&disk, Path::new(DIR)).unwrap();
    for round in 0..2 {
        let (log, mut committer) = open_with(&disk, options.clone());
        look(&log, &what());
        let damaged = log.damaged(1);
        let harmless = damaged.iter().all(|damage| allowed.contains(&damage.what));
        assert!(harmless, "{}, round {round}: {damaged:?}", what());
        assert_eq!(log.unhealthy_reason(), None, "{}", what());
        if round == 0 {
            assert!(
                damaged.iter().all(|damage| report.damage.contains(damage)),
                "{}: {report:?}",
                what()
            );
            assert_eq!(
                (report.lost_entries, report.entries),
                (0, log.stats().entries),
                "{}",
                what()
            );
            drop(log.shutdown());
            settle(&mut committer);
        }
    }
}

fn look(log: &Log, what: &str) {
    for n in 0..ENTRIES {
        let found = log.get(slot(n)).unwrap_or_else(|error| panic!("{what}: {error}"));
        let wanted = (n != GONE).then(|| vec![n; 400]);
        assert_eq!(found.map(Vec::from), wanted, "{what}: {n}");
    }
}

#[test]
fn whichever_byte_of_a_header_block_flips_no_entry_is_lost() {
    for end in ENDS {
        let disk = store(end);
        for file in sealed_and_last(&disk) {
            for (at, flip) in (0..4096).flat_map(|at| FLIPS.map(|flip| (at, flip))) {
                // What lies behind the fields is not read: there one flip in a while will do.
                if at < 128 || (at % 16 == 0 && flip == FLIPS[at / 16 % 3]) {
                    check(&disk, &file, at, flip, &options(), &[DamageKind::SegmentHeader]);
                }
            }
        }
    }
}

#[test]
fn whichever_byte_of_a_commit_flips_no_entry_is_lost() {
    for end in ENDS {
        let disk = store(end);
        for file in sealed_and_last(&disk) {
            for (frame, len) in frames(&disk.read(&file).unwrap(), Some(COMMIT)) {
                for (at, flip) in
                    (frame..frame + 40 + len).flat_map(|at| FLIPS.map(|flip| (at, flip)))
                {
                    check(&disk, &file, at, flip, &options(), &[]);
                }
            }
        }
    }
}

#[test]
fn whichever_byte_of_a_record_header_flips_no_entry_is_lost() {
    for end in ENDS {
        let disk = store(end);
        for file in sealed_and_last(&disk) {
            for (frame, _) in frames(&disk.read(&file).unwrap(), None) {
                for (at, flip) in (frame..frame + 40).flat_map(|at| FLIPS.map(|flip| (at, flip))) {
                    check(&disk, &file, at, flip, &options(), &[DamageKind::Footer]);
                }
            }
        }
    }
}

/// Nothing but the record itself and its neighbours tells then what it was.
#[test]
fn whichever_byte_of_a_sealed_record_header_flips_no_footer_is_needed() {
    let disk = store(End::Clean);
    let [sealed, _] = sealed_and_last(&disk);
    let bytes = disk.read(&sealed).unwrap();
    let (footer, _) = frames(&bytes, Some(FOOTER))[0];
    disk.tamper(&sealed, |bytes| bytes[footer..].fill(0));
    for (frame, _) in frames(&bytes[..footer], None) {
        for (at, flip) in (frame..frame + 40).flat_map(|at| FLIPS.map(|flip| (at, flip))) {
            check(&disk, &sealed, at, flip, &options(), &[DamageKind::Footer]);
        }
    }
}

#[test]
fn whichever_byte_of_a_sealed_record_header_flips_a_full_read_loses_no_entry() {
    let disk = store(End::Clean);
    let full = LogOptions { verify_on_open: true, ..options() };
    let [sealed, _] = sealed_and_last(&disk);
    for (frame, _) in frames(&disk.read(&sealed).unwrap(), None) {
        for (at, flip) in (frame..frame + 40).flat_map(|at| FLIPS.map(|flip| (at, flip))) {
            check(&disk, &sealed, at, flip, &full, &[DamageKind::Footer]);
        }
    }
}

#[test]
fn what_was_put_right_is_written_back_so_that_rot_does_not_add_up() {
    for end in ENDS {
        let disk = store(end);
        let [_, last] = sealed_and_last(&disk);
        let sound = disk.read(&last).unwrap();
        let (first, _) = frames(&sound, None)[0];
        for at in [first, first + 9, first + 30, first] {
            disk.tamper(&last, |bytes| bytes[at] ^= 0x55);
            let (log, mut committer) = open(&disk);
            assert_eq!(log.recovery().mended, 1, "{end:?} at {at}");
            look(&log, "mended");
            drop(log.shutdown());
            settle(&mut committer);
            assert_eq!(disk.read(&last).unwrap()[first..first + 40], sound[first..first + 40]);
        }
    }
}
