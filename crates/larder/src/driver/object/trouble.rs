//! What can go wrong between here and an object store, and what it means.

use std::borrow::Cow;
use std::time::Duration;

use larder_core::{BackendError, Effect, Retry};

/// The name of this technology in errors.
const BACKEND: &str = "s3";

/// What went wrong, in words that hold neither keys nor values nor secrets.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum Trouble {
    /// There was no connection to send anything on.
    #[error("cannot connect to {place}: {why}")]
    Unreachable { place: String, why: String },
    /// The server is not who it should be, or that cannot be found out.
    #[error("no TLS with {place}: {why}")]
    Distrusted { place: String, why: String },
    /// There is nothing to sign requests with.
    #[error(
        "no credentials for {place}: set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or write KEY:SECRET@ in \
         front of the bucket"
    )]
    NoLogin { place: String },
    /// The request was on its way, and no answer came within the time limit.
    #[error("no answer from {place} within {limit:?}")]
    Late { place: String, limit: Duration },
    /// The request was on its way when the connection ended.
    #[error("the connection to {place} ended before the answer: {why}")]
    Lost { place: String, why: String },
    /// The store answered that it does not, or cannot.
    #[error("s3 answers {status}{}: {words}", code.as_deref().map(|code| format!(" {code}")).unwrap_or_default())]
    Refused { status: u16, code: Option<String>, words: &'static str },
    /// Nothing may be kept there as it is.
    #[error("{place} cannot be used: {what}")]
    Unfit { place: String, what: Cow<'static, str> },
    /// An object is larger than may be read.
    #[error(
        "an object is larger than any that is written here: bytes={bytes} bytes_max={bytes_max}"
    )]
    TooLarge { bytes: u64, bytes_max: u64 },
    /// An object is not what was written.
    #[error("an object is damaged or not ours: {what}")]
    Damaged { what: &'static str },
    /// Others wrote so often before it could be found out what became of a write that the object names them alone.
    #[error("so many have written since that nobody knows who came first")]
    Overtaken,
    /// The store answered with something else than promised.
    #[error("s3 answers what makes no sense here: {what}")]
    Odd { what: &'static str },
}

/// What a status means, with a code or with any (the empty one).
struct Meaning {
    status: u16,
    code: &'static str,
    effect: Effect,
    retry: Retry,
    words: &'static str,
}

const fn never_done(status: u16, code: &'static str, retry: Retry, words: &'static str) -> Meaning {
    Meaning { status, code, effect: Effect::NotApplied, retry, words }
}

const fn who_knows(status: u16, code: &'static str, retry: Retry, words: &'static str) -> Meaning {
    Meaning { status, code, effect: Effect::Unknown, retry, words }
}

/// What becomes of a PUT that is answered in this way.
///
/// 404, 409 and 412 say that somebody was faster, and that may have been ourselves: something between here and the
/// store may have sent the request twice. 503 is no better known with SlowDown: Amazon says so before it does anything, others
/// when too few of their disks have answered. Codes come before the status alone. What is in no row is `Unknown` and
/// `Never`.
const MEANINGS: &[Meaning] = &[
    never_done(301, "", Retry::Never, "the bucket is in another region: name it with region="),
    never_done(307, "", Retry::Later, "the bucket is being moved"),
    never_done(400, "RequestTimeout", Retry::Later, "the request took too long to come"),
    never_done(400, "ExpiredToken", Retry::Later, "the credentials are too old"),
    never_done(
        400,
        "AuthorizationHeaderMalformed",
        Retry::Never,
        "another region: name it with region=",
    ),
    never_done(400, "", Retry::Never, "it does not understand the request"),
    never_done(401, "", Retry::Never, "it does not know who we are"),
    never_done(403, "RequestTimeTooSkewed", Retry::Later, "the clock of this machine is wrong"),
    never_done(403, "", Retry::Never, "it may not be done with these credentials"),
    never_done(404, "NoSuchBucket", Retry::Never, "make the bucket first"),
    who_knows(404, "", Retry::Later, "the object is not there"),
    never_done(405, "", Retry::Never, "that is not allowed there"),
    who_knows(409, "", Retry::Later, "another request on the object is under way"),
    never_done(411, "", Retry::Never, "it does not understand the request"),
    who_knows(412, "", Retry::Later, "the object is not as expected"),
    never_done(413, "", Retry::Never, "the object is too large for it: lower max_object"),
    never_done(429, "", Retry::Later, "too many requests"),
    who_knows(500, "", Retry::Later, "it failed"),
    never_done(501, "", Retry::Never, "it does not know conditional PUTs"),
    who_knows(502, "", Retry::Later, "something in front of it failed"),
    who_knows(503, "", Retry::Later, "it is not available, or gets too many requests"),
    who_knows(504, "", Retry::Later, "something in front of it got no answer"),
];

impl Trouble {
    /// What an answer with this status and text says.
    pub(super) fn refused(status: u16, text: &str) -> Self {
        let code = code(text);
        let words = meaning(status, code).map_or("see its log", |meaning| meaning.words);
        Self::Refused { status, code: code.map(str::to_owned), words }
    }

    /// Whether the request that met it was carried out, if it was one that writes.
    pub(crate) fn effect(&self) -> Effect {
        match self {
            Self::Unreachable { .. }
            | Self::Distrusted { .. }
            | Self::NoLogin { .. }
            | Self::Unfit { .. }
            | Self::TooLarge { .. }
            | Self::Damaged { .. } => Effect::NotApplied,
            Self::Refused { status, code, .. } => {
                meaning(*status, code.as_deref()).map_or(Effect::Unknown, |meaning| meaning.effect)
            }
            Self::Late { .. } | Self::Lost { .. } | Self::Overtaken | Self::Odd { .. } => {
                Effect::Unknown
            }
        }
    }

    pub(crate) fn retry(&self) -> Retry {
        match self {
            Self::Unreachable { .. }
            | Self::NoLogin { .. }
            | Self::Late { .. }
            | Self::Lost { .. }
            | Self::Overtaken => Retry::Later,
            Self::Refused { status, code, .. } => {
                meaning(*status, code.as_deref()).map_or(Retry::Never, |meaning| meaning.retry)
            }
            Self::Distrusted { .. }
            | Self::Unfit { .. }
            | Self::TooLarge { .. }
            | Self::Damaged { .. }
            | Self::Odd { .. } => Retry::Never,
        }
    }

    /// Whether there is no such object.
    pub(super) fn is_no_such_key(&self) -> bool {
        let Self::Refused { status: 404, code, .. } = self else { return false };
        code.as_deref() != Some("NoSuchBucket")
    }

    /// Whether a condition did not hold, as far as the store knows.
    pub(crate) fn is_lost_race(&self) -> bool {
        self.is_no_such_key() || matches!(self, Self::Refused { status: 409 | 412, .. })
    }

    /// The trouble of an operation that changes something.
    pub(crate) fn in_write(self, operation: &'static str) -> BackendError {
        let (effect, retry) = (self.effect(), self.retry());
        BackendError::new(BACKEND, operation, self).effect_is(effect).retry_is(retry)
    }

    /// The trouble of an operation that has changed nothing.
    pub(crate) fn in_read(self, operation: &'static str) -> BackendError {
        let retry = self.retry();
        BackendError::new(BACKEND, operation, self).effect_is(Effect::NotApplied).retry_is(retry)
    }

    /// The trouble of an operation of which a request has an unknown outcome, whatever this one says.
    pub(crate) fn in_doubt(self, operation: &'static str) -> BackendError {
        let retry = self.retry();
        BackendError::new(BACKEND, operation, self).effect_is(Effect::Unknown).retry_is(retry)
    }
}

fn meaning(status: u16, code: Option<&str>) -> Option<&'static Meaning> {
    let rows = || MEANINGS.iter().filter(|meaning| meaning.status == status);
    let exact = rows().find(|meaning| Some(meaning.code) == code);
    exact.or_else(|| rows().find(|meaning| meaning.code.is_empty()))
}

