//! A log on a simulated disk, next to a model of what it was told and what it answered.

use std::collections::BTreeMap;
use std::future::Future;
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::task::{Context, Wake, Waker};
use std::time::Duration;

use larder_log::sim::{Fault, SimDisk, SimRandom};
use larder_log::{
    Annulment, Batch, Committer, CompactMode, Durability, Effect, Log, LogOptions, Next, Outcome,
    ReadError, Slot, Ticket,
};

const DIR: &str = "/log";
const SLOTS: u8 = 6;

/// What is wrong with the world.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Nothing but the crash.
    Sound,
    /// The disk fails now and then.
    Faulty,
    /// The committer is broken on purpose.
    AnswersTooEarly,
}

impl Kind {
    pub(crate) fn plan(self, disk: &SimDisk, seed: u64) {
        if self != Self::Faulty {
            return;
        }
        let mut random = SimRandom::new(seed ^ 0xfa17);
        for _ in 0..=random.below(4) {
            let fault = match random.below(5) {
                0 => Fault::SyncError { lost: random.chance(2) },
                1 | 2 => Fault::NoSpace,
                3 => Fault::ShortWrite,
                _ => Fault::Error,
            };
            disk.plan(8 + random.below(150), fault);
        }
    }
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Death {
    Power,
    Process,
}

/// Values by number; what a slot holds.
type State = BTreeMap<u8, u64>;

struct Submitted {
    ops: Vec<(u8, Option<u64>)>,
    power: bool,
    ticket: Ticket,
    annulment: Arc<Mutex<Option<Annulment>>>,
}

/// A sync that was asked for: how many batches came before, and which of them were given up.
struct Syncing {
    ticket: Ticket,
    before: usize,
    given_up: Vec<usize>,
}

pub(crate) struct World {
    disk: SimDisk,
    kind: Kind,
    log: Option<Log>,
    committer: Option<Committer>,
    now: Duration,
    next_value: u64,
    /// What was there when the log was last opened, all of it durable.
    base: State,
    submitted: Vec<Submitted>,
    syncs: Vec<Syncing>,
}

fn options() -> LogOptions {
    LogOptions { segment_bytes: 8192, auto_compact: false, ..LogOptions::default() }
}

fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

/// The payload of a value: its number, then noise; the number also decides the length.
fn payload(value: u64) -> Vec<u8> {
    let mut random = SimRandom::new(value);
    let len = match random.below(8) {
        0 => 8,
        1 => 3000,
        2 => 6000,
        _ => 8 + random.below(700),
    };
    let mut bytes = value.to_le_bytes().to_vec();
    while (bytes.len() as u64) < len {
        bytes.extend_from_slice(&random.next().to_le_bytes());
    }
    bytes.truncate(usize::try_from(len).unwrap());
    bytes
}

impl World {
    pub(crate) fn create(disk: SimDisk, kind: Kind) -> Self {
        let mut world = Self {
            disk,
            kind,
            log: None,
            committer: None,
            now: Duration::ZERO,
            next_value: 1,
            base: State::new(),
            submitted: Vec::new(),
            syncs: Vec::new(),
        };
        // A death during creation leaves nothing to act on; opening again must work.
        let _ = world.open();
        world
    }

    fn open(&mut self) -> Result<(), String> {
        let io = Arc::new(self.disk.clone());
        let (log, committer) = Log::open_stepped(io, Path::new(DIR), options())
            .map_err(|error| format!("{error:?}"))?;
        if self.kind == Kind::AnswersTooEarly {
            log.break_sync_before_ack();
        }
        self.log = Some(log);
        self.committer = Some(committer);
        Ok(())
    }

    /// Does one random thing.
    pub(crate) fn act(&mut self, random: &mut SimRandom) -> Result<(), String> {
        let Some(log) = self.log.clone() else { return Ok(()) };
        match random.below(20) {
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
            15 => {
                let ticket = log.sync();
                let before = self.submitted.len();
                let given_up = self.given_up();
                self.syncs.push(Syncing { ticket, before, given_up });
            }
            16 => self.compact(CompactMode::Step),
            17 => self.compact(CompactMode::Full),
            18 => self.check_visible(&log)?,
            _ if random.chance(3) => self.reopen()?,
            _ => self.step(random),
        }
        Ok(())
    }

