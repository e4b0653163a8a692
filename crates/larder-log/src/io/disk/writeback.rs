//! The one call of Linux that no safe crate has: to begin writing pages back without waiting.

#![expect(unsafe_code, reason = "sync_file_range is offered by the C library alone")]

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;

/// Queues the pages of a part of the file for the device. An error of the device that comes later is
/// reported by the next sync of the same descriptor, as if this call had not been.
pub(super) fn begin(file: &File, offset: u64, len: u64) -> io::Result<()> {
    let range = i64::try_from(offset).and_then(|offset| Ok((offset, i64::try_from(len)?)));
    let (offset, len) = range.map_err(|_| io::ErrorKind::InvalidInput)?;
    // SAFETY: a plain system call on an open descriptor; it takes no memory of ours.
    let code = unsafe {
        libc::sync_file_range(file.as_raw_fd(), offset, len, libc::SYNC_FILE_RANGE_WRITE)
    };
    if code == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Whether the error says that this cannot be done here, and nothing about the bytes.
pub(super) fn is_unsupported(error: &io::Error) -> bool {
    matches!(
        error.raw_os_error(),
        Some(libc::ENOSYS | libc::EINVAL | libc::EOPNOTSUPP | libc::ESPIPE | libc::EPERM)
    )
}
