//! Two stores of one contract as one: policies over two layers.
//!
//! A *composite* (a tiered cache, a tiered spool) joins a near layer L1 and a far layer L2. For
//! each call it hands a *policy* one unmade [`LayerCall`] per layer, and the policy decides when
//! each call is made and whose answer counts:
//!
//! - reads: [`SequentialReadPolicy`] (default), [`RaceReadPolicy`], [`ParallelReadPolicy`];
//! - writes: [`OptimisticParallelWritePolicy`] (default), [`SequentialWritePolicy`],
//!   [`RaceWritePolicy`]; removes: [`remove_both`];
//! - refills: [`RefillPolicy`].
//!
//! [`AnyReadPolicy`] and [`AnyWritePolicy`] are chosen by config. Users may write their own.
//!
//! A policy is control flow only. What a value is worth it asks through [`Freshness`]; what goes on
//! after the caller has left it hands to an [`Offload`]; what fails it reports to an [`Observer`],
//! to [`ReadResult::degraded`] and to the [`Outcome`]. It takes no time of its own: only the clock
//! in [`ReadRequest`] says what is expired.
//!
//! This room sees the contracts' types only, never a backend.
//!
//! ```
//! use larder::compose::{
//!     Calls, CompositionLayer, CompositionReadPolicy, DisabledOffload, Observer, OnLayerError,
//!     ReadRequest, SequentialReadPolicy,
//! };
//! use larder_core::{BackendError, CacheValue, SystemClock};
//!
//! # #[tokio::main(flavor = "current_thread")] async fn main() {
//! async fn near() -> Result<Option<CacheValue<&'static str>>, BackendError> { Ok(None) }
//! async fn far() -> Result<Option<CacheValue<&'static str>>, BackendError> {
//!     Ok(Some(CacheValue::new("value")))
//! }
//!
//! let request = ReadRequest {
//!     key: "key",
//!     clock: &SystemClock,
//!     on_layer_error: OnLayerError::Miss,
//!     offload: &DisabledOffload::new(),
//!     observer: &Observer::new("example"),
//! };
//! let read = SequentialReadPolicy
//!     .execute_with(request, Calls(near, near), Calls(far, far))
//!     .await
//!     .expect("a layer answers");
//! assert_eq!(read.source, CompositionLayer::L2);
//! assert_eq!(read.value.map(|value| value.data), Some("value"));
//! # }
//! ```

mod error;
mod freshness;
mod layer;
mod observe;
mod offload;
mod outcome;
mod race;
mod read;
mod refill;
mod request;
mod unknown;
mod write;

pub use error::{BothFailed, CompositionError, OtherLayer};
pub use freshness::{Freshness, Lifetime, Timeless, prefer};
pub use layer::{Calls, CompositionLayer, LayerCall};
pub use observe::{Observer, Operation};
pub use offload::{
    AnyOffload, BoundedOffload, DisabledOffload, Drained, Offload, OffloadKey, OffloadLimits,
    OffloadStats, Refused, RefusedReason, Registered,
};
pub use outcome::{LayerOutcome, Outcome};
pub use race::RaceLoserPolicy;
pub use read::{
    AnyReadPolicy, CompositionReadPolicy, Degraded, OnLayerError, ParallelReadPolicy,
    RaceReadPolicy, ReadResult, SequentialReadPolicy,
};
pub use refill::RefillPolicy;
pub use request::{Counted, PolicyKey, ReadRequest, WriteRequest};
pub use unknown::UnknownPolicy;
pub use write::{
    AnyWritePolicy, CompositionWritePolicy, OptimisticParallelWritePolicy, RaceWritePolicy,
    SequentialWritePolicy, remove_both,
};
