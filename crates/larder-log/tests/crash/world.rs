//! A log on a simulated disk, with several users, next to the history of what it was told.

use std::collections::VecDeque;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use larder_log::sim::{Fault, SimDisk, SimRandom};
use larder_log::{
    Annulment, Batch, Committer, CompactMode, DamageKind, Durability, Entry, Log, LogOptions, Next,
    OpenError, Outcome, ReadError, Ticket,
};

use crate::control::Breakage;
use crate::model::{History, Promise, SLOTS, State, observe, payload, slot, value};
use crate::verdict::{self, Verdict};

pub(crate) const DIR: &str = "/log";
/// Readers that walk at the same time.
const WALKS_MAX: usize = 3;

/// Segments that were begun in files that were written before, in all worlds.
pub(crate) static RECYCLED: AtomicU64 = AtomicU64::new(0);

/// How the process ends.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    /// The page cache survives it.
    Process,
    Power,
}

/// What the disk does besides losing what is not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    /// Nothing.
    Fair,
    /// Calls fail, the disk fills up; what it says is true.
    Failing,
    /// Syncs lie, too: what was acknowledged may be gone, but nothing wrong may be shown.
    Lying,
}

impl Weather {
    /// Plans the faults of a run.
    pub(crate) fn plan(self, disk: &SimDisk, seed: u64) {
        if self == Self::Fair {
            return;
        }
        let mut random = SimRandom::new(seed ^ 0xfa17);
        for _ in 0..=random.below(4) {
            let fault = match random.below(6) {
                0 => Fault::SyncError { lost: random.chance(2) },
                1 | 2 => Fault::NoSpace,
                3 => Fault::ShortWrite,
                _ => Fault::Error,
            };
            let lie = self == Self::Lying && random.chance(2);
            disk.plan(8 + random.below(150), if lie { Fault::LyingSync } else { fault });
        }
    }
}

/// A walk over all entries that goes on while the log changes.
struct Walk {
    left: VecDeque<Entry>,
}

pub(crate) struct World {
    pub(crate) disk: SimDisk,
    weather: Weather,
    breakage: Option<Breakage>,
    options: LogOptions,
    pub(crate) log: Option<Log>,
    pub(crate) committer: Option<Committer>,
    walks: Vec<Walk>,
    pub(crate) now: Duration,
    next_value: u64,
    pub(crate) history: History,
    /// The manifest was lost since the log was last compared with its history.
    orphaned: bool,
}

/// Small segments, so that everything happens often.
pub(crate) fn options(seed: u64) -> LogOptions {
    let mut random = SimRandom::new(seed ^ 0x0b71);
    let segment_bytes =
        [8192, 8192, 8192, 12 << 10, 16 << 10][usize::try_from(random.below(5)).unwrap_or(0)];
    LogOptions {
        segment_bytes,
        recycle_bytes: match random.below(6) {
            0 => 0,
            1 => segment_bytes * 5 / 4,
            _ => 1 << 20,
        },
        preallocate: !random.chance(5),
        auto_compact: false,
        ..LogOptions::default()
    }
}

impl World {
    pub(crate) fn create(
        disk: SimDisk,
        seed: u64,
        weather: Weather,
        breakage: Option<Breakage>,
    ) -> Self {
        let mut world = Self {
            disk,
            weather,
            breakage,
            options: options(seed),
            log: None,
            committer: None,
            walks: Vec::new(),
            now: Duration::ZERO,
            next_value: 1,
            history: History::default(),
            orphaned: false,
        };
        // A death during creation leaves nothing to act on; opening again must work.
        let _ = world.open();
        world
    }

    /// Opens the log; what it finds has to agree with what the offline checker found before.
    fn open(&mut self) -> Result<(), Trouble> {
        let before = Verdict::of(&self.disk);
        let door = Breakage::door(self.breakage, &self.disk);
        let opened = Log::open_stepped(door.io(), Path::new(DIR), self.options.clone());
        door.opened();
        let (log, committer) = opened.map_err(Trouble::Open)?;
        if self.breakage == Some(Breakage::AnswersBeforeSync) {
            log.break_sync_before_ack();
        }
        let agreed = if self.disk.is_dead() { Ok(()) } else { before.agrees_with(&log) };
        self.log = Some(log);
        self.committer = Some(committer);
        agreed.map_err(Trouble::Verify)
    }

