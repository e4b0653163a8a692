//! What compaction costs and what it leaves: bytes counted, not time.
//!
//! Every mix is run in steps on the simulated disk. The laws: over any run the log writes at most
//! twice what it is given, and whenever the background has had its turn the files take at most twice
//! what is live and a constant.

#![expect(clippy::unwrap_used, clippy::print_stderr, reason = "this is a test")]

use std::collections::VecDeque;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use larder_log::sim::{SimDisk, SimRandom};
use larder_log::{Batch, Committer, CompactMode, Durability, Log, LogOptions, Next, Slot};

const SEGMENT: u64 = 128 << 10;
/// The two segments of dead bytes that are tolerated, and the one that is written.
const CONSTANT: u64 = 3 * SEGMENT;
/// Header block and seal of a segment.
const FIXED: u64 = 4096 + 72;

/// A log that is compacted as the background would, after every few operations.
struct Mix {
    disk: SimDisk,
    log: Log,
    committer: Committer,
    random: SimRandom,
    now: Duration,
    segments: u64,
    /// The most bytes on disk beyond twice the live ones.
    beyond: u64,
}

/// What came of a mix.
struct Figures {
    name: &'static str,
    /// Bytes written over bytes given.
    written: f64,
    /// Bytes on disk beyond twice the live ones at the worst moment, in segments.
    beyond: f64,
}

fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Slot { namespace: 1, id }
}

fn len(bytes: u64) -> usize {
    usize::try_from(bytes).unwrap()
}

impl Mix {
    fn new(seed: u64) -> Self {
        let disk = SimDisk::new(seed);
        let options =
            LogOptions { segment_bytes: SEGMENT, preallocate: false, ..LogOptions::default() };
        let (log, committer) =
            Log::open_stepped(Arc::new(disk.clone()), Path::new("/log"), options).unwrap();
        let random = SimRandom::new(seed);
        Self { disk, log, committer, random, now: Duration::ZERO, segments: 1, beyond: 0 }
    }

    fn put(&mut self, n: u64, bytes: u64) {
        let mut batch = Batch::new();
        batch.put(slot(n), vec![n.to_le_bytes()[0]; len(bytes)].into());
        self.submit(batch);
    }

    fn delete(&mut self, n: u64) {
        let mut batch = Batch::new();
        batch.delete(slot(n));
        self.submit(batch);
    }

    fn submit(&mut self, batch: Batch) {
        drop(self.log.submit(batch, Durability::Process).unwrap());
        assert_eq!(self.committer.step(self.now), Next::Again);
        let stats = self.log.stats();
        if stats.segments != self.segments {
            self.turn();
        }
    }

    /// The background's turn.
    fn turn(&mut self) {
        self.committer.compact(CompactMode::Due).unwrap();
        let stats = self.log.stats();
        self.segments = stats.segments;
        let bound = 2 * stats.live_bytes + FIXED * stats.segments;
        let beyond = stats.disk_bytes.saturating_sub(bound);
        assert!(beyond <= CONSTANT, "{stats:?}");
        self.beyond = self.beyond.max(beyond);
        // A segment that is not small holds an eighth of the usual size.
        let segments = 8 * stats.disk_bytes / SEGMENT + 17;
        assert!(stats.segments <= segments, "{stats:?}");
    }

    #[expect(clippy::cast_precision_loss, reason = "the numbers are small")]
    fn end(mut self, name: &'static str, bound: f64) -> Figures {
        self.turn();
        let stats = self.log.stats();
        let written =
            (stats.appended_bytes + stats.compacted_bytes) as f64 / stats.appended_bytes as f64;
        let figures = Figures { name, written, beyond: self.beyond as f64 / SEGMENT as f64 };
        eprintln!("{:<24} {:>5.2} {:>6.2}", figures.name, figures.written, figures.beyond);
        assert!(figures.written <= bound, "{name}: {:.3} times, {stats:?}", figures.written);
        // What is there is there after a power failure, and nothing else.
        let entries = stats.entries;
        drop((self.committer, self.log));
        let io = Arc::new(self.disk.crash(1));
        let options = LogOptions { segment_bytes: SEGMENT, ..LogOptions::default() };
        let (log, _committer) = Log::open_stepped(io, Path::new("/log"), options).unwrap();
        assert_eq!(log.damaged(1), vec![], "{name}");
        // The last operations were not synced.
        assert!(log.stats().entries.abs_diff(entries) < 600, "{name}: {}", log.stats().entries);
        figures
    }
}

/// Bytes that a mix is given.
const GIVEN: u64 = 24 << 20;

fn while_given(mix: &mut Mix, mut act: impl FnMut(&mut Mix, u64)) {
    let mut n = 0;
    while mix.log.stats().appended_bytes < GIVEN {
        act(mix, n);
        n += 1;
    }
}

