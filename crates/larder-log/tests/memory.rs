//! What the index costs in memory, counted by the allocator.

#![expect(clippy::unwrap_used, reason = "this is a test")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::path::Path;
use std::sync::atomic::{AtomicI64, Ordering};

use larder_log::{Batch, Durability, Log, LogOptions, Outcome, Slot};

/// Bytes that are allocated at the moment.
static LIVE: AtomicI64 = AtomicI64::new(0);

struct Counting;

fn count(bytes: usize) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

#[expect(
    unsafe_code,
    reason = "an allocator is unsafe by its trait; this one hands on to the system's"
)]
// SAFETY: every call goes to the system's allocator unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(count(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        LIVE.fetch_add(count(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        LIVE.fetch_sub(count(layout.size()), Ordering::Relaxed);
        // SAFETY: the caller keeps the contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn live() -> i64 {
    LIVE.load(Ordering::Relaxed)
}

/// What the log holds besides the index: the queue, one group's buffers, the next footer, small tables.
const BESIDES: i64 = 1 << 20;

fn open(path: &Path) -> Log {
    // What the footer of the segment that is written will say is held, too: up to half its size.
    let options =
        LogOptions { segment_bytes: 1 << 20, auto_compact: false, ..LogOptions::default() };
    Log::open(path, options).unwrap()
}

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[..8].copy_from_slice(&(n / 10).to_be_bytes());
    id[8..].copy_from_slice(&n.wrapping_mul(0x9e37_79b9_7f4a_7c15).to_le_bytes());
    Slot { namespace: 1, id }
}

fn change(log: &Log, numbers: std::ops::Range<u64>, op: impl Fn(&mut Batch, u64)) {
    for first in numbers.clone().step_by(1000) {
        let mut batch = Batch::new();
        (first..(first + 1000).min(numbers.end)).for_each(|n| op(&mut batch, n));
        let outcome = log.submit(batch, Durability::Process).unwrap().wait(None);
        assert!(matches!(outcome, Some(Outcome::Done { .. })), "{outcome:?}");
    }
}

/// At every size on the way up, and at every size on the way down.
fn costs_at_most_75_bytes_an_entry(entries: u64, step: u64) {
    let dir = tempfile::tempdir().unwrap();
    let log = open(dir.path());
    let empty = live();
    let check = |log: &Log, what: &str| {
        let held = log.stats().entries;
        let bytes = live() - empty;
        let limit = 75 * i64::try_from(held).unwrap() + BESIDES;
        assert!(bytes <= limit, "{what} {held} entries take {bytes} bytes");
    };
    for first in (0..entries).step_by(usize::try_from(step).unwrap()) {
        change(&log, first..first + step, |batch, n| {
            batch.put(slot(n), bytes::Bytes::from_static(b"tiny"));
        });
        check(&log, "growing,");
    }
    let before = live();
    let saved = log.advise_low_memory();
    let measured = before - live();
    // The committer may let go of a buffer at the same moment.
    let said_so = measured - saved;
    assert!(saved > 0 && (-1024..BESIDES).contains(&said_so), "{saved} said, {measured} measured");
    for first in (0..entries).step_by(usize::try_from(step).unwrap()) {
        change(&log, first..first + step, |batch, n| {
            batch.delete(slot(n));
        });
        check(&log, "shrinking,");
    }
    assert_eq!(log.stats().entries, 0);
}

#[test]
fn index_costs_at_most_75_bytes_an_entry_and_says_what_it_gives_back() {
    costs_at_most_75_bytes_an_entry(200_000, 4_000);
}

#[test]
#[ignore = "a minute and a gigabyte of disk"]
fn index_costs_at_most_75_bytes_an_entry_at_ten_million() {
    costs_at_most_75_bytes_an_entry(10_000_000, 250_000);
}