    fn submit(&mut self, log: &Log, random: &mut SimRandom) {
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
        let power = random.chance(2);
        let durability = if power { Durability::Power } else { Durability::Process };
        if let Ok(ticket) = log.submit(batch, durability) {
            let annulment = Arc::default();
            self.submitted.push(Submitted { ops, power, ticket, annulment });
        }
    }

    fn step(&mut self, random: &mut SimRandom) {
        let Some(committer) = &mut self.committer else { return };
        for _ in 0..=random.below(4) {
            self.now += Duration::from_millis(random.below(60));
            if committer.step(self.now) == Next::Closed {
                break;
            }
        }
    }

    fn compact(&mut self, mode: CompactMode) {
        if let Some(committer) = &mut self.committer {
            // It may fail under faults; what counts is what is there afterwards.
            let _ = committer.compact(mode);
        }
    }

    fn annul_last(&mut self) {
        if let Some(last) = self.submitted.last() {
            annul(&last.ticket, &last.annulment);
        }
    }

    /// Gives up the last batch at the moment at which the one before it is answered: in flight.
    fn chain_annulment(&mut self, random: &mut SimRandom) {
        let [.., first, second] = &self.submitted[..] else { return };
        if random.chance(4) {
            return;
        }
        let waker = Waker::from(Arc::new(AnnulWaker {
            ticket: second.ticket.clone(),
            annulment: Arc::clone(&second.annulment),
        }));
        // The clone would forget its waker when dropped, so it lives as long as the test.
        let mut clone = Box::new(first.ticket.clone());
        let _ = Pin::new(&mut *clone).poll(&mut Context::from_waker(&waker));
        Box::leak(clone);
    }

    fn given_up(&self) -> Vec<usize> {
        let pending = |s: &Submitted| *s.annulment.lock().unwrap() == Some(Annulment::Pending);
        (0..self.submitted.len()).filter(|i| pending(&self.submitted[*i])).collect()
    }

    /// What is visible now must be what was published, in order.
    fn check_visible(&mut self, log: &Log) -> Result<(), String> {
        // After a failed sync the page cache may have forgotten what was already visible.
        if self.disk.is_dead() || log.unhealthy_reason().is_some() {
            return Ok(());
        }
        let mut state = self.base.clone();
        for submitted in &self.submitted {
            if let Some(Outcome::Done { .. }) = submitted.ticket.outcome() {
                apply(&mut state, &submitted.ops);
            }
        }
        let seen = observe(log)?;
        if seen == state { Ok(()) } else { Err(format!("shows {seen:?} instead of {state:?}")) }
    }

