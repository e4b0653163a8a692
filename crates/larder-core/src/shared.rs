//! Handles for a backend that is chosen at run time.
//!
//! `async fn` in a trait cannot be called through `dyn`. Each handle holds a private twin of its
//! contract whose futures are boxed, and implements the contract itself, so code that is generic
//! over the contract takes a handle as it takes any backend. The price is one allocation a call,
//! except for [`Tier::read_now`].

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::bus::{Bus, BusError, Subscription, Topic};
use crate::{
    CaSResult, CacheError, CacheValue, Condition, Conditions, Consensus, ConsensusError,
    DeleteStatus, Durability, EnumerateHandle, Found, Key, KeyRef, KeyStream, ListingSender, Now,
    RepairListener, SeqNo, Source, Spool, SpoolError, SpoolId, SpoolSender, SpoolStats, Tier,
    TierStats, TierUsage, Timestamp, VersionedData, WriteStatus,
};

type BoxFuture<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// Writes, for one contract: the boxed twin, the handle, and the contract for both the handle and
/// `Arc` (which stays unboxed).
///
/// `boxed` methods are async, `plain` ones are not. An `asked` method is async as well, but the
/// handle first tries the plain method after `after`, which answers hits without a box.
macro_rules! handle {
    (
        $(#[$doc:meta])* $handle:ident $(<$v:ident>)?, $twin:ident, $contract:ident,
        $( asked { fn $aname:ident/$aboxed:ident after $now:ident(&'a self, $akey:ident: $aty:ty) -> $aout:ty; } )?
        boxed { $( fn $name:ident/$boxed:ident(&'a self $(, $arg:ident: $ty:ty)*) -> $out:ty; )* }
        plain { $( fn $pname:ident/$pdyn:ident(&self $(, $parg:ident: $pty:ty)*) -> $pout:ty; )* }
    ) => {
        #[allow(clippy::elidable_lifetime_names, reason = "arguments may borrow for it as well")]
        trait $twin $(<$v>)?: fmt::Debug + Send + Sync {
            $( fn $aboxed<'a>(&'a self, $akey: $aty) -> BoxFuture<'a, $aout>; )?
            $( fn $boxed<'a>(&'a self $(, $arg: $ty)*) -> BoxFuture<'a, $out>; )*
            $( fn $pdyn(&self $(, $parg: $pty)*) -> $pout; )*
        }

        #[allow(clippy::elidable_lifetime_names, reason = "arguments may borrow for it as well")]
        impl<$($v: Clone + Send + Sync + 'static,)? S: $contract $(<$v>)?> $twin $(<$v>)? for S {
            $( fn $aboxed<'a>(&'a self, $akey: $aty) -> BoxFuture<'a, $aout> {
                Box::pin($contract::$aname(self, $akey))
            } )?
            $( fn $boxed<'a>(&'a self $(, $arg: $ty)*) -> BoxFuture<'a, $out> {
                Box::pin($contract::$name(self $(, $arg)*))
            } )*
            $( fn $pdyn(&self $(, $parg: $pty)*) -> $pout {
                $contract::$pname(self $(, $parg)*)
            } )*
        }

        $(#[$doc])*
        pub struct $handle $(<$v>)? (Arc<dyn $twin $(<$v>)?>);

        impl $(<$v: Clone + Send + Sync + 'static>)? $handle $(<$v>)? {
            /// A handle to `store`.
            pub fn new(store: impl $contract $(<$v>)?) -> Self {
                Self(Arc::new(store))
            }
        }

        impl $(<$v>)? Clone for $handle $(<$v>)? {
            fn clone(&self) -> Self {
                Self(Arc::clone(&self.0))
            }
        }

        impl $(<$v>)? fmt::Debug for $handle $(<$v>)? {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Debug::fmt(&self.0, f)
            }
        }

        #[deny(clippy::missing_trait_methods)]
        #[allow(clippy::elidable_lifetime_names, reason = "arguments may borrow for it as well")]
        impl $(<$v: Clone + Send + Sync + 'static>)? $contract $(<$v>)? for $handle $(<$v>)? {
            $( fn $aname<'a>(&'a self, $akey: $aty) -> impl Future<Output = $aout> + Send + 'a {
                async move {
                    match self.$now($akey) {
                        Now::Hit(found) => Ok(Some(found)),
                        Now::Miss => Ok(None),
                        Now::Ask => self.0.$aboxed($akey).await,
                    }
                }
            } )?
            $( fn $name<'a>(&'a self $(, $arg: $ty)*) -> impl Future<Output = $out> + Send + 'a {
                self.0.$boxed($($arg),*)
            } )*
            $( fn $pname(&self $(, $parg: $pty)*) -> $pout {
                self.0.$pdyn($($parg),*)
            } )*
        }

        #[deny(clippy::missing_trait_methods)]
        #[allow(clippy::elidable_lifetime_names, reason = "arguments may borrow for it as well")]
        impl<$($v: Clone + Send + Sync + 'static,)? S: $contract $(<$v>)?> $contract $(<$v>)?
            for Arc<S>
        {
            $( fn $aname<'a>(&'a self, $akey: $aty) -> impl Future<Output = $aout> + Send + 'a {
                S::$aname(self, $akey)
            } )?
            $( fn $name<'a>(&'a self $(, $arg: $ty)*) -> impl Future<Output = $out> + Send + 'a {
                S::$name(self $(, $arg)*)
            } )*
            $( fn $pname(&self $(, $parg: $pty)*) -> $pout {
                S::$pname(self $(, $parg)*)
            } )*
        }
    };
}

