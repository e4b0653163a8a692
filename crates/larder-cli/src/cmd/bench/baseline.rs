//! What the disk itself can do in the same minute: append a batch, wait for it, repeat.

use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use larder::{Clock, SystemClock};

use super::histogram::Histogram;
use crate::exit::Exit;

/// The least and the most that is written beforehand.
const FILE_MIN: u64 = 64 << 20;
const FILE_MAX: u64 = 1 << 30;
const CHUNK: usize = 1 << 20;

/// What one writer achieved with a write and an fdatasync for each batch.
#[derive(Debug)]
pub(crate) struct Baseline {
    pub(crate) payloads: u64,
    pub(crate) elapsed: Duration,
    pub(crate) batches: Histogram,
}

/// Writes batches of `batch` payloads of `size` bytes into a file in `folder`; blocks.
///
/// The file was written before, so that no write has to grow it: that is the best case.
pub(crate) fn run(
    folder: &Path,
    batch: usize,
    size: usize,
    limit: Duration,
) -> Result<Baseline, Exit> {
    let path = folder.join("baseline");
    let failed = |error: std::io::Error| Exit::file(&path, &error);
    let data = vec![0x5a_u8; batch.saturating_mul(size).max(1)];
    let bytes = u64::try_from(data.len()).unwrap_or(FILE_MAX);
    if bytes > FILE_MAX {
        return Err(Exit::usage("concurrency times size is too large for --baseline: 1 GiB"));
    }
    let file_bytes = bytes.saturating_mul(4).clamp(FILE_MIN, FILE_MAX);
    let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(failed)?;
    prewrite(&file, file_bytes).map_err(failed)?;

    let mut batches = Histogram::new();
    let (mut at, mut payloads) = (0_u64, 0_u64);
    let started = SystemClock.instant();
    loop {
        let begun = SystemClock.instant();
        if begun.saturating_duration_since(started) >= limit {
            break;
        }
        if at + bytes > file_bytes {
            at = 0;
        }
        file.write_all_at(&data, at).map_err(failed)?;
        file.sync_data().map_err(failed)?;
        batches.record(SystemClock.instant().saturating_duration_since(begun));
        at += bytes;
        payloads += u64::try_from(batch).unwrap_or(u64::MAX);
    }
    let elapsed = SystemClock.instant().saturating_duration_since(started);
    std::fs::remove_file(&path).map_err(failed)?;
    Ok(Baseline { payloads, elapsed, batches })
}

fn prewrite(file: &File, bytes: u64) -> std::io::Result<()> {
    let chunk = vec![0xa5_u8; CHUNK];
    let mut at = 0;
    while at < bytes {
        let len = usize::try_from(bytes - at).unwrap_or(CHUNK).min(CHUNK);
        file.write_all_at(chunk.get(..len).unwrap_or(&chunk), at)?;
        at += u64::try_from(len).unwrap_or(u64::MAX);
    }
    file.sync_all()
}
