//! One file a command.

pub(crate) mod bench;
pub(crate) mod cache;
pub(crate) mod check;
pub(crate) mod config;
pub(crate) mod consensus;
pub(crate) mod copy;
pub(crate) mod offline;
pub(crate) mod put;
pub(crate) mod spool;
