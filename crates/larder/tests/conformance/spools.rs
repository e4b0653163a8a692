//! Every spool.

use std::fs;
use std::path::Path;
use std::sync::Arc;

use larder::registry::OpenError;
use larder::{AddressError, BoxError, MemorySpool, SharedSpool};
use larder_testkit::{Harm, Need, Place, Subject, subjects};

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
    // Several segments, so that not everything is lost with one.
    let subject = Subject::new("log", || place("max_payload=4MiB&segment=1MiB", 4 << 20))
        .with_tight_place(|| place("max_bytes=1MiB&max_entries=64&max_payload=256KiB", 256 << 10))
        .offering([Need::Reopen, Need::SecondOpen, Need::PayloadLimit, Need::Gate, Need::Damage]);
    Candidate { subject, missing: missing() }
}

fn place(parameters: &str, payload_max: u64) -> Result<Place<SharedSpool>, BoxError> {
    let folder = tempfile::tempdir()?;
    let path = folder.path().to_path_buf();
    let uri = format!("log:{}?{parameters}", path.display());
    // More has to be free than there is.
    let shut = format!("{uri}&min_free_space=100%25");
    let open = |uri: String| {
        move || {
            let uri = uri.clone();
            async move { larder::open_spool(&uri).await }
        }
    };
    let place = Place::new(open(uri)).with_closed_gate(open(shut));
    Ok(place
        .with_harm(move |harm| do_harm(&path, harm))
        .with_payload_max(payload_max)
        .keeping(folder))
}

/// Loses the first segment, or flips a bit of a payload, in a folder that nobody has open.
pub(crate) fn do_harm(folder: &Path, harm: Harm<'_>) -> Result<(), BoxError> {
    let payload = match harm {
        Harm::Loss => return Ok(fs::remove_file(folder.join("seg-0000000000000001.log"))?),
        Harm::Rot(payload) => payload,
    };
    for file in fs::read_dir(folder)? {
        let path = file?.path();
        let mut bytes = fs::read(&path)?;
        let Some(at) = bytes.windows(payload.len()).position(|window| window == payload) else {
            continue;
        };
        bytes[at + payload.len() / 2] ^= 1;
        return Ok(fs::write(&path, bytes)?);
    }
    Err("no file holds the payload".into())
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
