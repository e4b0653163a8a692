//! The disk's own limit: append, wait for it, repeat.

use std::fs::{File, OpenOptions};
use std::io::{self, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use larder_core::{Clock, SystemClock};

use super::Histogram;

const CHUNK: usize = 1 << 20;

/// A plain file that batches are appended to, with nothing of a store around it.
///
/// The prewritten kind begins anew at its end, so that no append ever makes the file grow: a sync
/// then has no metadata of the file system to write. That is the best case of a log.
#[derive(Debug)]
pub struct RawFile {
    file: File,
    at: u64,
    /// Where a prewritten file begins anew; `None` for a growing one.
    end: Option<u64>,
}

impl RawFile {
    /// A new file at `path` whose `bytes` are written and synced before it is used; blocks.
    ///
    /// # Errors
    /// Those of the file system, such as a file that is there already.
    pub fn prewritten(path: &Path, bytes: u64) -> io::Result<Self> {
        let file = create(path)?;
        let chunk = vec![0xa5_u8; CHUNK];
        let mut at = 0;
        while at < bytes {
            let len = usize::try_from(bytes - at).unwrap_or(CHUNK).min(CHUNK);
            file.write_all_at(chunk.get(..len).unwrap_or(&chunk), at)?;
            at += len as u64;
        }
        file.sync_all()?;
        Ok(Self { file, at: 0, end: Some(bytes) })
    }

    /// A new, empty file at `path` that grows.
    ///
    /// # Errors
    /// As [`RawFile::prewritten`].
    pub fn growing(path: &Path) -> io::Result<Self> {
        Ok(Self { file: create(path)?, at: 0, end: None })
    }

    /// Appends `buffers` with as few calls as the system allows, and waits until they are durable.
    ///
    /// # Errors
    /// Those of the file system. A batch larger than a prewritten file makes it grow.
    pub fn append(&mut self, buffers: &mut [IoSlice<'_>]) -> io::Result<()> {
        const SLICES_MAX: usize = 1024;
        let bytes: u64 = buffers.iter().map(|buffer| buffer.len() as u64).sum();
        if self.end.is_some_and(|end| self.at + bytes > end) {
            self.at = 0;
        }
        let mut left = buffers;
        IoSlice::advance_slices(&mut left, 0);
        while !left.is_empty() {
            let some = left.get(..SLICES_MAX).unwrap_or(left);
            let written = rustix::io::pwritev(&self.file, some, self.at)?;
            if written == 0 {
                return Err(io::ErrorKind::WriteZero.into());
            }
            self.at += written as u64;
            IoSlice::advance_slices(&mut left, written);
        }
        self.file.sync_data()
    }

    /// Appends `batch` again and again for as long as `limit`, once at least, each time durable;
    /// blocks.
    ///
    /// # Errors
    /// As [`RawFile::append`].
    pub fn repeat(&mut self, batch: &[u8], limit: Duration) -> io::Result<(Histogram, Duration)> {
        let mut times = Histogram::new();
        let started = SystemClock.instant();
        let mut begun = started;
        loop {
            self.append(&mut [IoSlice::new(batch)])?;
            let ended = SystemClock.instant();
            times.record(ended.saturating_duration_since(begun));
            begun = ended;
            let elapsed = begun.saturating_duration_since(started);
            if elapsed >= limit {
                return Ok((times, elapsed));
            }
        }
    }
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).write(true).create_new(true).open(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn slices<'a>(parts: &'a [&'a [u8]]) -> Vec<IoSlice<'a>> {
        parts.iter().map(|part| IoSlice::new(part)).collect()
    }

    #[test]
    fn a_prewritten_file_begins_anew_and_never_grows() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        let mut file = RawFile::prewritten(&path, 8).unwrap();
        file.append(&mut slices(&[b"ab", b"", b"cde"])).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"abcde\xa5\xa5\xa5");
        file.append(&mut slices(&[b"fghi"])).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"fghie\xa5\xa5\xa5");
        assert!(RawFile::growing(&path).is_err(), "a file that is there is not taken");
    }

    #[test]
    fn a_growing_file_takes_more_buffers_than_one_call_does() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        let mut file = RawFile::growing(&path).unwrap();
        let parts = vec![&b"xyz"[..]; 3000];
        file.append(&mut slices(&parts)).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"xyz".repeat(3000));
    }

    #[test]
    fn what_is_repeated_is_counted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("raw");
        let mut file = RawFile::growing(&path).unwrap();
        let (times, elapsed) = file.repeat(b"abcd", Duration::from_millis(3)).unwrap();
        assert!(elapsed >= Duration::from_millis(3));
        assert_eq!(std::fs::metadata(&path).unwrap().len(), 4 * times.count());
    }
}