    /// Does one random thing.
    pub(crate) fn act(&mut self, random: &mut SimRandom) -> Result<(), String> {
        let Some(log) = self.log.clone() else { return Ok(()) };
        match random.below(26) {
            24.. => self.churn(&log, random),
            0..8 => self.submit(&log, random),
            8..13 => self.step(random),
            13 => {
                for _ in 0..3 {
                    self.submit(&log, random);
                }
                self.chain_annulment(random);
                self.step(random);
            }
            14 => self.annul_last(),
            15 => self.history.synced(log.sync(), true),
            16 => self.compact(CompactMode::Step),
            17 => self.compact(CompactMode::Full),
            18 => self.check_visible(&log)?,
            19 => self.begin_walk(&log),
            20 => self.go_on_walking(&log, random)?,
            21 => self.disturb(&log, random)?,
            22 if self.weather != Weather::Fair => self.disk.set_full(random.chance(2)),
            _ if random.chance(3) => self.reopen()?,
            _ => self.step(random),
        }
        Ok(())
    }

    pub(crate) fn submit(&mut self, log: &Log, random: &mut SimRandom) {
        let mut batch = Batch::new();
        let mut ops = Vec::new();
        for _ in 0..if random.chance(4) { 1 + random.below(3) } else { 1 } {
            let n = u8::try_from(random.below(u64::from(SLOTS))).unwrap();
            if random.chance(3) {
                batch.delete(slot(n));
                ops.push((n, None));
            } else {
                let value = self.next_value;
                self.next_value += 1;
                batch.put(slot(n), payload(value).into());
                ops.push((n, Some(value)));
            }
        }
        let durability = if random.chance(2) { Durability::Power } else { Durability::Process };
        if let Ok(ticket) = log.submit(batch, durability) {
            self.history.submitted(ops, durability, ticket);
        }
    }

    /// Fills segments with what the next ones replace, and reclaims them: files are written again.
    fn churn(&mut self, log: &Log, random: &mut SimRandom) {
        for _ in 0..4 + random.below(12) {
            self.submit(log, random);
            self.step(random);
            if random.chance(3) {
                self.compact(CompactMode::Step);
            }
        }
    }

    pub(crate) fn step(&mut self, random: &mut SimRandom) {
        let Some(committer) = &mut self.committer else { return };
        for _ in 0..=random.below(4) {
            self.now += Duration::from_millis(random.below(60));
            if committer.step(self.now) == Next::Closed {
                break;
            }
        }
    }

    /// Steps until nothing is left to do: everything is durable, and the mark is written.
    pub(crate) fn rest(&mut self) {
        let Some(committer) = &mut self.committer else { return };
        while !matches!(committer.step(self.now), Next::Wait(None) | Next::Closed) {
            self.now += Duration::from_secs(1);
        }
    }

    fn compact(&mut self, mode: CompactMode) {
        if let Some(committer) = &mut self.committer {
            // It may fail under faults; what counts is what is there afterwards.
            let _ = committer.compact(mode);
        }
    }

    fn annul_last(&mut self) {
        if let Some(last) = self.history.submitted.last() {
            annul(&last.ticket, &last.annulment);
            self.history.annulled = true;
        }
    }

    /// Gives up the last batch at the moment at which the one before it is answered: in flight.
    fn chain_annulment(&mut self, random: &mut SimRandom) {
        let [.., first, second] = &self.history.submitted[..] else { return };
        if random.chance(4) {
            return;
        }
        self.history.annulled = true;
        let waker = Waker::from(Arc::new(AnnulWaker {
            ticket: second.ticket.clone(),
            annulment: Arc::clone(&second.annulment),
        }));
        // The clone would forget its waker when dropped, so it lives as long as the test.
        let mut clone = Box::new(first.ticket.clone());
        let _ = Pin::new(&mut *clone).poll(&mut Context::from_waker(&waker));
        Box::leak(clone);
    }

