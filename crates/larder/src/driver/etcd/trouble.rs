//! What can go wrong between here and etcd, and what it means.

use std::time::Duration;

use larder_core::{BackendError, Effect, Retry};
use tonic::Code;

/// The name of this technology in errors.
const BACKEND: &str = "etcd";

/// What went wrong, in words that hold neither keys nor values nor passwords.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There was no connection to send anything on.
    #[error("cannot connect to {place}: {why}")]
    Unreachable { place: String, why: String },
    /// The server is not who it should be, or that cannot be found out.
    #[cfg_attr(
        not(any(feature = "etcd-tls", test)),
        expect(dead_code, reason = "nobody asks for TLS")
    )]
    #[error("no TLS with {place}: {why}")]
    Distrusted { place: String, why: String },
    /// There was no connection within the time limit.
    #[error("no connection to {place} within {limit:?}: it is away, or does not answer")]
    NotConnected { place: String, limit: Duration },
    /// The server is there, and nothing may be kept on it as it is.
    #[error("{place} cannot be used: {what}")]
    Unfit { place: String, what: &'static str, retry: Retry },
    /// What is there was made by another release.
    #[error("{place} was made by another release: {what}")]
    Foreign { place: String, what: String },
    /// The request was on its way, and no answer came within the time limit.
    #[error("no answer from {place} within {limit:?}")]
    Late { place: String, limit: Duration },
    /// The request was on its way when the connection ended.
    #[error("the connection to {place} ended before the answer: {why}")]
    Lost { place: String, why: String },
    /// The server answered with an error; `sent` is whether that was to a request that matters.
    #[error("etcd answers {code:?}: {words}")]
    Refused { code: Code, words: String, meaning: Meaning, sent: bool },
    /// The server answered with something else than promised.
    #[error("etcd answers what makes no sense here: {what}")]
    Odd { what: &'static str },
}

/// What an error of the server means for the request that it answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Meaning {
    effect: Effect,
    retry: Retry,
    /// What else is known.
    pub(crate) about: About,
}

/// What is known of an error beside effect and retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum About {
    /// Nothing.
    Nothing,
    /// One of many in the request may be the reason: alone, the others would pass.
    OneOfMany,
    /// The quota is used up, and the request may or may not have been the one that did it.
    NoSpace,
    /// What was to be read was compacted.
    Compacted,
    /// We are not let in any more: log in again.
    LoggedOut,
}

/// A row: a code, a part of its text, and what that means.
struct Row {
    code: Code,
    text: &'static str,
    meaning: Meaning,
    /// What to do; empty: what the server says, which for these has neither keys nor values.
    words: &'static str,
}

const fn never_done(code: Code, text: &'static str, retry: Retry, words: &'static str) -> Row {
    let meaning = Meaning { effect: Effect::NotApplied, retry, about: About::Nothing };
    Row { code, text, meaning, words }
}

const fn who_knows(code: Code, text: &'static str, retry: Retry, words: &'static str) -> Row {
    let meaning = Meaning { effect: Effect::Unknown, retry, about: About::Nothing };
    Row { code, text, meaning, words }
}

impl Row {
    const fn about(self, about: About) -> Self {
        Self { meaning: Meaning { about, ..self.meaning }, ..self }
    }
}

/// What no row says anything about.
const UNCLASSIFIED: Meaning =
    Meaning { effect: Effect::Unknown, retry: Retry::Never, about: About::Nothing };

/// What becomes of a request that writes when the server answers with an error. Rows with more text come
/// before those with less. What is in no row is `Unknown` and `Never`.
///
/// A request is judged before it is proposed to the cluster, while it waits there, and when it is applied.
/// Only of the first and last of these is the outcome known.
const MEANINGS: &[Row] = &[
    never_done(
        Code::InvalidArgument,
        "request is too large",
        Retry::Never,
        "the request is larger than the server's --max-request-bytes: lower max_payload",
    )
    .about(About::OneOfMany),
    never_done(
        Code::InvalidArgument,
        "too many operations",
        Retry::Never,
        "the server's --max-txn-ops is too low: it has to be 2 at least",
    )
    .about(About::OneOfMany),
    never_done(
        Code::InvalidArgument,
        "revision in header is old",
        Retry::Later,
        "rights have changed",
    ),
    never_done(
        Code::InvalidArgument,
        "authentication failed",
        Retry::Never,
        "user or password are wrong",
    ),
    never_done(
        Code::InvalidArgument,
        "user name is empty",
        Retry::Never,
        "it wants user and password",
    ),
    never_done(Code::InvalidArgument, "", Retry::Never, ""),
    // What goes over the quota is carried out, and answered with this all the same.
    who_knows(
        Code::ResourceExhausted,
        "database space exceeded",
        Retry::Later,
        "its quota is used up: compact, defragment, then `etcdctl alarm disarm`",
    )
    .about(About::NoSpace),
    never_done(Code::ResourceExhausted, "too many requests", Retry::Later, ""),
    never_done(
        Code::ResourceExhausted,
        "larger than max",
        Retry::Never,
        "the request is larger than the server's --max-request-bytes: lower max_payload",
    )
    .about(About::OneOfMany),
    never_done(
        Code::PermissionDenied,
        "",
        Retry::Never,
        "this user may not do that: see etcdctl role",
    )
    .about(About::OneOfMany),
    never_done(Code::Unauthenticated, "", Retry::Later, "its token has expired: it logs in again")
        .about(About::LoggedOut),
    never_done(Code::FailedPrecondition, "authentication is not enabled", Retry::Never, ""),
    never_done(Code::Unimplemented, "", Retry::Never, "it has no such method: is it etcd?"),
    never_done(Code::OutOfRange, "compacted", Retry::Later, "").about(About::Compacted),
    never_done(Code::DataLoss, "corrupt cluster", Retry::Never, "its data are corrupt"),
    never_done(Code::Unavailable, "not capable", Retry::Later, ""),
    who_knows(Code::Unavailable, "", Retry::Later, ""),
    who_knows(Code::DeadlineExceeded, "", Retry::Later, "the server gave up in time"),
    who_knows(Code::Cancelled, "", Retry::Later, "the server gave up"),
    who_knows(
        Code::Unknown,
        "context deadline exceeded",
        Retry::Later,
        "the server gave up in time",
    ),
    who_knows(Code::Unknown, "raft: stopped", Retry::Later, "it is being shut down"),
    who_knows(Code::Unknown, "server stopped", Retry::Later, "it is being shut down"),
];

