//! What the cases share: a log on a simulated disk, stepped by hand.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::SimDisk;
use larder_log::{
    Batch, Committer, Durability, Io, Log, LogOptions, Next, Outcome, Slot, Ticket, WriteError,
};

pub(crate) const DIR: &str = "/log";

pub(crate) fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

pub(crate) fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 10, auto_compact: false, ..LogOptions::default() }
}

pub(crate) fn open(disk: &SimDisk) -> (Log, Committer) {
    Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options()).unwrap()
}

pub(crate) fn put(log: &Log, n: u8, len: usize, durability: Durability) -> Ticket {
    let mut batch = Batch::new();
    batch.put(slot(n), vec![n; len].into());
    log.submit(batch, durability).unwrap()
}

pub(crate) fn delete(log: &Log, n: u8) -> Ticket {
    let mut batch = Batch::new();
    batch.delete(slot(n));
    log.submit(batch, Durability::Power).unwrap()
}

pub(crate) fn settle(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    while !matches!(committer.step(now), Next::Wait(None) | Next::Closed) {
        now += Duration::from_secs(1);
    }
}

pub(crate) fn is_done(ticket: &Ticket) -> bool {
    matches!(ticket.outcome(), Some(Outcome::Done { .. }))
}

pub(crate) fn failure(ticket: &Ticket) -> Arc<WriteError> {
    match ticket.outcome() {
        Some(Outcome::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}

/// A store with several sealed segments, shut down.
pub(crate) fn store() -> SimDisk {
    let disk = SimDisk::new(9);
    let (log, mut committer) = open(&disk);
    for n in 0..60 {
        put(&log, n, 900, Durability::Process);
        settle(&mut committer);
    }
    assert!(log.stats().segments > 4);
    drop(log.shutdown());
    settle(&mut committer);
    disk
}

pub(crate) fn segment(n: u64) -> PathBuf {
    Path::new(DIR).join(format!("seg-{n:016x}.log"))
}

pub(crate) fn disk_copy(disk: &SimDisk, seed: u64) -> SimDisk {
    let copy = SimDisk::new(seed);
    copy.create_dir(Path::new(DIR)).unwrap();
    for file in disk.files(Path::new(DIR)) {
        copy.create(&file).unwrap();
        let bytes = disk.read(&file).unwrap();
        copy.tamper(&file, |content| *content = bytes);
    }
    copy.sync_dir(Path::new(DIR)).unwrap();
    copy
}
