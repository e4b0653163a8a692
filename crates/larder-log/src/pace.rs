//! Keeping background work within a rate, so that those who write and read hardly feel it.

use std::fmt::{self, Debug};
use std::io::{self, IoSlice};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use crate::io::{Advice, File};

/// What was not used within this time is not saved up.
const BURST: Duration = Duration::from_millis(20);

/// A rate in bytes a second. Reads and writes count alike.
#[derive(Debug)]
pub(crate) struct Pace {
    /// 0: as fast as it goes.
    bytes_per_second: u64,
    /// When everything that was booked so far is paid for.
    paid_at: Mutex<Duration>,
}

impl Pace {
    pub(crate) fn new(bytes_per_second: u64) -> Self {
        Self { bytes_per_second, paid_at: Mutex::new(Duration::ZERO) }
    }

    /// Books some bytes at the moment `now`; says how long to wait before moving them.
    pub(crate) fn book(&self, bytes: u64, now: Duration) -> Duration {
        if self.bytes_per_second == 0 {
            return Duration::ZERO;
        }
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(self.bytes_per_second);
        let cost = Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX));
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        let from = (*paid_at).max(now.saturating_sub(BURST));
        *paid_at = from.saturating_add(cost);
        from.saturating_sub(now)
    }

    /// Forgets what was booked and not waited for.
    pub(crate) fn forgive(&self, now: Duration) {
        let mut paid_at = self.paid_at.lock().unwrap_or_else(PoisonError::into_inner);
        *paid_at = (*paid_at).min(now);
    }
}

/// A file of which every read asks first, and leaves the page cache as it was if told to.
pub(crate) struct Asking<'a> {
    pub(crate) file: &'a dyn File,
    /// Told how many bytes are to be read. It may wait, and refuse by an error.
    pub(crate) ask: &'a (dyn Fn(u64) -> io::Result<()> + Sync),
    /// What only these reads brought into memory goes again at once.
    pub(crate) forget: bool,
}

impl Debug for Asking<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Debug::fmt(&self.file, f)
    }
}

impl File for Asking<'_> {
    fn size(&self) -> io::Result<u64> {
        self.file.size()
    }

    fn read_at(&self, buf: &mut [u8], offset: u64) -> io::Result<usize> {
        (self.ask)(buf.len() as u64)?;
        if !self.forget {
            return self.file.read_at(buf, offset);
        }
        if self.file.read_now(buf, offset)? {
            return Ok(buf.len());
        }
        let read = self.file.read_at(buf, offset)?;
        if read > 0 {
            self.file.advise(offset, read as u64, Advice::DontNeed);
        }
        Ok(read)
    }

    fn write_at(&self, parts: &[IoSlice<'_>], offset: u64) -> io::Result<usize> {
        self.file.write_at(parts, offset)
    }

    fn sync(&self) -> io::Result<()> {
        self.file.sync()
    }

    fn allocate(&self, offset: u64, len: u64) -> io::Result<()> {
        self.file.allocate(offset, len)
    }

    fn truncate(&self, len: u64) -> io::Result<()> {
        self.file.truncate(len)
    }
}

#[cfg(test)]
mod tests;
