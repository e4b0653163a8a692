//! How a command ends: exit codes, and one clear line for what went wrong.

use std::fmt::Write as _;
use std::io::Write as _;
use std::process::ExitCode;

use larder::cache::LedgerError;
use larder::error::chain;
use larder::{
    AddressError, BusError, CacheError, ConsensusError, Determinate, Effect, Failure, KeyError,
    OpenError, Retry, SpoolError,
};

use crate::stores::shown;

/// Why a command did not succeed.
#[derive(Debug)]
pub(crate) struct Exit {
    code: Code,
    message: String,
    effect: Option<Effect>,
}

/// The exit codes; scripts depend on them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Code {
    Failed = 1,
    Usage = 2,
    NotFound = 3,
    ConditionNotMet = 4,
    Unavailable = 5,
    /// A signal came: what a shell says of a command that SIGINT has ended.
    Interrupted = 130,
    /// The reader of stdout has left: ends like a failure, but says nothing.
    Quiet = 141,
}

impl Code {
    fn word(self) -> &'static str {
        match self {
            Self::Failed | Self::Quiet => "failed",
            Self::Usage => "usage",
            Self::NotFound => "not-found",
            Self::ConditionNotMet => "condition-not-met",
            Self::Unavailable => "unavailable",
            Self::Interrupted => "interrupted",
        }
    }
}