    /// Shuts down cleanly and opens again.
    fn reopen(&mut self) -> Result<(), String> {
        let (Some(log), Some(mut committer)) = (self.log.take(), self.committer.take()) else {
            return Ok(());
        };
        let ticket = log.shutdown();
        while committer.step(self.now) != Next::Closed {
            self.now += Duration::from_millis(10);
        }
        drop((log, committer));
        let closed = matches!(ticket.outcome(), Some(Outcome::Done { .. }));
        if let Some(pending) = self.submitted.iter().find(|s| s.ticket.outcome().is_none()) {
            return Err(format!("still pending after the shut-down: {:?}", pending.ops));
        }
        if closed {
            let given_up = self.given_up();
            let before = self.submitted.len();
            self.syncs.push(Syncing { ticket, before, given_up });
        }
        if self.disk.is_dead() {
            return Ok(());
        }
        match self.open() {
            _ if self.disk.is_dead() => Ok(()),
            Ok(()) => self.settle(Death::Process),
            Err(_) if self.disk.is_dead() || self.kind == Kind::Faulty => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Dies, comes back, perhaps dies again on the way, and compares.
    pub(crate) fn die_and_check(&mut self, death: Death, seed: u64) -> Result<(), String> {
        let log = self.log.take();
        let committer = self.committer.take();
        let mut disk = match death {
            Death::Power => self.disk.crash(seed),
            Death::Process => self.disk.kill(seed),
        };
        drop((committer, log));
        let mut random = SimRandom::new(seed ^ 0xdead);
        let mut death = death;
        for attempt in 0..4 {
            if attempt < 3 && random.chance(2) {
                disk.plan(random.below(14), Fault::Crash);
            } else if attempt == 3 {
                disk = disk.crash(seed + 1);
            }
            self.disk = disk.clone();
            match self.open() {
                Ok(()) if !disk.is_dead() => {
                    self.settle(death)?;
                    return self.check_after();
                }
                _ if disk.is_dead() => {
                    drop((self.log.take(), self.committer.take()));
                    disk = disk.crash(seed ^ attempt);
                    // Recovery syncs what it keeps before anything else, but it may not get there.
                    death = Death::Power;
                }
                Ok(()) => {}
                Err(error) => return Err(format!("does not open: {error}")),
            }
        }
        Err("never opened".to_owned())
    }

    /// Compares what is there with what may be there, and takes it as the new base.
    fn settle(&mut self, death: Death) -> Result<(), String> {
        let log = self.log.as_ref().ok_or("not open")?;
        let damaged = log.damaged(1);
        if !damaged.is_empty() {
            if std::env::var_os("LARDER_CRASH_SEED").is_some() {
                print_files(&self.disk);
            }
            return Err(format!("reports damage: {damaged:?}"));
        }
        if let Some(reason) = log.unhealthy_reason().filter(|_| !self.disk.is_dead()) {
            return Err(format!("is unhealthy: {reason}"));
        }
        let seen = observe(log)?;
        let entries = log.stats().entries;
        if entries != seen.len() as u64 {
            return Err(format!("{entries} entries, {} seen", seen.len()));
        }
        self.explain(&seen, death)?;
        self.base = seen;
        self.submitted.clear();
        self.syncs.clear();
        Ok(())
    }

    /// Whether some prefix of what was submitted, not shorter than what was promised, gives `seen`.
    fn explain(&self, seen: &State, death: Death) -> Result<(), String> {
        let mut promised = 0;
        let mut never: Vec<usize> = Vec::new();
        let mut perhaps: Vec<usize> = Vec::new();
        for (i, submitted) in self.submitted.iter().enumerate() {
            let annulment = *submitted.annulment.lock().unwrap();
            match submitted.ticket.outcome() {
                Some(Outcome::Done { .. }) => {
                    let faulty = self.kind == Kind::Faulty;
                    if submitted.power || (death == Death::Process && !faulty) {
                        promised = i + 1;
                    }
                }
                Some(Outcome::Annulled) if annulment == Some(Annulment::Pending) => perhaps.push(i),
                Some(Outcome::Annulled) => never.push(i),
                Some(Outcome::Failed(error)) if error.effect() == Effect::NotApplied => {
                    never.push(i);
                }
                Some(Outcome::Failed(_)) | None => {}
            }
        }
        for sync in &self.syncs {
            if matches!(sync.ticket.outcome(), Some(Outcome::Done { .. })) {
                promised = promised.max(sync.before);
                never.extend(&sync.given_up);
            }
        }
        perhaps.retain(|i| !never.contains(i));
        let choices = 1u32 << perhaps.len().min(10);
        for choice in 0..choices {
            let skip = |i: usize| {
                let chosen = perhaps.iter().position(|p| *p == i);
                never.contains(&i) || chosen.is_some_and(|bit| choice >> bit & 1 == 0)
            };
            let mut state = self.base.clone();
            if promised == 0 && state == *seen {
                return Ok(());
            }
            for (i, submitted) in self.submitted.iter().enumerate() {
                if !skip(i) {
                    apply(&mut state, &submitted.ops);
                }
                if i + 1 >= promised && state == *seen {
                    return Ok(());
                }
            }
        }
        let history: Vec<String> = self
            .submitted
            .iter()
            .map(|s| {
                format!(
                    "{:?} power={} {:?} {:?}",
                    s.ops,
                    s.power,
                    s.ticket.outcome(),
                    s.annulment.lock().unwrap()
                )
            })
            .collect();
        if std::env::var_os("LARDER_CRASH_SEED").is_some() {
            print_files(&self.disk);
        }
        Err(format!(
            "shows {seen:?}; base {:?}, promised {promised}, never {never:?}, perhaps {perhaps:?}\n{}",
            self.base,
            history.join("\n")
        ))
    }

    /// The recovered log is a working log: it takes writes, compacts, shuts down, and verifies.
    fn check_after(&mut self) -> Result<(), String> {
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
        if self.disk.is_dead() || self.log.is_none() {
            return Ok(());
        }
        drop((self.log.take(), self.committer.take()));
        let report = larder_log::verify_with(&self.disk, Path::new(DIR))
            .map_err(|error| format!("verify: {error}"))?;
        if !report.is_sound() || report.entries != self.base.len() as u64 {
            return Err(format!("verify: {report:?} for {:?}", self.base));
        }
        Ok(())
    }
}

/// For a replay: what lies on the disk.
#[expect(clippy::print_stderr, reason = "it is there to be read")]
fn print_files(disk: &SimDisk) {
    for file in disk.files(Path::new(DIR)) {
        eprintln!("{} {}", file.display(), disk.read(&file).map_or(0, |bytes| bytes.len()));
    }
    let disk = disk.kill(0);
    if let Err(error) = larder_log::dump_with(&disk, Path::new(DIR), |item| eprintln!("{item}")) {
        eprintln!("{error:?}");
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

fn apply(state: &mut State, ops: &[(u8, Option<u64>)]) {
    for (slot, value) in ops {
        match value {
            Some(value) => state.insert(*slot, *value),
            None => state.remove(slot),
        };
    }
}

/// Reads every slot and checks every byte.
fn observe(log: &Log) -> Result<State, String> {
    let mut state = State::new();
    for n in 0..SLOTS {
        let Some(bytes) = log.get(slot(n)).map_err(|error| format!("slot {n}: {error}"))? else {
            continue;
        };
        let number = bytes.get(..8).ok_or("a payload that was never put")?;
        let value = u64::from_le_bytes(number.try_into().unwrap());
        if bytes != payload(value) {
            return Err(format!("slot {n} holds garbage"));
        }
        state.insert(n, value);
    }
    Ok(state)
}

/// Flips one byte of one durable entry, in a file that is at rest. Returns whether there was one.
pub(crate) fn rot(seed: u64) -> Result<bool, String> {
    let mut random = SimRandom::new(seed ^ 0x0707);
    let disk = SimDisk::new(seed);
    let mut world = World::create(disk, Kind::Sound);
    for _ in 0..10 + random.below(20) {
        world.act(&mut random)?;
    }
    // Everything durable, and the mark written; with or without a shut-down.
    world.now += Duration::from_secs(1);
    let committer = world.committer.as_mut().ok_or("not open")?;
    while committer.step(world.now) != Next::Wait(None) {
        world.now += Duration::from_secs(1);
    }
    let want = observe(world.log.as_ref().ok_or("not open")?)?;
    if random.chance(2) {
        world.reopen()?;
    }
    let log = world.log.take();
    let disk = world.disk.kill(seed);
    drop((world.committer.take(), log));
    // Short payloads may also lie elsewhere by chance.
    let is_long = |value: u64| payload(value).len() >= 16;
    let victims: Vec<(u8, u64)> =
        want.iter().map(|(slot, value)| (*slot, *value)).filter(|(_, v)| is_long(*v)).collect();
    if victims.is_empty() {
        return Ok(false);
    }
    let (victim, value) = victims[usize::try_from(random.below(victims.len() as u64)).unwrap()];
    let bytes = payload(value);
    let at = usize::try_from(random.below(bytes.len() as u64)).unwrap();
    for file in disk.files(Path::new(DIR)) {
        disk.tamper(&file, |content| {
            let found = content.windows(bytes.len()).position(|window| window == bytes);
            if let Some(found) = found {
                content[found + at] ^= 1 << random.below(8);
            }
        });
    }
    let (log, committer) = Log::open_stepped(Arc::new(disk), Path::new(DIR), options())
        .map_err(|error| format!("does not open: {error}"))?;
    for (n, value) in &want {
        match log.get(slot(*n)) {
            Err(ReadError::Corrupt { slot: s }) if *n == victim && s == slot(victim) => {}
            Ok(Some(got)) if *n != victim && got == payload(*value) => {}
            other => return Err(format!("slot {n}, victim {victim}: {other:?}")),
        }
    }
    let damaged = log.damaged(1);
    if damaged.len() != 1 || damaged[0].slot != Some(slot(victim)) {
        return Err(format!("victim {victim}: {damaged:?}"));
    }
    let entries = log.snapshot(1);
    if entries.len() != want.len() {
        return Err(format!("{} entries listed instead of {}", entries.len(), want.len()));
    }
    drop((log, committer));
    Ok(true)
}
