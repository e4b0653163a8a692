//! The embedded engine: opening it, and what its errors mean.

use std::path::Path;

mod boot;
mod reads;

pub(crate) use boot::boot_id;
pub(crate) use reads::{Read, Reads};

use larder_core::{BackendError, BoxError, Effect, Retry};
use larder_log::{Log, LogOptions};

use crate::registry::OpenError;

/// The records of a spool.
pub(crate) const SPOOL: u16 = 1;
/// The records of a consensus store.
pub(crate) const CONSENSUS: u16 = 2;
/// The entries of a cache.
pub(crate) const CACHE: u16 = 3;
/// What a cache has to know about itself.
pub(crate) const CACHE_TITLE: u16 = 4;

/// The name of this technology in errors.
pub(crate) const BACKEND: &str = "log";

/// Opens the log in `path` for a contract whose records are in the namespaces `own`, and refuses a
/// folder with others in it; blocks while it reads the folder.
pub(crate) fn open(path: &Path, options: LogOptions, own: &[u16]) -> Result<Log, OpenError> {
    let log = Log::open(path, options).map_err(|error| open_error(path, error))?;
    match log.namespaces().into_iter().find(|found| !own.contains(found)) {
        None => Ok(log),
        Some(strange) => {
            let holds = match strange {
                SPOOL => "a spool",
                CONSENSUS => "a consensus store",
                CACHE | CACHE_TITLE => "a cache",
                _ => "something else",
            };
            Err(OpenError::OtherContract { place: path.display().to_string(), holds })
        }
    }
}

fn open_error(path: &Path, error: larder_log::OpenError) -> OpenError {
    let place = path.display().to_string();
    match error {
        larder_log::OpenError::Locked { pid, .. } => OpenError::Locked { place, pid },
        larder_log::OpenError::Newer { .. } => OpenError::Newer { place, what: error.to_string() },
        larder_log::OpenError::Damaged { what, .. } => {
            OpenError::Damaged { place, what: what.to_owned() }
        }
        other => {
            let retry = match other {
                larder_log::OpenError::NoSpace { .. }
                | larder_log::OpenError::OutOfResources { .. } => Retry::Later,
                _ => Retry::Never,
            };
            let source = BackendError::new(BACKEND, "open", other);
            OpenError::Unavailable {
                place,
                source: source.effect_is(Effect::NotApplied).retry_is(retry),
            }
        }
    }
}

/// A failed write, with the effect that the engine vouches for.
pub(crate) fn write_error(operation: &'static str, error: &larder_log::WriteError) -> BackendError {
    let retry = match error {
        larder_log::WriteError::OutOfResources { .. } => Retry::Later,
        _ => Retry::Never,
    };
    BackendError::new(BACKEND, operation, text(error)).effect_is(effect(error)).retry_is(retry)
}

/// A write that was taken back under somebody who still waited for it.
pub(crate) fn annulled(operation: &'static str) -> BackendError {
    BackendError::new(BACKEND, operation, "the write was annulled")
}

/// What a failed write means for its batch.
pub(crate) fn effect(error: &larder_log::WriteError) -> Effect {
    match error.effect() {
        larder_log::Effect::NotApplied => Effect::NotApplied,
        larder_log::Effect::Unknown => Effect::Unknown,
    }
}

/// A failed read or maintenance call; neither changes what is stored.
pub(crate) fn harmless(operation: &'static str, error: impl Into<BoxError>) -> BackendError {
    BackendError::new(BACKEND, operation, error).effect_is(Effect::NotApplied)
}

/// A call after which nobody knows what is stored.
pub(crate) fn unsure(operation: &'static str, error: impl Into<BoxError>) -> BackendError {
    BackendError::new(BACKEND, operation, error)
}

/// Several callers share one failure, so each gets its text.
fn text(error: &larder_log::WriteError) -> String {
    larder_core::error::chain(error)
}