    /// Whether what is shown now can be held against the history at all: after a failed sync the
    /// page cache may have forgotten what was already visible.
    fn is_telling(&self, log: &Log) -> bool {
        let fair = self.weather == Weather::Fair || log.unhealthy_reason().is_none();
        !self.disk.is_dead() && self.weather != Weather::Lying && fair
    }

    /// What is visible now must be what was published, in order.
    fn check_visible(&self, log: &Log) -> Result<(), String> {
        if !self.is_telling(log) {
            return Ok(());
        }
        let (seen, state) = (observe(log)?, self.history.published());
        if seen == state { Ok(()) } else { Err(format!("shows {seen:?} instead of {state:?}")) }
    }

    fn begin_walk(&mut self, log: &Log) {
        if self.walks.len() == WALKS_MAX {
            self.walks.remove(0);
        }
        self.walks.push(Walk { left: log.snapshot(1).into() });
    }

    /// Reads on in some walk: entries that were replaced show the new payload, removed ones none,
    /// whatever has become of the files meanwhile.
    fn go_on_walking(&mut self, log: &Log, random: &mut SimRandom) -> Result<(), String> {
        if self.walks.is_empty() || !self.is_telling(log) {
            return Ok(());
        }
        let published = self.history.published();
        let walk = usize::try_from(random.below(self.walks.len() as u64)).unwrap();
        for _ in 0..=random.below(3) {
            let Some(entry) = self.walks[walk].left.pop_front() else { break };
            let n = entry.slot.id[0];
            let read = log.get(entry.slot).map_err(|error| format!("walk at {n}: {error}"))?;
            let seen = read.map(|bytes| value(n, &bytes)).transpose()?;
            if seen != published.get(&n).copied() {
                let wanted = published.get(&n);
                return Err(format!("walk at {n}: shows {seen:?} instead of {wanted:?}"));
            }
        }
        Ok(())
    }

    /// What neighbours do: opening once more, reading over a bad sector, asking for memory.
    fn disturb(&mut self, log: &Log, random: &mut SimRandom) -> Result<(), String> {
        if self.disk.is_dead() {
            return Ok(());
        }
        match random.below(3) {
            0 => {
                let steps = self.disk.steps();
                let second =
                    Log::open_stepped(Arc::new(self.disk.clone()), Path::new(DIR), options(0));
                match second.err() {
                    Some(OpenError::Locked { .. }) if self.disk.steps() == steps => {}
                    other => return Err(format!("a second open: {other:?}")),
                }
            }
            1 => {
                let damaged = log.damaged(1);
                self.disk.fail_reads(1);
                let read = log.get(slot(u8::try_from(random.below(u64::from(SLOTS))).unwrap()));
                self.disk.fail_reads(0);
                if matches!(read, Err(ReadError::Corrupt { .. })) && self.is_telling(log) {
                    return Err("a read error passes for corruption".to_owned());
                }
                if self.is_telling(log) && log.damaged(1) != damaged {
                    return Err("a read error is noted as damage".to_owned());
                }
            }
            _ => drop(log.advise_low_memory()),
        }
        Ok(())
    }

    /// Shuts down cleanly and opens again.
    pub(crate) fn reopen(&mut self) -> Result<(), String> {
        let (Some(log), Some(mut committer)) = (self.log.take(), self.committer.take()) else {
            return Ok(());
        };
        self.walks.clear();
        let ticket = log.shutdown();
        while committer.step(self.now) != Next::Closed {
            self.now += Duration::from_millis(10);
        }
        drop((log, committer));
        if let Some(pending) = self.history.submitted.iter().find(|s| s.ticket.outcome().is_none())
        {
            return Err(format!("still pending after the shut-down: {:?}", pending.ops));
        }
        if matches!(ticket.outcome(), Some(Outcome::Done { .. })) {
            self.history.synced(ticket, true);
        }
        if self.disk.is_dead() {
            return Ok(());
        }
        match self.open() {
            _ if self.disk.is_dead() => Ok(()),
            Ok(()) => self.settle(Promise::Answered),
            Err(Trouble::Open(_)) if self.weather != Weather::Fair => Ok(()),
            Err(trouble) => Err(trouble.to_string()),
        }
    }

