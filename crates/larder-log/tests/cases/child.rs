//! A process of its own that has a log open: to be killed, stopped and starved.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::atomic::{AtomicU64, Ordering};

use larder_log::{Batch, Durability, Log, LogOptions, Outcome, Slot};
use rustix::process::{Pid, Signal, kill_process};

const ROLE: &str = "LARDER_TEST_ROLE";
const FOLDER: &str = "LARDER_TEST_FOLDER";

/// A child; killed when it is dropped.
pub(crate) struct Process {
    child: Child,
    lines: BufReader<ChildStderr>,
}

impl Process {
    /// Starts this very program in a role; it tells what it does on its standard error.
    pub(crate) fn start(role: &str, folder: &Path) -> Self {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["child::in_a_role", "--exact", "--ignored", "--nocapture"])
            .envs([(ROLE, role.as_ref()), (FOLDER, folder.as_os_str())])
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap());
        Self { child, lines }
    }

    pub(crate) fn id(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it tells.
    pub(crate) fn line(&mut self) -> String {
        let mut line = String::new();
        self.lines.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let id = i32::try_from(self.child.id()).unwrap();
        kill_process(Pid::from_raw(id).unwrap(), signal).unwrap();
    }

    /// Kills it, as nothing can be refused; returns what it had told and nobody had heard.
    pub(crate) fn kill(mut self) -> String {
        self.signal(Signal::KILL);
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        self.child.wait().unwrap();
        rest
    }

    /// Lets it end by itself; returns whether it did well, and the rest of what it told.
    pub(crate) fn end(mut self) -> (bool, String) {
        drop(self.child.stdin.take());
        let mut rest = String::new();
        self.lines.read_to_string(&mut rest).unwrap();
        (self.child.wait().unwrap().success(), rest)
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

pub(crate) fn slot(n: u64) -> Slot {
    let mut id = [0; 16];
    id[8..].copy_from_slice(&n.to_be_bytes());
    Slot { namespace: 1, id }
}

pub(crate) fn payload(n: u64) -> Vec<u8> {
    let len = usize::try_from(n % 7).unwrap() * 700 + 9;
    n.to_le_bytes().into_iter().cycle().take(len).collect()
}

/// Small segments: there is much to roll and to reclaim.
pub(crate) fn options() -> LogOptions {
    LogOptions { segment_bytes: 64 << 10, ..LogOptions::default() }
}

#[test]
#[ignore = "the other side of the cases that need a process: they start it"]
fn in_a_role() {
    let (role, folder) = (std::env::var(ROLE).unwrap(), std::env::var_os(FOLDER).unwrap());
    let log = Log::open(Path::new(&folder), options()).unwrap();
    match role.as_str() {
        "write" => write_for_ever(&log),
        "hold" => {
            tell("open", 0);
            let _ = std::io::stdin().read(&mut [0]);
        }
        "starve" => crate::case_16_no_descriptors::starve(&log),
        role => panic!("{role}"),
    }
}

#[expect(clippy::print_stderr, reason = "the parent listens")]
pub(crate) fn tell(what: &str, n: u64) {
    eprintln!("{what} {n}");
}

/// Stores, and removes every third entry again, in four threads. Tells before and after each.
fn write_for_ever(log: &Log) {
    // Numbers go on from those that an earlier life has used.
    let used = log.snapshot(1).iter().map(|entry| number(entry.slot)).max();
    let next = AtomicU64::new(used.map_or(0, |used| used + 1000));
    std::thread::scope(|scope| {
        for thread in 0..4 {
            let next = &next;
            scope.spawn(move || {
                loop {
                    let n = next.fetch_add(1, Ordering::Relaxed);
                    let durability =
                        if thread % 2 == 0 { Durability::Power } else { Durability::Process };
                    let mut batch = Batch::new();
                    batch.put(slot(n), payload(n).into());
                    tell("put", n);
                    submit(log, batch, durability);
                    tell("stored", n);
                    if n.is_multiple_of(3) {
                        let mut batch = Batch::new();
                        batch.delete(slot(n));
                        tell("delete", n);
                        submit(log, batch, durability);
                        tell("deleted", n);
                    }
                }
            });
        }
    });
}

pub(crate) fn submit(log: &Log, batch: Batch, durability: Durability) {
    let outcome = log.submit(batch, durability).unwrap().wait(None);
    assert!(matches!(outcome, Some(Outcome::Done { .. })), "{outcome:?}");
}

pub(crate) fn number(slot: Slot) -> u64 {
    u64::from_be_bytes(*slot.id.last_chunk().unwrap())
}
