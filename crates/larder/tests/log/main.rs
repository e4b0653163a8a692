//! The backends of the embedded engine on a disk that stalls, fills up and fails.
#![cfg(feature = "log")]

mod consensus;
mod disk;
mod spool;
