//! The backends of the embedded engine on a disk that stalls, fills up and fails.
#![cfg(feature = "log")]
#![expect(clippy::unwrap_used, reason = "a set-up that fails is a failed test")]

mod cache;
mod consensus;
mod disk;
mod lease;
mod spool;
