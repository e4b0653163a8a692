//! Errors as JSON, each with a code, a text and what became of the request.

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use larder::error::chain;
use larder::{
    CacheError, ConsensusError, Determinate, Effect, Failure, KeyError, Retry, SeqNo, SpoolError,
    SpoolIdError,
};
use serde_json::{Value, json};

/// An answer that is an error.
#[derive(Debug)]
pub(crate) struct ApiError {
    status: StatusCode,
    code: &'static str,
    message: String,
    effect: Effect,
    current: Current,
}

/// What an error tells about the current version of a key.
#[derive(Clone, Copy, Debug)]
enum Current {
    /// Nothing: it is not about a condition.
    Untold,
    /// The key has no data.
    Empty,
    At(SeqNo),
}

/// When to try again after a 503, in seconds.
const RETRY_AFTER: HeaderValue = HeaderValue::from_static("1");

impl ApiError {
    /// An error before anything happened.
    pub(crate) fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        let message = message.into();
        Self { status, code, message, effect: Effect::NotApplied, current: Current::Untold }
    }

    /// An error after which nobody knows what happened.
    pub(crate) fn unknown(status: StatusCode, code: &'static str, message: &str) -> Self {
        Self { effect: Effect::Unknown, ..Self::new(status, code, message) }
    }

    /// The request makes no sense.
    pub(crate) fn bad(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(crate) fn no_entry() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "the cache has no entry with this key")
    }

    pub(crate) fn no_data() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not-found", "the key has no data")
    }

    pub(crate) fn too_large(limit: u64) -> Self {
        let message = format!("the body is larger than this daemon takes: bytes_max={limit}");
        Self::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", message)
    }

    pub(crate) fn shedding(message: &str) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "shedding", message)
    }

    /// A compare-and-set whose condition did not hold.
    pub(crate) fn condition_not_met(current: Option<SeqNo>) -> Self {
        let message = match current {
            Some(current) => format!("the condition does not hold: the seqno is {current}"),
            None => "the condition does not hold: the key has no data".to_owned(),
        };
        let error = Self::new(StatusCode::PRECONDITION_FAILED, "condition-not-met", message);
        Self { current: current.map_or(Current::Empty, Current::At), ..error }
    }

    fn of(status: StatusCode, code: &'static str, error: &(impl Failure + 'static)) -> Self {
        Self { effect: error.effect(), ..Self::new(status, code, chain(error)) }
    }

    /// A failure of the technology behind a store.
    fn of_backend(error: &(impl Failure + 'static)) -> Self {
        match error.retry() {
            Retry::Later => Self::of(StatusCode::SERVICE_UNAVAILABLE, "unavailable", error),
            _ => Self::of(StatusCode::INTERNAL_SERVER_ERROR, "failed", error),
        }
    }
}

/// A version as an entity tag: its seqno in quotes.
pub(crate) fn etag(seqno: SeqNo) -> Option<HeaderValue> {
    HeaderValue::try_from(format!("\"{seqno}\"")).ok()
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let mut body = json!({
            "error": self.code, "message": self.message, "effect": self.effect.as_str(),
        });
        match self.current {
            Current::Untold => {}
            Current::Empty => body["current"] = Value::Null,
            Current::At(seqno) => body["current"] = seqno.0.into(),
        }
        let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut response = (self.status, [json], format!("{body}\n")).into_response();
        let headers = response.headers_mut();
        if self.status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, RETRY_AFTER);
        }
        if let Current::At(seqno) = self.current
            && let Some(tag) = etag(seqno)
        {
            headers.insert(header::ETAG, tag);
        }
        response
    }
}

impl From<KeyError> for ApiError {
    fn from(error: KeyError) -> Self {
        Self::bad("bad-key", error.to_string())
    }
}

impl From<SpoolIdError> for ApiError {
    fn from(error: SpoolIdError) -> Self {
        Self::bad("bad-id", error.to_string())
    }
}

impl From<SpoolError> for ApiError {
    fn from(error: SpoolError) -> Self {
        let (status, code) = match &error {
            SpoolError::NotFound { .. } => (StatusCode::NOT_FOUND, "not-found"),
            SpoolError::Corrupt { .. } => (StatusCode::INTERNAL_SERVER_ERROR, "corrupt"),
            SpoolError::CallerDeadlineExceeded { .. } => (StatusCode::GATEWAY_TIMEOUT, "deadline"),
            SpoolError::TooLarge { .. } => (StatusCode::PAYLOAD_TOO_LARGE, "too-large"),
            SpoolError::NoSpace { .. } => (StatusCode::INSUFFICIENT_STORAGE, "no-space"),
            SpoolError::Unhealthy { .. } => (StatusCode::SERVICE_UNAVAILABLE, "unhealthy"),
            SpoolError::Full { .. } => (StatusCode::SERVICE_UNAVAILABLE, "full"),
            SpoolError::BackpressureTimeout { .. } => {
                (StatusCode::SERVICE_UNAVAILABLE, "backpressure")
            }
            SpoolError::ShuttingDown { .. } => (StatusCode::SERVICE_UNAVAILABLE, "shutting-down"),
            _ => return Self::of_backend(&error),
        };
        Self::of(status, code, &error)
    }
}

impl From<ConsensusError> for ApiError {
    fn from(error: ConsensusError) -> Self {
        let (status, code) = match &error {
            ConsensusError::InvalidArgument(_) => (StatusCode::BAD_REQUEST, "invalid-argument"),
            ConsensusError::Indeterminate(_) => {
                (StatusCode::INTERNAL_SERVER_ERROR, "indeterminate")
            }
            ConsensusError::Determinate(Determinate::AboveHead { .. }) => {
                (StatusCode::CONFLICT, "above-head")
            }
            ConsensusError::Determinate(Determinate::NoSuchKey) => {
                (StatusCode::NOT_FOUND, "not-found")
            }
            ConsensusError::Determinate(Determinate::TooLarge { .. }) => {
                (StatusCode::PAYLOAD_TOO_LARGE, "too-large")
            }
            ConsensusError::Determinate(Determinate::Unavailable { .. }) => {
                (StatusCode::SERVICE_UNAVAILABLE, "unavailable")
            }
            _ => return Self::of_backend(&error),
        };
        Self::of(status, code, &error)
    }
}

impl From<CacheError> for ApiError {
    fn from(error: CacheError) -> Self {
        match &error {
            CacheError::TooLarge { .. } => {
                Self::of(StatusCode::PAYLOAD_TOO_LARGE, "too-large", &error)
            }
            _ => Self::of_backend(&error),
        }
    }
}
