//! A process that does not outlive the one that started it, however that ends.

use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

/// A running service.
///
/// A shell stands between: it waits for the end of its standard input, which comes when this handle
/// is dropped or this process dies, and then kills the service. That needs no signal handler here.
#[derive(Debug)]
pub(super) struct Service {
    shell: Child,
    input: Option<ChildStdin>,
    pid: Pid,
}

const WATCH: &str = r#""$@" >>log 2>&1 & echo $!; read -r _; kill -KILL $! 2>/dev/null; wait"#;

impl Service {
    /// Starts `command` in `folder`, where what it prints goes into the file `log`.
    pub(super) fn start(folder: &Path, command: &[String]) -> Result<Self, String> {
        let failed = |error: std::io::Error| format!("cannot start {}: {error}", command.join(" "));
        let mut shell = Command::new("sh")
            .args(["-c", WATCH, "sh"])
            .args(command)
            .current_dir(folder)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(failed)?;
        let input = shell.stdin.take();
        let mut line = String::new();
        if let Some(output) = shell.stdout.take() {
            BufReader::new(output).read_line(&mut line).map_err(failed)?;
        }
        let pid = line.trim().parse().ok().and_then(Pid::from_raw);
        let pid = pid.ok_or_else(|| format!("cannot start {}", command.join(" ")))?;
        Ok(Self { shell, input, pid })
    }

    pub(super) const fn pid(&self) -> u32 {
        self.pid.as_raw_nonzero().get().cast_unsigned()
    }

    /// Whether the process has ended by itself.
    pub(super) fn has_ended(&self) -> bool {
        has_ended(self.pid)
    }

    pub(super) fn signal(&self, signal: Signal) -> Result<(), String> {
        kill_process(self.pid, signal).map_err(|error| format!("cannot send {signal:?}: {error}"))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        drop(self.input.take());
        // The shell kills and ends; there is nobody to tell if it was killed itself.
        let _ = self.shell.wait();
    }
}

/// Whether a process has ended, even if nobody has asked for its end yet.
pub(super) fn has_ended(pid: Pid) -> bool {
    // One that ended waits for its parent: for a shell that waits for the end of its input.
    state(pid).is_none_or(|(state, _)| state == "Z")
}

/// The processes that `parent` has started and that have not ended.
pub(super) fn children(parent: u32) -> Vec<Pid> {
    let processes = std::fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = processes.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_child = |pid: &Pid| state(*pid).is_some_and(|(_, of)| of == parent.to_string());
    pids.filter_map(Pid::from_raw).filter(is_child).collect()
}

/// What a process does at the moment, as a letter, and its parent.
fn state(pid: Pid) -> Option<(String, String)> {
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pid.as_raw_nonzero())).ok()?;
    // The name, in parentheses, may hold anything.
    let (_, after) = stat.rsplit_once(')')?;
    let mut words = after.split_whitespace().map(str::to_owned);
    Some((words.next()?, words.next()?))
}
