//! What can go wrong between here and a Redis server, and what it means.

use std::io;
use std::time::Duration;

use larder_core::{BackendError, Effect, Retry};
use redis::{RedisError, ServerError};

/// The name of this technology in errors.
const BACKEND: &str = "redis";

/// What went wrong, in words that hold neither keys nor values nor passwords.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There was no connection to send anything on.
    #[error("cannot connect to {place}: {why}")]
    Unreachable { place: String, why: String },
    /// The server is not who it should be, or that cannot be found out.
    #[cfg_attr(not(feature = "redis-tls"), expect(dead_code, reason = "nobody asks for TLS"))]
    #[error("no TLS with {place}: {why}")]
    Distrusted { place: String, why: String },
    /// There was no connection within the time limit of the call.
    #[error("no connection to {place} within {limit:?}")]
    NotConnected { place: String, limit: Duration },
    /// The command was on its way, and no answer came within the time limit.
    #[error("no answer from {place} within {limit:?}")]
    Late { place: String, limit: Duration },
    /// The command was on its way when the connection ended.
    #[error("the connection to {place} ended before the answer: {why}")]
    Lost { place: String, why: String },
    /// The server answered with an error.
    #[error("redis answers {code}: {words}")]
    Refused { code: String, words: String },
    /// The server answered with something else than promised.
    #[error("redis answers what makes no sense here: {what}")]
    Odd { what: &'static str },
}

/// What the first word of an error of the server means: effect, repeating, and what to do.
///
/// An answer with one of these says that the command was not carried out. The scripts write with
/// their last command, so that holds for them as well.
const REFUSALS: &[(&str, Retry, &str)] = &[
    ("LOADING", Retry::Later, "it is loading its data: wait"),
    ("BUSY", Retry::Later, "a script runs for too long there: wait, or end it with SCRIPT KILL"),
    ("READONLY", Retry::Later, "this is a replica: give the address of the primary"),
    ("MASTERDOWN", Retry::Later, "this is a replica that has lost its primary"),
    ("OOM", Retry::Later, "its memory is full: raise maxmemory or set a maxmemory-policy"),
    ("MISCONF", Retry::Later, "it cannot save its data and refuses writes: see its log"),
    ("NOREPLICAS", Retry::Later, "too few replicas are connected"),
    ("CLUSTERDOWN", Retry::Later, "the cluster is down"),
    ("TRYAGAIN", Retry::Later, "the cluster moves these keys"),
    ("NOSCRIPT", Retry::Later, "it forgot the script again"),
    ("UNKILLABLE", Retry::Later, "a script that writes runs for too long there"),
    ("NOAUTH", Retry::Never, "it wants a password: write redis://:PASSWORD@HOST"),
    ("WRONGPASS", Retry::Never, "user or password are wrong"),
    ("NOPERM", Retry::Never, "this user may not do that: see ACL SETUSER"),
    ("DENIED", Retry::Never, "it is in protected mode and takes no remote connections"),
    ("MOVED", Retry::Never, "this is a cluster, which is not supported: give a single server"),
    ("ASK", Retry::Never, "this is a cluster, which is not supported: give a single server"),
    ("CROSSSLOT", Retry::Never, "this is a cluster, which is not supported: give a single server"),
    ("WRONGTYPE", Retry::Never, "another program keeps something else under this key"),
    ("ERR", Retry::Never, ""),
];

impl Trouble {
    /// What the server's error says.
    pub(crate) fn refused(error: &ServerError) -> Self {
        Self::answered(error.code(), error.details())
    }

    fn answered(code: &str, details: Option<&str>) -> Self {
        let known = REFUSALS.iter().find(|(known, ..)| *known == code);
        let words = match known {
            Some((_, _, words)) if !words.is_empty() => (*words).to_owned(),
            _ => told(details.unwrap_or("no reason given")),
        };
        Self::Refused { code: code.to_owned(), words }
    }

    /// What the client says that something met: an error of the server, or the end of the way.
    pub(crate) fn met(place: &impl ToString, error: &RedisError) -> Self {
        let Some(code) = error.code() else { return Self::lost(place, error) };
        Self::answered(code, error.detail())
    }

    /// What ended a call that was on its way.
    pub(crate) fn lost(place: &impl ToString, error: &RedisError) -> Self {
        match error.kind() {
            redis::ErrorKind::Parse => Self::Odd { what: "no answer that can be read" },
            _ => Self::Lost { place: place.to_string(), why: error.category().to_owned() },
        }
    }

    pub(crate) fn unreachable(place: &impl ToString, error: &io::Error) -> Self {
        Self::Unreachable { place: place.to_string(), why: error.to_string() }
    }

