//! A log that runs out of something other than luck: room on the disk, file descriptors.

#![expect(clippy::unwrap_used, reason = "this is a test")]

mod descriptors;
mod disk;
mod gate;
mod mark;
mod room;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder_log::{
    Batch, Committer, Durability, Io, Log, LogOptions, Next, Outcome, Slot, Ticket, WriteError,
};

const DIR: &str = "/log";

fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 16 << 10, auto_compact: false, ..LogOptions::default() }
}

fn open(io: &(impl Io + Clone + 'static), options: LogOptions) -> (Log, Committer) {
    Log::open_stepped(Arc::new(io.clone()), Path::new(DIR), options).unwrap()
}

fn put(log: &Log, n: u8, len: usize) -> Ticket {
    let mut batch = Batch::new();
    batch.put(slot(n), vec![n; len].into());
    log.submit(batch, Durability::Power).unwrap()
}

fn delete(log: &Log, n: u8) -> Ticket {
    let mut batch = Batch::new();
    batch.delete(slot(n));
    log.submit(batch, Durability::Power).unwrap()
}

/// Steps until there is nothing to do; time passes only where something waits for it.
fn settle(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    while !matches!(committer.step(now), Next::Wait(None) | Next::Closed) {
        now += Duration::from_secs(1);
    }
}

fn is_done(ticket: &Ticket) -> bool {
    matches!(ticket.outcome(), Some(Outcome::Done { .. }))
}

fn failure(ticket: &Ticket) -> Arc<WriteError> {
    match ticket.outcome() {
        Some(Outcome::Failed(error)) => error,
        other => panic!("{other:?}"),
    }
}