handle! {
    /// Any cache tier.
    SharedTier<V>, DynTier, Tier,
    asked { fn read/read_boxed after read_now(&'a self, key: KeyRef<'a>) -> Result<Option<Found<V>>, CacheError>; }
    boxed {
        fn write/write_boxed(&'a self, key: KeyRef<'a>, value: CacheValue<V>, condition: Condition) -> Result<WriteStatus, CacheError>;
        fn remove/remove_boxed(&'a self, key: KeyRef<'a>, condition: Condition) -> Result<DeleteStatus, CacheError>;
        fn read_many/read_many_boxed(&'a self, keys: &'a [KeyRef<'a>]) -> Result<Vec<Option<Found<V>>>, CacheError>;
        fn write_many/write_many_boxed(&'a self, entries: Vec<(Key, CacheValue<V>)>, condition: Condition) -> Result<Vec<WriteStatus>, CacheError>;
        fn remove_many/remove_many_boxed(&'a self, keys: &'a [KeyRef<'a>], condition: Condition) -> Result<Vec<DeleteStatus>, CacheError>;
        fn clear/clear_boxed(&'a self) -> Result<(), CacheError>;
        fn forget/forget_boxed(&'a self, key: KeyRef<'a>, condition: Condition) -> Result<(), CacheError>;
        fn forget_all/forget_all_boxed(&'a self) -> Result<(), CacheError>;
    }
    plain {
        fn read_now/read_now_dyn(&self, key: KeyRef<'_>) -> Now<V>;
        fn label/label_dyn(&self) -> &str;
        fn describe/describe_dyn(&self, source: Source) -> String;
        fn conditions/conditions_dyn(&self) -> Conditions;
        fn durability/durability_dyn(&self) -> Durability;
        fn usage/usage_dyn(&self) -> Option<TierUsage>;
        fn tier_stats/tier_stats_dyn(&self) -> Vec<TierStats>;
        fn on_repair/on_repair_dyn(&self, listener: &RepairListener) -> ();
    }
}

handle! {
    /// Any spool.
    SharedSpool, DynSpool, Spool,
    boxed {
        fn load/load_boxed(&'a self, id: SpoolId) -> Result<Bytes, SpoolError>;
        fn load_many/load_many_boxed(&'a self, ids: &'a [SpoolId]) -> Vec<Result<Bytes, SpoolError>>;
        fn store/store_boxed(&'a self, id: SpoolId, data: Bytes, force_sync: bool, deadline: Option<Instant>) -> Result<(), SpoolError>;
        fn store_many/store_many_boxed(&'a self, entries: Vec<(SpoolId, Bytes)>, force_sync: bool, deadline: Option<Instant>) -> Result<(), SpoolError>;
        fn remove/remove_boxed(&'a self, id: SpoolId) -> Result<(), SpoolError>;
        fn remove_durable/remove_durable_boxed(&'a self, id: SpoolId) -> Result<(), SpoolError>;
        fn remove_many/remove_many_boxed(&'a self, ids: Vec<SpoolId>, durable: bool) -> Result<(), SpoolError>;
        fn cleanup/cleanup_boxed(&'a self) -> Result<(), SpoolError>;
        fn shutdown/shutdown_boxed(&'a self) -> Result<(), SpoolError>;
        fn advise_low_memory/advise_low_memory_boxed(&'a self) -> Result<isize, SpoolError>;
        fn compact/compact_boxed(&'a self) -> Result<(), SpoolError>;
        fn acknowledge/acknowledge_boxed(&'a self) -> Result<Vec<String>, SpoolError>;
        fn stats/stats_boxed(&'a self) -> Result<SpoolStats, SpoolError>;
    }
    plain {
        fn enumerate/enumerate_dyn(&self, sender: SpoolSender, start_time: Timestamp) -> Result<EnumerateHandle, SpoolError>;
        fn list/list_dyn(&self, sender: ListingSender, start_time: Timestamp) -> Result<EnumerateHandle, SpoolError>;
        fn unhealthy_reason/unhealthy_reason_dyn(&self) -> Option<&'static str>;
        fn durability/durability_dyn(&self) -> Durability;
    }
}

handle! {
    /// Any consensus store.
    SharedConsensus, DynConsensus, Consensus,
    boxed {
        fn head/head_boxed(&'a self, key: &'a str) -> Result<Option<VersionedData>, ConsensusError>;
        fn compare_and_set/compare_and_set_boxed(&'a self, key: &'a str, expected: Option<SeqNo>, new: VersionedData) -> Result<CaSResult, ConsensusError>;
        fn scan/scan_boxed(&'a self, key: &'a str, from: SeqNo, limit: usize) -> Result<Vec<VersionedData>, ConsensusError>;
        fn truncate/truncate_boxed(&'a self, key: &'a str, seqno: SeqNo) -> Result<usize, ConsensusError>;
        fn changed/changed_boxed(&'a self, key: &'a str, seen: Option<SeqNo>) -> ();
    }
    plain {
        fn list_keys/list_keys_dyn(&self) -> KeyStream;
        fn durability/durability_dyn(&self) -> Durability;
    }
}

handle! {
    /// Any bus.
    SharedBus, DynBus, Bus,
    boxed {
        fn publish/publish_boxed(&'a self, topic: &'a Topic, frame: Bytes) -> Result<(), BusError>;
        fn subscribe/subscribe_boxed(&'a self, topic: &'a Topic) -> Result<Subscription, BusError>;
    }
    plain {
        fn label/label_dyn(&self) -> &str;
    }
}
