//! What the laws know of each contract besides its trait.

use std::fmt::Debug;
use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use larder_core::error::BoxError;
use larder_core::{SharedBus, SharedConsensus, SharedSpool, SharedTier, Spool};

use crate::Law;
use crate::laws::{BUS, CACHE, CONSENSUS, SPOOL};

type Closing = Pin<Box<dyn Future<Output = Result<(), BoxError>> + Send + 'static>>;

/// A contract with laws: implemented by the handles of `larder-core` and by nothing else.
pub trait Contract: Sealed + Clone + Debug + Send + Sync + 'static {
    /// The word for the contract in addresses and reports: `cache`, `spool`, `consensus` or `bus`.
    const NAME: &'static str;

    /// Whether the contract has a call that ends the store, after which it can be opened again at
    /// once. Otherwise dropping the last handle ends it, in its own time.
    const ENDS: bool;

    /// Every law of the contract.
    fn laws() -> &'static [Law<Self>];

    /// Ends the store.
    fn close(self) -> Closing;
}

mod sealed {
    pub trait Sealed {}
    impl Sealed for larder_core::SharedSpool {}
    impl Sealed for larder_core::SharedConsensus {}
    impl Sealed for larder_core::SharedBus {}
    impl Sealed for larder_core::SharedTier<bytes::Bytes> {}
}
use sealed::Sealed;

impl Contract for SharedSpool {
    const NAME: &'static str = "spool";
    const ENDS: bool = true;

    fn laws() -> &'static [Law<Self>] {
        SPOOL
    }

    fn close(self) -> Closing {
        Box::pin(async move { self.shutdown().await.map_err(Into::into) })
    }
}

impl Contract for SharedConsensus {
    const NAME: &'static str = "consensus";
    const ENDS: bool = false;

    fn laws() -> &'static [Law<Self>] {
        CONSENSUS
    }

    fn close(self) -> Closing {
        drop(self);
        Box::pin(async { Ok(()) })
    }
}

impl Contract for SharedTier<Bytes> {
    const NAME: &'static str = "cache";
    const ENDS: bool = false;

    fn laws() -> &'static [Law<Self>] {
        CACHE
    }

    fn close(self) -> Closing {
        drop(self);
        Box::pin(async { Ok(()) })
    }
}

impl Contract for SharedBus {
    const NAME: &'static str = "bus";
    const ENDS: bool = false;

    fn laws() -> &'static [Law<Self>] {
        BUS
    }

    fn close(self) -> Closing {
        drop(self);
        Box::pin(async { Ok(()) })
    }
}