#[test]
fn random_overwrite() {
    let mut mix = Mix::new(1);
    while_given(&mut mix, |mix, _| {
        let n = mix.random.below(4000);
        mix.put(n, 1000);
    });
    mix.end("random overwrite", 2.0);
}

#[test]
fn one_hot_tenth_and_a_cold_rest() {
    let mut mix = Mix::new(2);
    while_given(&mut mix, |mix, _| {
        let hot = !mix.random.chance(10);
        let n = if hot { mix.random.below(400) } else { 400 + mix.random.below(3600) };
        mix.put(n, 1000);
    });
    mix.end("hot and cold", 2.0);
}

#[test]
fn mixed_lifetimes() {
    let mut mix = Mix::new(3);
    let mut short = VecDeque::new();
    while_given(&mut mix, |mix, n| {
        mix.put(n, 500 + n % 1000);
        if n % 2 == 0 {
            short.push_back(n);
        }
        if short.len() > 200 {
            mix.delete(short.pop_front().unwrap());
        }
        if n > 6000 && n % 2 == 0 {
            // One of the long-lived ones, whichever it is.
            let old = mix.random.below(n / 2) * 2 + 1;
            mix.delete(old);
        }
    });
    mix.end("mixed lifetimes", 2.0);
}

#[test]
fn tiny_payloads_one_at_a_time() {
    let mut mix = Mix::new(4);
    while_given(&mut mix, |mix, _| {
        let (n, bytes) = (mix.random.below(20_000), mix.random.below(17));
        mix.put(n, bytes);
    });
    mix.end("tiny payloads", 2.0);
}

#[test]
fn payloads_around_and_above_a_segment() {
    let mut mix = Mix::new(5);
    while_given(&mut mix, |mix, _| {
        let n = mix.random.below(40);
        let bytes = if mix.random.chance(4) { SEGMENT * 3 } else { mix.random.below(SEGMENT) };
        mix.put(n, bytes);
    });
    mix.end("large payloads", 2.0);
}

#[test]
fn tiny_among_large_payloads() {
    let mut mix = Mix::new(6);
    while_given(&mut mix, |mix, _| {
        let n = mix.random.below(2000);
        let bytes = if n % 100 == 0 { SEGMENT / 2 } else { 30 };
        mix.put(n, bytes);
    });
    mix.end("tiny among large", 2.0);
}

/// Every cold segment has one dead record, which is enough to hold on to all later deletes of what
/// had been replaced.
#[test]
fn deletes_that_cold_segments_hold_on_to() {
    let mut mix = Mix::new(7);
    for n in 0..600 {
        mix.put(n, 1000);
    }
    for n in (0..600).step_by(30) {
        mix.delete(n);
    }
    while_given(&mut mix, |mix, n| {
        let n = 10_000 + n;
        mix.put(n, 20);
        mix.put(n, 20);
        mix.delete(n);
        if n % 2000 == 0 {
            // A cold one dies, so that the copies hold on to deletes as well.
            let cold = mix.random.below(600);
            mix.delete(cold);
        }
    });
    mix.end("pinned deletes", 2.0);
}

#[test]
fn one_straggler_in_five_hundred() {
    let mut mix = Mix::new(8);
    while_given(&mut mix, |mix, n| {
        mix.put(n, 700);
        if n > 20 && (n - 20) % 500 != 0 {
            mix.delete(n - 20);
        }
    });
    mix.end("stragglers", 2.0);
}

#[test]
fn filled_and_drained_in_any_order() {
    let mut mix = Mix::new(9);
    let mut there: Vec<u64> = Vec::new();
    let mut filling = true;
    while_given(&mut mix, |mix, n| {
        if filling {
            mix.put(n, 1000);
            there.push(n);
            filling = there.len() < 3000;
        } else {
            let at = len(mix.random.below(there.len() as u64));
            mix.delete(there.swap_remove(at));
            filling = there.len() < 100;
        }
    });
    mix.end("fill and drain", 2.0);
}

/// Stored, loaded, removed after a time that differs: the usual life in a queue. Live bytes and what
/// goes through stand to a segment as 256 MiB and 4 GiB do to one of 64 MiB.
#[test]
fn queue() {
    let mut mix = Mix::new(10);
    let mut due: Vec<(u64, u64)> = Vec::new();
    let mut gone = 0;
    for n in 0..16 * 4 * SEGMENT / 1000 {
        mix.put(n, 1000);
        // Most are delivered at once, some are tried again later, a few much later.
        let wait = match mix.random.below(20) {
            0 => 2600,
            1..4 => 900,
            _ => 300 + mix.random.below(100),
        };
        due.push((n + wait, n));
        due.sort_unstable_by_key(|(at, _)| std::cmp::Reverse(*at));
        while due.last().is_some_and(|(at, _)| *at <= n) {
            let (_, id) = due.pop().unwrap();
            assert!(mix.log.get(slot(id)).unwrap().is_some());
            mix.delete(id);
            gone += 1;
        }
    }
    assert!(gone > 7000);
    mix.end("queue", 1.2);
}