impl Trouble {
    /// What an error of the server says.
    pub(super) fn refused(code: Code, text: &str) -> Self {
        let fits = |row: &&Row| row.code == code && text.contains(row.text);
        let row = MEANINGS.iter().find(fits);
        let words = match row {
            Some(row) if row.words.is_empty() => told(text),
            Some(row) => row.words.to_owned(),
            // Nobody has looked at what it may quote.
            None => "see its log".to_owned(),
        };
        let meaning = row.map_or(UNCLASSIFIED, |row| row.meaning);
        Self::Refused { code, words, meaning, sent: true }
    }

    pub(super) fn unreachable(place: &impl ToString, error: &impl ToString) -> Self {
        Self::Unreachable { place: place.to_string(), why: error.to_string() }
    }

    /// The same for a request that prepares others.
    pub(super) fn before_sending(self) -> Self {
        match self {
            Self::Refused { code, words, meaning, .. } => {
                Self::Refused { code, words, meaning, sent: false }
            }
            Self::Lost { place, why } => Self::Unreachable { place, why },
            other => other,
        }
    }

    /// Whether the request that met it was carried out, if it was one that writes.
    pub(crate) fn effect(&self) -> Effect {
        match self {
            Self::Unreachable { .. }
            | Self::Distrusted { .. }
            | Self::NotConnected { .. }
            | Self::Unfit { .. }
            | Self::Foreign { .. }
            | Self::Refused { sent: false, .. } => Effect::NotApplied,
            Self::Refused { meaning, sent: true, .. } => meaning.effect,
            Self::Late { .. } | Self::Lost { .. } | Self::Odd { .. } => Effect::Unknown,
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. }
            | Self::NotConnected { .. }
            | Self::Late { .. }
            | Self::Lost { .. } => Retry::Later,
            Self::Unfit { retry, .. } => *retry,
            Self::Refused { meaning, .. } => meaning.retry,
            Self::Odd { .. } | Self::Foreign { .. } | Self::Distrusted { .. } => Retry::Never,
        }
    }

    /// What is known beside effect and retry.
    pub(crate) fn about(&self) -> About {
        if let Self::Refused { meaning, .. } = self { meaning.about } else { About::Nothing }
    }

    /// The same, of which it is known by now that nothing was carried out.
    pub(crate) fn without_effect(self) -> Self {
        match self {
            Self::Refused { code, words, meaning, sent } => {
                let meaning = Meaning { effect: Effect::NotApplied, ..meaning };
                Self::Refused { code, words, meaning, sent }
            }
            other => other,
        }
    }

    /// Whether another connection, to another member, may do better.
    pub(super) fn leads_elsewhere(&self) -> bool {
        match self {
            Self::Late { .. } | Self::Lost { .. } | Self::Unreachable { .. } => true,
            Self::Refused { code, .. } => {
                self.about() == About::LoggedOut
                    || matches!(code, Code::Unavailable | Code::DeadlineExceeded)
            }
            _ => false,
        }
    }

    /// The trouble of an operation that changes something.
    pub(crate) fn in_write(self, operation: &'static str) -> BackendError {
        let (effect, retry) = (self.effect(), self.retry());
        BackendError::new(BACKEND, operation, self).effect_is(effect).retry_is(retry)
    }

    /// The trouble of an operation that changes nothing.
    pub(crate) fn in_read(self, operation: &'static str) -> BackendError {
        let retry = self.retry();
        BackendError::new(BACKEND, operation, self).effect_is(Effect::NotApplied).retry_is(retry)
    }
}

/// The server's words, if they are not too many.
fn told(message: &str) -> String {
    const LEN_MAX: usize = 200;
    message.chars().take(LEN_MAX).collect()
}

#[cfg(test)]
mod tests;
