//! The ways to agree on versions that are compared.

mod embedded;
mod etcd;
mod larder;
mod postgres;

use bytes::Bytes;

pub(crate) use self::embedded::SyncStore;
pub(crate) use self::etcd::BareTxn;
pub(crate) use self::larder::Larder;
pub(crate) use self::postgres::{Isolation, StatementEach};
use crate::subject::Work;

/// Something that replaces the newest version of a key if it is the expected one.
pub(crate) trait Agreed: Send + Sync + 'static {
    /// Makes `from + 1` the head (`None`: 0), which has to succeed: each key has one writer.
    fn swap<'a>(&'a self, key: &'a str, from: Option<u64>, data: Bytes) -> Work<'a, ()>;

    /// Reads the head, which has to be there.
    fn head<'a>(&'a self, key: &'a str) -> Work<'a, ()>;
}

/// What follows on `from`.
pub(crate) fn next(from: Option<u64>) -> u64 {
    from.map_or(0, |from| from + 1)
}