/// The code in the text of an error; nothing else of it, for the rest quotes names.
fn code(text: &str) -> Option<&str> {
    let (_, rest) = text.split_once("<Code>")?;
    let (code, _) = rest.split_once("</Code>")?;
    let is_code = (1..=64).contains(&code.len()) && code.bytes().all(|b| b.is_ascii_alphanumeric());
    is_code.then_some(code)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused(status: u16, code: &str) -> Trouble {
        let text = format!("<Error><Code>{code}</Code><Key>hush</Key></Error>");
        Trouble::refused(status, if code.is_empty() { "hush" } else { &text })
    }

    #[test]
    fn every_answer_has_an_effect_and_a_retry() {
        use Effect::{NotApplied, Unknown};
        use Retry::{Later, Never};
        let table = [
            (301, "PermanentRedirect", NotApplied, Never),
            (307, "TemporaryRedirect", NotApplied, Later),
            (400, "RequestTimeout", NotApplied, Later),
            (400, "ExpiredToken", NotApplied, Later),
            (400, "AuthorizationHeaderMalformed", NotApplied, Never),
            (400, "InvalidArgument", NotApplied, Never),
            (401, "", NotApplied, Never),
            (403, "RequestTimeTooSkewed", NotApplied, Later),
            (403, "AccessDenied", NotApplied, Never),
            (403, "SignatureDoesNotMatch", NotApplied, Never),
            (404, "NoSuchBucket", NotApplied, Never),
            (404, "NoSuchKey", Unknown, Later),
            (404, "", Unknown, Later),
            (405, "MethodNotAllowed", NotApplied, Never),
            (409, "ConditionalRequestConflict", Unknown, Later),
            (409, "OperationAborted", Unknown, Later),
            (411, "MissingContentLength", NotApplied, Never),
            (412, "PreconditionFailed", Unknown, Later),
            (413, "EntityTooLarge", NotApplied, Never),
            (429, "", NotApplied, Later),
            (500, "InternalError", Unknown, Later),
            (501, "NotImplemented", NotApplied, Never),
            (502, "", Unknown, Later),
            (503, "SlowDown", Unknown, Later),
            (503, "ServiceUnavailable", Unknown, Later),
            (503, "", Unknown, Later),
            (504, "", Unknown, Later),
            // Nobody has looked at these.
            (418, "", Unknown, Never),
            (507, "XMinioStorageFull", Unknown, Never),
            (200, "InternalError", Unknown, Never),
        ];
        for (status, code, effect, retry) in table {
            let trouble = refused(status, code);
            assert_eq!((trouble.effect(), trouble.retry()), (effect, retry), "{trouble}");
            assert!(!trouble.to_string().contains("hush"), "{trouble}");
        }
        for Meaning { status, code, .. } in MEANINGS {
            let is_tried = table.iter().any(|(tried, with, ..)| {
                meaning(*tried, Some(with))
                    .is_some_and(|found| (found.status, found.code) == (*status, *code))
            });
            assert!(is_tried, "{status} {code} is in no row");
        }
    }

    #[test]
    fn troubles_of_the_connection_tell_sent_from_not_sent() {
        let (place, why) = (String::from("s3://shelf"), String::from("refused"));
        let limit = Duration::from_secs(1);
        let table = [
            (Trouble::Unreachable { place: place.clone(), why: why.clone() }, Effect::NotApplied),
            (Trouble::NoLogin { place: place.clone() }, Effect::NotApplied),
            (Trouble::Late { place: place.clone(), limit }, Effect::Unknown),
            (Trouble::Lost { place: place.clone(), why: why.clone() }, Effect::Unknown),
            (Trouble::Overtaken, Effect::Unknown),
        ];
        for (trouble, effect) in table {
            assert_eq!((trouble.effect(), trouble.retry()), (effect, Retry::Later), "{trouble}");
        }
        let table = [
            (Trouble::Distrusted { place: place.clone(), why }, Effect::NotApplied),
            (Trouble::Unfit { place, what: "odd".into() }, Effect::NotApplied),
            (Trouble::TooLarge { bytes: 2, bytes_max: 1 }, Effect::NotApplied),
            (Trouble::Damaged { what: "checksum" }, Effect::NotApplied),
            (Trouble::Odd { what: "no ETag" }, Effect::Unknown),
        ];
        for (trouble, effect) in table {
            assert_eq!((trouble.effect(), trouble.retry()), (effect, Retry::Never), "{trouble}");
        }
    }

    #[test]
    fn only_the_code_of_a_text_is_taken() {
        assert_eq!(code("<Error><Code>SlowDown</Code>"), Some("SlowDown"));
        for odd in ["", "<Code></Code>", "<Code>a b</Code>", "<Code>x", "</Code><Code>"] {
            assert_eq!(code(odd), None, "{odd}");
        }
    }
}
