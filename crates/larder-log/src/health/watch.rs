//! Looking about once a second, off the commit path, at what nobody reports by himself: the folder,
//! the file system, and how long batches have waited.

use std::collections::VecDeque;
use std::io;
use std::sync::atomic::Ordering;
use std::time::Duration;

use super::machine::{Machine, Signs};
use super::{FreeLimit, Health, Judge, Reason, Space};
use crate::io::FileIdentity;
use crate::segment;
use crate::shared::Shared;

/// How often the thread of an open log looks.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// How often the file system is asked for its free space.
const SPACE_EVERY: Duration = Duration::from_secs(2);
/// Unreadable records in so many places within this time are the device's fault, not one record's.
const PLACES: usize = 3;
const READ_ERROR_WINDOW: Duration = Duration::from_mins(1);
/// What waits longer than this waits too long, when it is more than one caller's bad luck.
const PATIENCE: Duration = Duration::from_secs(5);
const WAITERS: u64 = 2;

/// What the looks so far have seen.
#[derive(Debug)]
pub(crate) struct Watch {
    min_free_space: FreeLimit,
    min_free_inodes: FreeLimit,
    space: Option<Space>,
    space_at: Option<Duration>,
    low_space: bool,
    low_inodes: bool,
    /// Records that could not be read, each once, with the first look after that.
    unreadable: VecDeque<(Place, Option<Duration>)>,
    /// How far the queues were at earlier looks.
    progress: VecDeque<(Duration, Progress)>,
}

/// A segment and an offset in it.
type Place = (u32, u64);

/// How many batches and waits for the byte budget there were up to some moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Progress {
    pub(crate) batches: u64,
    pub(crate) admissions: u64,
}

impl Watch {
    pub(super) fn new(min_free_space: FreeLimit, min_free_inodes: FreeLimit) -> Self {
        Self {
            min_free_space,
            min_free_inodes,
            space: None,
            space_at: None,
            low_space: false,
            low_inodes: false,
            unreadable: VecDeque::new(),
            progress: VecDeque::new(),
        }
    }

    pub(super) const fn space(&self) -> Option<Space> {
        self.space
    }

    /// Bounded: more places than count say nothing more.
    pub(super) fn read_error(&mut self, place: Place) {
        if self.unreadable.iter().all(|(known, _)| *known != place) {
            self.unreadable.truncate(PLACES - 1);
            self.unreadable.push_front((place, None));
        }
    }

    fn wants_space(&self, now: Duration) -> bool {
        self.space_at.is_none_or(|at| now.saturating_sub(at) >= SPACE_EVERY)
    }

    fn judge_space(&mut self, space: Space, machine: &Machine, now: Duration) {
        self.space = Some(space);
        self.space_at = Some(now);
        let low = |limit: FreeLimit, free, total, reason| {
            limit.is_short(free, total, !machine.is_clear(reason))
        };
        let low_space =
            low(self.min_free_space, space.free_bytes, space.total_bytes, Reason::LowSpace);
        let low_inodes =
            low(self.min_free_inodes, space.free_inodes, space.total_inodes, Reason::LowInodes);
        if low_space && !self.low_space {
            let limit_bytes = self.min_free_space.of(space.total_bytes);
            tracing::warn!(free_bytes = space.free_bytes, limit_bytes, "too little space is free");
        }
        if low_inodes && !self.low_inodes {
            let limit_inodes = self.min_free_inodes.of(space.total_inodes);
            tracing::warn!(
                free_inodes = space.free_inodes,
                limit_inodes,
                "too few inodes are free"
            );
        }
        (self.low_space, self.low_inodes) = (low_space, low_inodes);
    }

    fn has_read_errors(&mut self, now: Duration) -> bool {
        for (_, seen) in &mut self.unreadable {
            seen.get_or_insert(now);
        }
        self.unreadable.retain(|(_, seen)| {
            seen.is_none_or(|seen| now.saturating_sub(seen) < READ_ERROR_WINDOW)
        });
        self.unreadable.len() >= PLACES
    }

    /// Where the queues were when what is there longer than [`PATIENCE`] had been queued.
    fn long_ago(&mut self, progress: Progress, now: Duration) -> Progress {
        let is_old = |at: &Duration| now.saturating_sub(*at) >= PATIENCE;
        while self.progress.get(1).is_some_and(|(at, _)| is_old(at)) {
            self.progress.pop_front();
        }
        self.progress.push_back((now, progress));
        match self.progress.front() {
            Some((at, then)) if is_old(at) => *then,
            _ => Progress::default(),
        }
    }
}

impl Shared {
    /// Looks until the log is shut down.
    pub(crate) fn run_watch(&self) {
        while self.watch.wait(LOOK_EVERY) {
            self.look(crate::clock::now());
        }
    }

    /// Looks once, and moves the gate.
    pub(crate) fn look(&self, now: Duration) {
        if self.is_closed() {
            return;
        }
        // The disk may take its time: nothing is held meanwhile.
        let wants_space = self.health.judge().watch.wants_space(now);
        let space = if wants_space { self.io.space(&self.dir).ok().flatten() } else { None };
        if self.is_displaced() && !self.is_closed() {
            self.health.raise(Reason::FolderGone);
        }
        let mut judge = self.health.judge();
        let Judge { machine, watch } = &mut *judge;
        if let Some(space) = space {
            watch.judge_space(space, machine, now);
        }
        let queued =
            Progress { batches: self.queue().accepted, admissions: self.budget.next_waiter() };
        let then = watch.long_ago(queued, now);
        let late = then.batches.saturating_sub(self.counters.ended.load(Ordering::Relaxed))
            + self.budget.waiters_before(then.admissions);
        let signs = Signs {
            low_space: watch.low_space,
            low_inodes: watch.low_inodes,
            read_errors: watch.has_read_errors(now),
            backlog: late >= WAITERS,
            ..self.health.signs_of_room()
        };
        self.health.observe(now, signs, &mut judge);
    }

    /// Whether the folder or the segment in use is not where it was: what is appended would be lost
    /// with the last handle.
    fn is_displaced(&self) -> bool {
        let is_at = |path: &std::path::Path, known: FileIdentity| match self.io.identity(path) {
            Ok(now) => now.is_none_or(|now| now == known),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            // Not being allowed to look, for one, says nothing about what is there.
            Err(_) => true,
        };
        if self.home.is_some_and(|home| !is_at(&self.dir, home)) {
            return true;
        }
        let in_use = self.all_segments().into_iter().rfind(|segment| !segment.is_sealed());
        in_use.is_some_and(|segment| {
            let path = segment::path(&self.dir, u64::from(segment.id));
            let known = segment.file.identity().ok().flatten();
            // One that was sealed meanwhile may have been retired as well.
            known.is_some_and(|known| !is_at(&path, known)) && !segment.is_sealed()
        })
    }
}

impl Health {
    /// What putting has shown of the disk's room since the last look.
    fn signs_of_room(&self) -> Signs {
        Signs {
            no_space: self.no_space_again.swap(false, Ordering::Relaxed),
            wrote: !self.no_space.load(Ordering::Relaxed),
            ..Signs::default()
        }
    }
}