    /// Dies, comes back, perhaps dies again on the way, compares, and goes on as a working log.
    pub(crate) fn die_and_check(&mut self, death: Death, seed: u64) -> Result<(), String> {
        self.die_and_recover(death, seed, false)?;
        self.check_after()
    }

    /// Dies, comes back, perhaps dies again on the way, and compares. `orphan`: the manifest is lost
    /// at the death, and perhaps again whenever opening dies.
    pub(crate) fn die_and_recover(
        &mut self,
        death: Death,
        seed: u64,
        orphan: bool,
    ) -> Result<(), String> {
        self.walks.clear();
        let recycled = self.log.as_ref().map_or(0, |log| log.stats().recycled_segments);
        RECYCLED.fetch_add(recycled, Ordering::Relaxed);
        let gone = (self.committer.take(), self.log.take());
        let mut disk = match death {
            Death::Power => self.disk.crash(seed),
            Death::Process => self.disk.kill(seed),
        };
        drop(gone);
        let mut random = SimRandom::new(seed ^ 0xdead);
        let mut promise = match death {
            Death::Process => Promise::Answered,
            Death::Power => Promise::Synced,
        };
        for attempt in 0..4 {
            if orphan && (attempt == 0 || random.chance(2)) {
                disk.lose(&Path::new(DIR).join("MANIFEST"));
                self.orphaned = true;
            }
            if attempt < 3 && random.chance(2) {
                disk.plan(random.below(18), Fault::Crash);
            } else if attempt == 3 {
                disk = disk.crash(seed + 1);
            } else if !self.orphaned && random.chance(8) {
                self.fail_to_open(&disk, random.below(20))?;
            }
            self.disk = disk.clone();
            let opened = self.open();
            if opened.is_ok() && self.orphaned && !disk.is_dead() {
                self.accept_loss()?;
            }
            match opened {
                Ok(()) if !disk.is_dead() => {
                    self.settle(promise)?;
                    if random.chance(3) {
                        self.die_once_more(seed)?;
                    }
                    return Ok(());
                }
                Ok(()) | Err(_) if disk.is_dead() => {
                    drop((self.committer.take(), self.log.take()));
                    disk = disk.crash(seed ^ attempt);
                    // Recovery syncs what it keeps before anything else, but it may not get there.
                    promise = Promise::Synced;
                }
                Ok(()) => {}
                Err(trouble) => return Err(trouble.to_string()),
            }
        }
        Err("never opened".to_owned())
    }

