//! Keeping to the bounds: writers book room, and a thread gives the oldest segments up for it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Condvar, Mutex, PoisonError};
use std::time::Duration;

use larder_log::Log;
use tokio::sync::Notify;

/// How often the evicting thread looks without being asked.
const LOOK_EVERY: Duration = Duration::from_secs(30);

/// The segments that a cache of the least capacity has.
const SEGMENTS: u64 = 32;
const SEGMENT_BYTES_MIN: u64 = 64 << 10;
const SEGMENT_BYTES_MAX: u64 = 1 << 30;
/// What the engine keeps beside its segments: room put by for a full disk, two manifests, the lock.
const BESIDE: u64 = 288 << 10;

/// The bounds of a cache.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Bounds {
    pub(super) capacity: u64,
    pub(super) entries_max: u64,
}

impl Bounds {
    /// The least capacity: sixteen of the smallest segments.
    pub(super) const CAPACITY_MIN: u64 = 16 * SEGMENT_BYTES_MIN;

    /// The bounds; without a number of entries one for each KiB.
    pub(super) fn of(capacity: u64, entries_max: Option<u64>) -> Self {
        Self { capacity, entries_max: entries_max.unwrap_or(capacity / 1024) }
    }

    /// What is given up at once. The smaller, the fewer entries go at a time; the larger, the fewer
    /// files are open.
    pub(super) fn segment_bytes(self) -> u64 {
        (self.capacity / SEGMENTS).clamp(SEGMENT_BYTES_MIN, SEGMENT_BYTES_MAX)
    }

    /// Beyond this writers wait. The rest of the capacity is for what a segment has reserved.
    fn bytes_max(self) -> u64 {
        self.capacity - self.segment_bytes() - BESIDE
    }

    /// Beyond this the oldest is given up: before a writer has to wait for it.
    fn bytes_kept(self) -> u64 {
        self.bytes_max() - self.segment_bytes()
    }

    fn entries_kept(self) -> u64 {
        self.entries_max - self.entries_max / SEGMENTS
    }
}

/// How much room there is, and who waits for some.
pub(super) struct Room {
    pub(super) bounds: Bounds,
    /// Bytes and entries that were booked and are not in the log yet.
    booked_bytes: AtomicU64,
    booked_entries: AtomicU64,
    made: Notify,
    bell: Bell,
}

/// Room for one entry, until it is in the log or will never be.
pub(super) struct Booking<'a> {
    room: &'a Room,
    bytes: u64,
}

impl Drop for Booking<'_> {
    fn drop(&mut self) {
        self.room.booked_bytes.fetch_sub(self.bytes, Ordering::Relaxed);
        self.room.booked_entries.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Room {
    pub(super) fn new(bounds: Bounds) -> Self {
        Self {
            bounds,
            booked_bytes: AtomicU64::new(0),
            booked_entries: AtomicU64::new(0),
            made: Notify::new(),
            bell: Bell::default(),
        }
    }

    /// Waits until there is room for one more entry of so many bytes.
    pub(super) async fn book(&self, log: &Log, bytes: u64) -> Booking<'_> {
        loop {
            let mut made = std::pin::pin!(self.made.notified());
            // Before the look: what is made after it must not be missed.
            made.as_mut().enable();
            self.booked_bytes.fetch_add(bytes, Ordering::Relaxed);
            self.booked_entries.fetch_add(1, Ordering::Relaxed);
            let booking = Booking { room: self, bytes };
            let (used, entries) = self.used(log);
            self.ring_if_full(used, entries);
            if used <= self.bounds.bytes_max() && entries <= self.bounds.entries_max {
                return booking;
            }
            drop(booking);
            made.await;
        }
    }

    /// Has the oldest given up where there is too much.
    pub(super) fn look(&self, log: &Log) {
        let (used, entries) = self.used(log);
        self.ring_if_full(used, entries);
    }

    fn ring_if_full(&self, used: u64, entries: u64) {
        if used > self.bounds.bytes_kept() || entries > self.bounds.entries_kept() {
            self.bell.ring();
        }
    }

    /// Has a segment given up whatever there is: the disk is full.
    pub(super) fn ask_for_more(&self) {
        self.bell.ask();
    }

    /// Whether the oldest has to go.
    pub(super) fn is_short(&self, log: &Log) -> bool {
        let (used, entries) = self.used(log);
        used > self.bounds.bytes_kept() || entries > self.bounds.entries_kept()
    }

    /// Bytes and entries, with those on their way.
    fn used(&self, log: &Log) -> (u64, u64) {
        let bytes = log.disk_bytes() + self.booked_bytes.load(Ordering::Relaxed);
        (bytes, log.entry_count() + self.booked_entries.load(Ordering::Relaxed))
    }

    /// Wakes those who wait for room.
    pub(super) fn tell(&self) {
        self.made.notify_waiters();
    }

    /// Waits until something is to be done; `None` once it was stopped, `true` when one more segment
    /// has to go whatever there is.
    pub(super) fn wait(&self) -> Option<bool> {
        self.bell.wait(LOOK_EVERY)
    }

    /// Waits after a failure; false once it was stopped.
    pub(super) fn pause(&self, time: Duration) -> bool {
        self.bell.pause(time)
    }

    pub(super) fn stop(&self) {
        self.bell.stop();
    }
}

/// Wakes the evicting thread, or ends it.
#[derive(Default)]
struct Bell {
    state: Mutex<Calls>,
    changed: Condvar,
}

#[derive(Default)]
struct Calls {
    look: bool,
    more: bool,
    stopped: bool,
}

impl Bell {
    fn ring(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        if !std::mem::replace(&mut state.look, true) {
            self.changed.notify_all();
        }
    }

    fn ask(&self) {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        (state.look, state.more) = (true, true);
        self.changed.notify_all();
    }

    fn stop(&self) {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).stopped = true;
        self.changed.notify_all();
    }

    fn wait(&self, limit: Duration) -> Option<bool> {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let quiet = |state: &mut Calls| !state.look && !state.stopped;
        let waited = self.changed.wait_timeout_while(state, limit, quiet);
        let (mut state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        state.look = false;
        let more = std::mem::take(&mut state.more);
        (!state.stopped).then_some(more)
    }

    fn pause(&self, limit: Duration) -> bool {
        let state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = self.changed.wait_timeout_while(state, limit, |state| !state.stopped);
        let (state, _) = waited.unwrap_or_else(PoisonError::into_inner);
        !state.stopped
    }
}