    /// Whether the command that met it was carried out, if it was one that writes.
    fn effect(&self) -> Effect {
        match self {
            Self::Unreachable { .. } | Self::NotConnected { .. } | Self::Distrusted { .. } => {
                Effect::NotApplied
            }
            Self::Refused { code, .. } if meaning(code).is_some() => Effect::NotApplied,
            Self::Late { .. } | Self::Lost { .. } | Self::Refused { .. } | Self::Odd { .. } => {
                Effect::Unknown
            }
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. }
            | Self::NotConnected { .. }
            | Self::Late { .. }
            | Self::Lost { .. } => Retry::Later,
            Self::Refused { code, words } if code == "ERR" && words.starts_with(TOO_MANY) => {
                Retry::Later
            }
            Self::Refused { code, .. } => meaning(code).unwrap_or(Retry::Never),
            Self::Odd { .. } | Self::Distrusted { .. } => Retry::Never,
        }
    }

    /// Whether another connection may lead to a server that takes the command.
    pub(crate) fn leads_elsewhere(&self) -> bool {
        let Self::Refused { code, .. } = self else { return false };
        matches!(code.as_str(), "READONLY" | "MASTERDOWN" | "NOAUTH")
    }

    pub(crate) fn is(&self, wanted: &str) -> bool {
        matches!(self, Self::Refused { code, .. } if code == wanted)
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

const TOO_MANY: &str = "max number of clients";

fn meaning(code: &str) -> Option<Retry> {
    REFUSALS.iter().find(|(known, ..)| *known == code).map(|(_, retry, _)| *retry)
}

/// The server's words, without the arguments of the command that it quotes for a command it does
/// not know: keys and values.
fn told(details: &str) -> String {
    const LEN_MAX: usize = 200;
    let words = details.split(", with args").next().unwrap_or_default();
    words.chars().take(LEN_MAX).collect()
}

#[cfg(test)]
mod tests {
    use larder_core::Failure as _;
    use larder_core::error::chain;
    use redis::Value;

    use super::*;

    fn answer(line: &str) -> Trouble {
        let parsed = redis::parse_redis_value(format!("-{line}\r\n").as_bytes());
        match parsed {
            Ok(Value::ServerError(error)) => Trouble::refused(&error),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn every_error_of_the_server_has_an_effect_and_a_retry() {
        use Effect::{NotApplied, Unknown};
        use Retry::{Later, Never};
        let table = [
            ("LOADING Redis is loading the dataset in memory", NotApplied, Later),
            ("BUSY Redis is busy running a script.", NotApplied, Later),
            ("READONLY You can't write against a read only replica.", NotApplied, Later),
            ("MASTERDOWN Link with MASTER is down", NotApplied, Later),
            ("OOM command not allowed when used memory > 'maxmemory'.", NotApplied, Later),
            ("MISCONF Redis is configured to save RDB snapshots", NotApplied, Later),
            ("NOREPLICAS Not enough good replicas to write.", NotApplied, Later),
            ("CLUSTERDOWN Hash slot not served", NotApplied, Later),
            ("TRYAGAIN Multiple keys request during rehashing of slot", NotApplied, Later),
            ("NOSCRIPT No matching script.", NotApplied, Later),
            ("UNKILLABLE Sorry the script already executed write commands", NotApplied, Later),
            ("ERR max number of clients reached", NotApplied, Later),
            ("NOAUTH Authentication required.", NotApplied, Never),
            ("WRONGPASS invalid username-password pair or user is disabled.", NotApplied, Never),
            ("NOPERM this user has no permissions to run the 'set' command", NotApplied, Never),
            ("DENIED Redis is running in protected mode", NotApplied, Never),
            ("MOVED 3999 127.0.0.1:6381", NotApplied, Never),
            ("ASK 3999 127.0.0.1:6381", NotApplied, Never),
            ("CROSSSLOT Keys in request don't hash to the same slot", NotApplied, Never),
            ("WRONGTYPE Operation against a key holding the wrong kind", NotApplied, Never),
            ("ERR DB index is out of range", NotApplied, Never),
            // Nobody has looked at these.
            ("NEWFANGLED something", Unknown, Never),
            ("EXECABORT Transaction discarded", Unknown, Never),
        ];
        for (line, effect, retry) in table {
            let trouble = answer(line);
            assert_eq!((trouble.effect(), trouble.retry()), (effect, retry), "{line}");
            let error = trouble.clone().in_write("write");
            assert_eq!((error.effect(), error.retry()), (effect, retry), "{line}");
            let error = trouble.in_read("read");
            assert_eq!((error.effect(), error.retry()), (NotApplied, retry), "{line}");
        }
        for (code, ..) in REFUSALS {
            let tried = table.iter().any(|(line, ..)| line.split(' ').next() == Some(code));
            assert!(tried, "{code} is in no row");
        }
    }

    #[test]
    fn troubles_of_the_connection_tell_sent_from_not_sent() {
        let place = String::from("redis://h:1/0");
        let (limit, why) = (Duration::from_secs(1), String::from("refused"));
        let table = [
            (Trouble::Unreachable { place: place.clone(), why: why.clone() }, Effect::NotApplied),
            (Trouble::NotConnected { place: place.clone(), limit }, Effect::NotApplied),
            (Trouble::Late { place: place.clone(), limit }, Effect::Unknown),
            (Trouble::Lost { place, why }, Effect::Unknown),
        ];
        for (trouble, effect) in table {
            assert_eq!((trouble.effect(), trouble.retry()), (effect, Retry::Later), "{trouble}");
        }
        let odd = Trouble::Odd { what: "a map" };
        assert_eq!((odd.effect(), odd.retry()), (Effect::Unknown, Retry::Never));
    }

    #[test]
    fn the_arguments_that_a_server_quotes_are_not_repeated() {
        let line = "ERR unknown command 'EVALSHA', with args beginning with: 'card-4111' 'sesame' ";
        let text = chain(&answer(line).in_write("write"));
        assert!(text.contains("unknown command 'EVALSHA'"), "{text}");
        assert!(!text.contains("4111") && !text.contains("sesame"), "{text}");
    }
}