    /// A read that fails while the log is opened fails the open, and is never taken for damage.
    fn fail_to_open(&mut self, disk: &SimDisk, reads: u64) -> Result<(), String> {
        disk.fail_reads_after(reads, 1);
        let opened =
            Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), self.options.clone());
        let untouched = disk.fail_reads(0);
        match opened {
            // Reading was over sooner.
            Ok(opened) if untouched > 0 => drop(opened),
            Err(OpenError::Io { .. }) => {}
            Ok((log, _)) if self.weather == Weather::Lying || log.damaged(1).is_empty() => {}
            Ok((log, _)) => return Err(format!("a read error is damage: {:?}", log.damaged(1))),
            Err(error) => return Err(format!("a read error at open: {error}")),
        }
        Ok(())
    }

    /// The loss of the manifest is told until it is acknowledged, and nothing else is.
    fn accept_loss(&mut self) -> Result<(), String> {
        let log = self.log.as_ref().ok_or("not open")?;
        let damaged = log.damaged(1);
        if damaged.iter().any(|damage| damage.what != DamageKind::Manifest) {
            return Err(format!("reports damage: {damaged:?}"));
        }
        match log.acknowledge() {
            // It may have been accepted when power failed, before that could be said.
            Ok(_) => {
                self.orphaned = false;
                Ok(())
            }
            Err(_) if self.disk.is_dead() => Ok(()),
            Err(error) => Err(format!("acknowledge: {error}")),
        }
    }

    /// What recovery serves is durable: power that fails right after it changes nothing.
    fn die_once_more(&mut self, seed: u64) -> Result<(), String> {
        drop((self.committer.take(), self.log.take()));
        self.disk = self.disk.crash(seed ^ 0x2bad);
        let again = |error: String| format!("after a crash right after the recovery: {error}");
        self.open().map_err(|trouble| again(trouble.to_string()))?;
        self.settle(Promise::Synced).map_err(again)
    }

    /// Compares what is there with what may be there, and takes it as the new base.
    fn settle(&mut self, promise: Promise) -> Result<(), String> {
        let log = self.log.as_ref().ok_or("not open")?;
        if self.weather == Weather::Lying {
            let seen = self.history.is_plausible(log)?;
            drop(log.acknowledge());
            self.history.settle(seen);
            return Ok(());
        }
        let damaged = log.damaged(1);
        if !damaged.is_empty() {
            return Err(format!("reports damage: {damaged:?}"));
        }
        let reason = log.unhealthy_reason();
        if let Some(reason) = reason.filter(|_| !self.disk.is_dead() && !self.disk.is_full()) {
            return Err(format!("is unhealthy: {reason}"));
        }
        let seen = observe(log)?;
        let entries = log.stats().entries;
        if entries != seen.len() as u64 {
            return Err(format!("{entries} entries, {} seen", seen.len()));
        }
        self.history.explain(&seen, promise, self.weather == Weather::Fair)?;
        self.history.settle(seen);
        Ok(())
    }

    /// The recovered log is a working log: it takes writes, compacts, shuts down, and verifies.
    pub(crate) fn check_after(&mut self) -> Result<(), String> {
        let log = self.log.clone().ok_or("not open")?;
        let mut random = SimRandom::new(self.next_value);
        if self.disk.is_dead() {
            return Ok(());
        }
        for _ in 0..4 {
            self.submit(&log, &mut random);
        }
        self.step(&mut random);
        self.compact(CompactMode::Full);
        drop(log);
        self.reopen()?;
        if self.disk.is_dead() || self.log.is_none() || self.weather == Weather::Lying {
            return Ok(());
        }
        drop((self.log.take(), self.committer.take()));
        verdict::is_sound(&self.disk, self.history.base.len())
    }

    /// Ends the process; the disk as it is then.
    pub(crate) fn kill(&mut self, seed: u64) -> SimDisk {
        self.walks.clear();
        let gone = (self.committer.take(), self.log.take());
        let disk = self.disk.kill(seed);
        drop(gone);
        disk
    }
}

/// Why a log is not open as it should be.
enum Trouble {
    Open(OpenError),
    Verify(String),
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Open(error) => write!(f, "does not open: {error}"),
            Self::Verify(difference) => write!(f, "verify and open differ: {difference}"),
        }
    }
}

struct AnnulWaker {
    ticket: Ticket,
    annulment: Arc<Mutex<Option<Annulment>>>,
}

impl Wake for AnnulWaker {
    fn wake(self: Arc<Self>) {
        annul(&self.ticket, &self.annulment);
    }
}

fn annul(ticket: &Ticket, told: &Mutex<Option<Annulment>>) {
    let annulment = ticket.annul();
    let mut told = told.lock().unwrap();
    // The first answer counts; later ones say that it is done.
    if told.is_none() {
        *told = Some(annulment);
    }
}

/// Everything that is shown, and the damage that is told, of a log that is opened on `disk`.
pub(crate) fn look(disk: &SimDisk, seed: u64) -> Result<(Log, Committer, State), OpenError> {
    let (log, committer) =
        Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options(seed))?;
    let mut state = State::new();
    for n in 0..SLOTS {
        if let Ok(Some(bytes)) = log.get(slot(n))
            && let Ok(value) = value(n, &bytes)
        {
            state.insert(n, value);
        }
    }
    Ok((log, committer, state))
}
