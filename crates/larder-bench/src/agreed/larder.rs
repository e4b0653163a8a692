//! larder's stores.

use ::larder::{CaSResult, Consensus, SeqNo, SharedConsensus, VersionedData};
use bytes::Bytes;

use super::{Agreed, next};
use crate::error::Result;
use crate::subject::Work;

/// Any of them, as an address names it.
pub(crate) struct Larder(SharedConsensus);

impl Larder {
    pub(crate) async fn open(uri: &str) -> Result<Self> {
        Ok(Self(::larder::open_consensus(uri).await?))
    }
}

impl Agreed for Larder {
    fn swap<'a>(&'a self, key: &'a str, from: Option<u64>, data: Bytes) -> Work<'a, ()> {
        Box::pin(async move {
            let new = VersionedData { seqno: SeqNo(next(from)), data };
            match self.0.compare_and_set(key, from.map(SeqNo), new).await? {
                CaSResult::Committed => Ok(()),
                mismatch @ CaSResult::ExpectationMismatch { .. } => {
                    Err(format!("{mismatch:?}, and nobody else writes").into())
                }
            }
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Work<'a, ()> {
        Box::pin(async move {
            self.0.head(key).await?.map(drop).ok_or_else(|| "there is no head".into())
        })
    }
}
