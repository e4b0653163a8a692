//! The spool of the same engine, as what there is to reach: a durable store of the same bytes.

use std::path::Path;

use ::larder::clock::random_u64;
use ::larder::spool::{LogSpool, LogSpoolOptions};
use ::larder::{Spool, SpoolId};
use bytes::Bytes;

use super::Agreed;
use crate::error::Result;
use crate::subject::Work;

/// A spool that stores, and agrees on nothing.
pub(crate) struct SyncStore(LogSpool);

impl SyncStore {
    pub(crate) fn open(folder: &Path) -> Result<Self> {
        Ok(Self(LogSpool::open(folder, LogSpoolOptions::default())?))
    }
}

impl Agreed for SyncStore {
    fn swap<'a>(&'a self, _: &'a str, _: Option<u64>, data: Bytes) -> Work<'a, ()> {
        Box::pin(async move {
            let mut id = (u128::from(random_u64()) << 64 | u128::from(random_u64())).to_be_bytes();
            id[6] = 0x70 | id[6] & 0x0f;
            id[8] = 0x80 | id[8] & 0x3f;
            Ok(self.0.store(SpoolId::from_bytes(id), data, true, None).await?)
        })
    }

    fn head<'a>(&'a self, _: &'a str) -> Work<'a, ()> {
        Box::pin(std::future::ready(Err("a spool has no heads".into())))
    }
}
