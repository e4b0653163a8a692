//! A state that several processes keep by the same commands in the same order: a durable command log with
//! snapshots.
//!
//! `cargo run --example command_log -- log:./data/consensus set colour blue`

use std::collections::{BTreeMap, HashSet};
use std::error::Error;

use larder::recipes::Nonced;
use larder::{CaSResult, Consensus, ConsensusError, SeqNo, SpoolId, SystemClock, VersionedData};

/// One command: what to set. Its id keeps it from being applied twice when it was appended twice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Command {
    /// Unique; chosen once, and kept when the command is sent again.
    pub id: String,
    /// The name to set.
    pub name: String,
    /// Its new value.
    pub value: String,
}

impl Command {
    /// A new command.
    pub fn set(name: impl Into<String>, value: impl Into<String>) -> Self {
        let id = SpoolId::new(&SystemClock).to_string();
        Self { id, name: name.into(), value: value.into() }
    }

    fn encode(&self) -> String {
        pack([&self.id, &self.name, &self.value])
    }

    fn decode(text: &str) -> Option<Self> {
        let [id, name, value] = unpack(text)?.try_into().ok()?;
        Some(Self { id, name, value })
    }
}

/// Texts as one, each behind its length: whatever stood between them might be in them, too.
fn pack<'a>(texts: impl IntoIterator<Item = &'a String>) -> String {
    let mut packed = String::new();
    for text in texts {
        packed.push_str(&text.len().to_string());
        packed.push(':');
        packed.push_str(text);
    }
    packed
}

fn unpack(mut packed: &str) -> Option<Vec<String>> {
    let mut texts = Vec::new();
    while !packed.is_empty() {
        let (length, rest) = packed.split_once(':')?;
        let (text, rest) = rest.split_at_checked(length.parse().ok()?)?;
        texts.push(text.to_owned());
        packed = rest;
    }
    Some(texts)
}

/// One process's copy of the state, and how far it has come.
///
/// The log is the versions of one key, one number after the other without gaps. A snapshot is the newest version
/// of another key; it is written before the log is truncated, so a copy that finds a hole in the log loads it.
#[derive(Debug)]
pub struct Replica<C> {
    store: Nonced<C>,
    log: String,
    snapshot: String,
    state: BTreeMap<String, String>,
    /// The commands that are in the state; a real one would keep the last of each client.
    seen: HashSet<String>,
    applied: Option<SeqNo>,
}

impl<C: Consensus> Replica<C> {
    /// A copy of the state `name` that knows nothing yet.
    pub fn new(store: C, name: &str) -> Self {
        Self {
            store: Nonced::new(store),
            log: format!("{name}/log"),
            snapshot: format!("{name}/snapshot"),
            state: BTreeMap::new(),
            seen: HashSet::new(),
            applied: None,
        }
    }

    /// The state as far as this copy has come.
    pub const fn state(&self) -> &BTreeMap<String, String> {
        &self.state
    }

    /// Appends a command and applies everything up to it. Returns when it is durable and in the state.
    ///
    /// # Errors
    /// The command may be in the log or not: send the same one again, it is applied once.
    pub async fn submit(&mut self, command: &Command) -> Result<(), Box<dyn Error>> {
        loop {
            self.catch_up().await?;
            if self.seen.contains(&command.id) {
                return Ok(());
            }
            let seqno = following(self.applied)?;
            let new = VersionedData { seqno, data: command.encode().into() };
            match self.store.compare_and_set(&self.log, self.applied, new).await {
                // Others were there first: apply what they did and try behind it. Or it is in, and is met next.
                Ok(CaSResult::Committed | CaSResult::ExpectationMismatch { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Applies what is new in the log.
    ///
    /// # Errors
    /// Those of the store, and what cannot be read.
    pub async fn catch_up(&mut self) -> Result<(), Box<dyn Error>> {
        const PAGE: usize = 100;
        loop {
            let next = following(self.applied)?;
            let page = self.store.scan(&self.log, next, PAGE).await?;
            let Some(first) = page.first() else { return Ok(()) };
            if first.seqno != next {
                // The beginning was truncated, so there is a snapshot of at least that far.
                self.load_snapshot(first.seqno).await?;
                continue;
            }
            for version in page {
                let text = std::str::from_utf8(&version.data)?;
                let command = Command::decode(text).ok_or("a version that is no command")?;
                if self.seen.insert(command.id) {
                    self.state.insert(command.name, command.value);
                }
                self.applied = Some(version.seqno);
            }
        }
    }

    /// Writes the state down and lets go of the log up to there, but for its head.
    ///
    /// # Errors
    /// Nothing is lost, whatever fails: the log is only cut below a snapshot that is durable.
    pub async fn take_snapshot(&mut self) -> Result<(), Box<dyn Error>> {
        self.catch_up().await?;
        let Some(applied) = self.applied else { return Ok(()) };
        let count = self.seen.len().to_string();
        let state = self.state.iter().flat_map(|(name, value)| [name, value]);
        let texts = pack([&count].into_iter().chain(&self.seen).chain(state));
        // The number of a snapshot is how far it goes: an older one never takes the place of a newer one.
        let head = self.store.head(&self.snapshot).await?.map(|head| head.seqno);
        if head >= Some(applied) {
            return Ok(());
        }
        let new = VersionedData { seqno: applied, data: texts.into() };
        let taken = self.store.compare_and_set(&self.snapshot, head, new).await?;
        if taken == CaSResult::Committed {
            self.store.truncate(&self.snapshot, applied).await?;
            self.store.truncate(&self.log, applied).await?;
        }
        Ok(())
    }

    async fn load_snapshot(&mut self, log_begins: SeqNo) -> Result<(), Box<dyn Error>> {
        let snapshot = self.store.head(&self.snapshot).await?.ok_or("the log has no beginning")?;
        if snapshot.seqno < log_begins {
            return Err(format!("the log begins at {log_begins}, behind the snapshot").into());
        }
        let texts = unpack(std::str::from_utf8(&snapshot.data)?).ok_or("no snapshot")?;
        let mut texts = texts.into_iter();
        let count = texts.next().ok_or("a snapshot without a beginning")?.parse()?;
        self.seen = texts.by_ref().take(count).collect();
        self.state.clear();
        while let (Some(name), Some(value)) = (texts.next(), texts.next()) {
            self.state.insert(name, value);
        }
        self.applied = Some(snapshot.seqno);
        Ok(())
    }
}

/// The number behind another one; zero behind none.
fn following(seqno: Option<SeqNo>) -> Result<SeqNo, ConsensusError> {
    let full = larder::Determinate::Unavailable { reason: "the log has reached its last number" };
    seqno.map_or(Some(SeqNo::MIN), SeqNo::next).ok_or_else(|| full.into())
}

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let uri = arguments.first().map_or("memory:", String::as_str);
    let mut replica = Replica::new(larder::open_consensus(uri).await?, "settings");
    match &arguments[arguments.len().min(1)..] {
        [verb, name, value] if verb == "set" => {
            replica.submit(&Command::set(name.as_str(), value.as_str())).await?;
        }
        [verb] if verb == "snapshot" => replica.take_snapshot().await?,
        [] => replica.catch_up().await?,
        _ => return Err("usage: command_log URI [set NAME VALUE | snapshot]".into()),
    }
    for (name, value) in replica.state() {
        println!("{name} = {value}");
    }
    Ok(())
}
