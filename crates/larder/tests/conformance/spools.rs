//! Every spool.

use std::sync::Arc;

use larder::registry::OpenError;
use larder::{AddressError, MemorySpool, SharedSpool};
use larder_testkit::{Need, Place, Subject, subjects};

use crate::Candidate;

pub(crate) fn all() -> Vec<Candidate<SharedSpool>> {
    vec![
        subjects::memory_spool().into(),
        Subject::new("memory-uri", || Ok(Place::new(|| larder::open_spool("memory:")))).into(),
        Subject::new("arc-of-memory", || {
            let spool = SharedSpool::new(Arc::new(SharedSpool::new(MemorySpool::default())));
            Ok(Place::new(move || std::future::ready(Ok::<_, OpenError>(spool.clone()))))
        })
        .into(),
        log(),
    ]
}

/// The embedded engine in a temporary folder.
fn log() -> Candidate<SharedSpool> {
    let subject = Subject::new("log", || place("max_payload=4MiB", 4 << 20))
        .with_tight_place(|| place("max_bytes=1MiB&max_entries=64&max_payload=256KiB", 256 << 10))
        .offering([Need::Reopen, Need::SecondOpen, Need::PayloadLimit]);
    Candidate { subject, missing: missing() }
}

fn place(
    parameters: &str,
    payload_max: u64,
) -> Result<Place<SharedSpool>, larder_core::error::BoxError> {
    let folder = tempfile::tempdir()?;
    let uri = format!("log:{}?{parameters}", folder.path().display());
    let open = move || {
        let uri = uri.clone();
        async move { larder::open_spool(&uri).await }
    };
    Ok(Place::new(open).with_payload_max(payload_max).keeping(folder))
}

/// Whether this build has the embedded engine at all.
fn missing() -> Option<String> {
    let opened = crate::runtime().ok()?.block_on(larder::open_spool("log:"));
    match opened {
        Err(OpenError::Address(error @ AddressError::UnknownScheme { .. })) => {
            Some(error.to_string())
        }
        _ => None,
    }
}
