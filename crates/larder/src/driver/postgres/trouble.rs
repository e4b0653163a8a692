//! What can go wrong between here and a PostgreSQL server, and what it means.

use std::time::Duration;

use larder_core::{BackendError, Effect, Retry};
use tokio_postgres::error::DbError;

/// The name of this technology in errors.
const BACKEND: &str = "postgres";

/// What went wrong, in words that hold neither keys nor values nor passwords.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There was no connection to send anything on.
    #[error("cannot connect to {place}: {why}")]
    Unreachable { place: String, why: String },
    /// The server is not who it should be, or that cannot be found out.
    #[cfg_attr(
        not(any(feature = "postgres-tls", test)),
        expect(dead_code, reason = "nobody asks for TLS")
    )]
    #[error("no TLS with {place}: {why}")]
    Distrusted { place: String, why: String },
    /// There was no connection within the time limit of the call.
    #[error("no connection to {place} within {limit:?}: it is away, or all connections are in use")]
    NotConnected { place: String, limit: Duration },
    /// The server is there, and nothing may be kept on it as it is.
    #[error("{place} cannot be used: {what}")]
    Unfit { place: String, what: &'static str, retry: Retry },
    /// What is there was made by another release.
    #[error("{place} was made by another release: {what}")]
    Foreign { place: String, what: String },
    /// The statement was on its way, and no answer came within the time limit.
    #[error("no answer from {place} within {limit:?}")]
    Late { place: String, limit: Duration },
    /// The statement was on its way when the connection ended.
    #[error("the connection to {place} ended before the answer: {why}")]
    Lost { place: String, why: String },
    /// The server answered with an error; `sent` is whether that was to the statement itself.
    #[error("postgres answers {code}: {words}")]
    Refused { code: String, words: String, sent: bool },
    /// The server carried it out, and may not have done so as it should.
    #[error("{place} committed it, but {why}")]
    Doubtful { place: String, why: &'static str },
    /// The server answered with something else than promised.
    #[error("postgres answers what makes no sense here: {what}")]
    Odd { what: &'static str },
}

/// What an error of the server means.
struct Meaning {
    /// A whole code, or the two characters of a class.
    code: &'static str,
    effect: Effect,
    retry: Retry,
    /// What to do; empty: what the server says, which for these has neither keys nor values.
    words: &'static str,
}

const fn never_done(code: &'static str, retry: Retry, words: &'static str) -> Meaning {
    Meaning { code, effect: Effect::NotApplied, retry, words }
}

const fn who_knows(code: &'static str, retry: Retry, words: &'static str) -> Meaning {
    Meaning { code, effect: Effect::Unknown, retry, words }
}

/// What becomes of one statement that commits by itself, when the server answers with an error: it is
/// rolled back, but for what is met while or after it commits.
///
/// Single codes come before their class. What is in no row is `Unknown` and `Never`.
const MEANINGS: &[Meaning] = &[
    never_done("40001", Retry::Later, "it cannot be put in order with others: repeat it"),
    never_done("40P01", Retry::Later, "it stood in a circle of locks: repeat it"),
    // What a cluster that speaks this protocol says when it lost track of a commit.
    who_knows("40003", Retry::Later, "it does not know whether it committed"),
    never_done("55P03", Retry::Later, "somebody else holds a lock for too long"),
    never_done("55006", Retry::Later, ""),
    never_done("55", Retry::Never, ""),
    never_done("57014", Retry::Later, "the statement took too long and was cancelled"),
    // Sent as well to one that has committed and waits for a standby.
    who_knows("57P01", Retry::Later, "it is being shut down, or the connection was terminated"),
    who_knows("57P02", Retry::Later, "it is restarting after a crash"),
    never_done("57P03", Retry::Later, "it is starting up or shutting down: wait"),
    never_done("57P05", Retry::Later, "the connection was idle for too long"),
    never_done("25006", Retry::Later, "this is a standby: give the address of the primary"),
    never_done("25", Retry::Never, ""),
    never_done("53300", Retry::Later, "too many connections: raise max_connections"),
    never_done("53100", Retry::Later, "its disk is full"),
    never_done("53", Retry::Later, ""),
    never_done("54", Retry::Never, ""),
    never_done("28", Retry::Never, "user or password are wrong, or pg_hba.conf has no line for us"),
    never_done("3D", Retry::Never, ""),
    never_done("3F", Retry::Never, ""),
    never_done("42501", Retry::Never, "this user may not do that: see GRANT"),
    never_done("42", Retry::Never, ""),
    never_done("0A", Retry::Never, ""),
    // The server's words for these quote what they are about.
    never_done("21", Retry::Never, "it holds something twice"),
    never_done("22", Retry::Never, "it holds a value that the server does not take"),
    never_done("23", Retry::Never, "it breaks a constraint of the table"),
    who_knows("08", Retry::Later, "the connection is broken"),
    who_knows("58", Retry::Later, "its operating system failed it: see its log"),
];

impl Trouble {
    /// What the server's error says; `sent` is whether it answers the statement itself.
    pub(super) fn refused(error: &DbError, sent: bool) -> Self {
        let code = error.code().code();
        let words = match meaning(code) {
            Some(meaning) if meaning.words.is_empty() => told(error.message()),
            Some(meaning) => meaning.words.to_owned(),
            None => "see its log".to_owned(),
        };
        Self::Refused { code: code.to_owned(), words, sent }
    }

    /// What ended an exchange that was to run a statement; `sent` is whether that was handed over.
    pub(super) fn of(place: &impl ToString, error: &tokio_postgres::Error, sent: bool) -> Self {
        match error.as_db_error() {
            Some(error) => Self::refused(error, sent),
            None if sent => Self::Lost { place: place.to_string(), why: error.to_string() },
            None => Self::unreachable(place, error),
        }
    }

    pub(super) fn unreachable(place: &impl ToString, error: &impl ToString) -> Self {
        Self::Unreachable { place: place.to_string(), why: error.to_string() }
    }

    /// Whether the statement that met it was carried out, if it was one that writes.
    pub(crate) fn effect(&self) -> Effect {
        match self {
            Self::Unreachable { .. }
            | Self::Distrusted { .. }
            | Self::NotConnected { .. }
            | Self::Unfit { .. }
            | Self::Foreign { .. }
            | Self::Refused { sent: false, .. } => Effect::NotApplied,
            Self::Refused { code, sent: true, .. } => {
                meaning(code).map_or(Effect::Unknown, |meaning| meaning.effect)
            }
            Self::Late { .. } | Self::Lost { .. } | Self::Doubtful { .. } | Self::Odd { .. } => {
                Effect::Unknown
            }
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. }
            | Self::NotConnected { .. }
            | Self::Late { .. }
            | Self::Lost { .. }
            | Self::Doubtful { .. } => Retry::Later,
            Self::Unfit { retry, .. } => *retry,
            Self::Refused { code, .. } => {
                meaning(code).map_or(Retry::Never, |meaning| meaning.retry)
            }
            Self::Odd { .. } | Self::Foreign { .. } | Self::Distrusted { .. } => Retry::Never,
        }
    }

    /// Whether another connection may lead to a server that takes the statement.
    pub(super) fn leads_elsewhere(&self) -> bool {
        let Self::Refused { code, .. } = self else { return false };
        matches!(code.as_str(), "25006" | "57P01" | "57P02" | "57P03" | "57P05")
            || code.starts_with("08")
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

fn meaning(code: &str) -> Option<&'static Meaning> {
    MEANINGS.iter().find(|meaning| code.starts_with(meaning.code))
}

/// The server's words, if they are not too many.
fn told(message: &str) -> String {
    const LEN_MAX: usize = 200;
    message.chars().take(LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(code: &str, sent: bool) -> Trouble {
        Trouble::Refused { code: code.to_owned(), words: String::new(), sent }
    }

    #[test]
    fn every_error_of_the_server_has_an_effect_and_a_retry() {
        use Effect::{NotApplied, Unknown};
        use Retry::{Later, Never};
        let table = [
            ("40001", NotApplied, Later),
            ("40P01", NotApplied, Later),
            ("40003", Unknown, Later),
            ("55P03", NotApplied, Later),
            ("55006", NotApplied, Later),
            ("55000", NotApplied, Never),
            ("57014", NotApplied, Later),
            ("57P01", Unknown, Later),
            ("57P02", Unknown, Later),
            ("57P03", NotApplied, Later),
            ("57P05", NotApplied, Later),
            ("25006", NotApplied, Later),
            ("25P02", NotApplied, Never),
            ("53300", NotApplied, Later),
            ("53100", NotApplied, Later),
            ("53200", NotApplied, Later),
            ("54000", NotApplied, Never),
            ("28000", NotApplied, Never),
            ("28P01", NotApplied, Never),
            ("3D000", NotApplied, Never),
            ("3F000", NotApplied, Never),
            ("42501", NotApplied, Never),
            ("42P01", NotApplied, Never),
            ("42601", NotApplied, Never),
            ("0A000", NotApplied, Never),
            ("21000", NotApplied, Never),
            ("22021", NotApplied, Never),
            ("23505", NotApplied, Never),
            ("08006", Unknown, Later),
            ("08007", Unknown, Later),
            ("58030", Unknown, Later),
            // Nobody has looked at these.
            ("40002", Unknown, Never),
            ("57P04", Unknown, Never),
            ("XX000", Unknown, Never),
            ("P0001", Unknown, Never),
        ];
        for (code, effect, retry) in table {
            let trouble = refused(code, true);
            assert_eq!((trouble.effect(), trouble.retry()), (effect, retry), "{code}");
            // Before the statement itself was sent, nothing can have come of it.
            let early = refused(code, false);
            assert_eq!((early.effect(), early.retry()), (NotApplied, retry), "{code}");
        }
        for Meaning { code, .. } in MEANINGS {
            let own = |tried: &str| meaning(tried).is_some_and(|found| found.code == *code);
            assert!(table.iter().any(|(tried, ..)| own(tried)), "{code} is in no row");
        }
    }

    #[test]
    fn troubles_of_the_connection_tell_sent_from_not_sent() {
        let place = String::from("postgres://h:1/db");
        let (limit, why) = (Duration::from_secs(1), String::from("refused"));
        let table = [
            (Trouble::Unreachable { place: place.clone(), why: why.clone() }, Effect::NotApplied),
            (Trouble::NotConnected { place: place.clone(), limit }, Effect::NotApplied),
            (Trouble::Late { place: place.clone(), limit }, Effect::Unknown),
            (Trouble::Lost { place: place.clone(), why: why.clone() }, Effect::Unknown),
            (Trouble::Doubtful { place: place.clone(), why: "it warned" }, Effect::Unknown),
        ];
        for (trouble, effect) in table {
            assert_eq!((trouble.effect(), trouble.retry()), (effect, Retry::Later), "{trouble}");
        }
        let odd = Trouble::Odd { what: "a row too many" };
        assert_eq!((odd.effect(), odd.retry()), (Effect::Unknown, Retry::Never));
        let foreign = Trouble::Foreign { place: place.clone(), what: why.clone() };
        let distrusted = Trouble::Distrusted { place, why };
        for trouble in [foreign, distrusted] {
            let known = (trouble.effect(), trouble.retry());
            assert_eq!(known, (Effect::NotApplied, Retry::Never), "{trouble}");
        }
    }
}