impl Exit {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), effect: None }
    }

    pub(crate) fn failed(message: impl Into<String>) -> Self {
        Self::new(Code::Failed, message)
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(Code::Usage, message)
    }

    pub(crate) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(Code::Unavailable, message)
    }

    /// Ends without a word: what there was to say has been said.
    pub(crate) fn silent(code: Code) -> Self {
        Self::new(code, "")
    }

    /// The same end, with `place` in front of the message, without its password if it is an address
    /// that has one.
    pub(crate) fn at(self, place: &str) -> Self {
        let place = shown(place);
        if self.message.is_empty() || self.message.contains(&place) {
            return self;
        }
        self.in_front(&place)
    }

    /// The same end, with `words` in front of the message whatever it says.
    pub(crate) fn in_front(mut self, words: &str) -> Self {
        self.message = format!("{words}: {}", self.message);
        self
    }

    /// The same end, with something else to say.
    pub(crate) fn and(mut self, words: &str) -> Self {
        if !self.message.is_empty() {
            self.message.push_str("; ");
        }
        self.message.push_str(words);
        self
    }

    /// A failed read or write of a file.
    pub(crate) fn file(path: &std::path::Path, error: &std::io::Error) -> Self {
        let code = match error.kind() {
            std::io::ErrorKind::NotFound => Code::NotFound,
            _ => Code::Failed,
        };
        Self::new(code, format!("{}: {}", path.display(), plain(error)))
    }

    /// A failed write to stdout.
    pub(crate) fn stdout(error: &std::io::Error) -> Self {
        if error.kind() == std::io::ErrorKind::BrokenPipe {
            return Self::silent(Code::Quiet);
        }
        Self::failed(format!("cannot write to stdout: {}", plain(error)))
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    /// Says on stderr what went wrong and gives the code to end with.
    pub(crate) fn report(&self, json: bool) -> ExitCode {
        if !self.message.is_empty() {
            say(&self.line(json));
        }
        ExitCode::from(self.code as u8)
    }

    /// The one line for stderr.
    pub(crate) fn line(&self, json: bool) -> String {
        let message = on_one_line(&self.message);
        if !json {
            return format!("larder: {message}");
        }
        let mut object = serde_json::json!({ "error": self.code.word(), "message": message });
        if let Some(effect) = self.effect {
            object["effect"] = effect.as_str().into();
        }
        object.to_string()
    }

    fn of(code: Code, error: &(impl Failure + 'static)) -> Self {
        Self { code, message: chain(error), effect: Some(error.effect()) }
    }
}

/// Writes a line to stderr; there is nobody to tell when that fails.
pub(crate) fn say(line: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{line}");
}

impl From<OpenError> for Exit {
    fn from(error: OpenError) -> Self {
        let code = match &error {
            OpenError::Address(_) => Code::Usage,
            OpenError::Locked { .. } | OpenError::Unavailable { .. } => Code::Unavailable,
            _ => Code::Failed,
        };
        Self::of(code, &error)
    }
}

impl From<AddressError> for Exit {
    fn from(error: AddressError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<KeyError> for Exit {
    fn from(error: KeyError) -> Self {
        Self::usage(error.to_string())
    }
}

impl From<SpoolError> for Exit {
    fn from(error: SpoolError) -> Self {
        let code = match &error {
            SpoolError::NotFound { .. } => Code::NotFound,
            SpoolError::Unhealthy { .. }
            | SpoolError::Full { .. }
            | SpoolError::NoSpace { .. }
            | SpoolError::BackpressureTimeout { .. }
            | SpoolError::ShuttingDown { .. } => Code::Unavailable,
            SpoolError::Backend(error) => of_retry(error.retry()),
            _ => Code::Failed,
        };
        Self::of(code, &error)
    }
}

impl From<LedgerError> for Exit {
    fn from(error: LedgerError) -> Self {
        match error {
            LedgerError::Spool(error) => Self::from(error),
            error => Self::failed(chain(&error)),
        }
    }
}

impl From<ConsensusError> for Exit {
    fn from(error: ConsensusError) -> Self {
        let code = match &error {
            ConsensusError::InvalidArgument(_) => Code::Usage,
            ConsensusError::Determinate(Determinate::NoSuchKey) => Code::NotFound,
            ConsensusError::Determinate(Determinate::AboveHead { .. }) => Code::ConditionNotMet,
            ConsensusError::Determinate(Determinate::Unavailable { .. }) => Code::Unavailable,
            ConsensusError::Determinate(Determinate::Backend(error)) => of_retry(error.retry()),
            _ => Code::Failed,
        };
        Self::of(code, &error)
    }
}

impl From<BusError> for Exit {
    fn from(error: BusError) -> Self {
        Self::of(of_retry(error.retry()), &error)
    }
}

impl From<CacheError> for Exit {
    fn from(error: CacheError) -> Self {
        let code = match &error {
            CacheError::Backend(error) => of_retry(error.retry()),
            _ => Code::Failed,
        };
        Self::of(code, &error)
    }
}

fn of_retry(retry: Retry) -> Code {
    if retry == Retry::Later { Code::Unavailable } else { Code::Failed }
}

/// An I/O error in plain words, without the number of the operating system.
pub(crate) fn plain(error: &std::io::Error) -> String {
    let text = error.to_string();
    match text.split_once(" (os error") {
        Some((words, _)) => words.to_lowercase(),
        None => text,
    }
}

/// The text on one line: control characters are shown, not obeyed, and the system's words for an
/// error do without its number.
fn on_one_line(text: &str) -> String {
    let mut line = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        push_shown(&mut line, before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    push_shown(&mut line, rest);
    line
}

fn push_shown(line: &mut String, text: &str) {
    for c in text.chars() {
        if c.is_control() {
            let _ = write!(line, "{}", c.escape_default());
        } else {
            line.push(c);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_stays_on_one_line() {
        let exit = Exit::failed("a\nb\u{1b}[31m");
        assert_eq!(exit.line(false), "larder: a\\nb\\u{1b}[31m");
        assert_eq!(exit.line(true).lines().count(), 1);
    }

    #[test]
    fn the_numbers_of_the_system_are_left_out() {
        let exit = Exit::failed("a: denied (os error 13): b (os error 2)");
        assert_eq!(exit.line(false), "larder: a: denied: b");
    }

    #[test]
    fn the_place_comes_in_front_once() {
        let exit = Exit::failed("no such entry").at("log:./x").at("log:./x");
        assert_eq!(exit.message(), "log:./x: no such entry");
    }
}
