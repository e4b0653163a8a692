//! Payloads from files and stdin, byte for byte and bounded.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

use bytes::Bytes;

use crate::exit::Exit;

/// The largest payload that a command takes into memory.
const BYTES_MAX: u64 = 1 << 30;

/// Reads `path`, or stdin when it is `-`.
pub(crate) async fn read(path: &Path) -> Result<Bytes, Exit> {
    if path == Path::new("-") {
        return in_background(|| bounded("stdin", std::io::stdin().lock())).await;
    }
    let path: PathBuf = path.to_owned();
    in_background(move || read_file(&path)).await
}

/// Reads a file; blocks.
pub(crate) fn read_file(path: &Path) -> Result<Bytes, Exit> {
    let failed = |error: std::io::Error| Exit::file(path, &error);
    let file = File::open(path).map_err(failed)?;
    let before = file.metadata().map_err(failed)?;
    if before.is_dir() {
        return Err(Exit::usage(format!("{} is a folder: give a file", path.display())));
    }
    let data = bounded(&path.display().to_string(), &file)?;
    let after = file.metadata().map_err(failed)?;
    if before.is_file()
        && (before.len(), before.modified().ok()) != (after.len(), after.modified().ok())
    {
        let problem = "changed while it was read: try again when nobody writes to it";
        return Err(Exit::failed(format!("{} {problem}", path.display())));
    }
    Ok(data)
}

/// Runs blocking work off the worker threads.
pub(crate) async fn in_background<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Exit> + Send + 'static,
) -> Result<T, Exit> {
    let ended = tokio::task::spawn_blocking(work).await;
    ended.unwrap_or_else(|error| Err(Exit::failed(format!("a background task ended: {error}"))))
}

fn bounded(place: &str, source: impl Read) -> Result<Bytes, Exit> {
    let mut data = Vec::new();
    let read = source.take(BYTES_MAX + 1).read_to_end(&mut data);
    read.map_err(|error| Exit::failed(format!("cannot read {place}: {error}")))?;
    if u64::try_from(data.len()).is_ok_and(|len| len > BYTES_MAX) {
        return Err(Exit::failed(format!("{place} is larger than a payload may be: 1 GiB")));
    }
    Ok(data.into())
}
