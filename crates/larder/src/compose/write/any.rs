//! A write policy that is chosen by config.

use std::fmt;
use std::str::FromStr;

use larder_core::Failure;

use super::{
    CompositionWritePolicy, OptimisticParallelWritePolicy, RaceWritePolicy, SequentialWritePolicy,
};
use crate::compose::{
    CompositionError, LayerCall, Offload, Outcome, PolicyKey, UnknownPolicy, WriteRequest,
};

/// Any of the write policies of this crate, chosen at run time.
///
/// From text: `sequential`, `optimistic-parallel` or `race` (its loser goes on in the background).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnyWritePolicy {
    /// See [`SequentialWritePolicy`].
    Sequential(SequentialWritePolicy),
    /// See [`OptimisticParallelWritePolicy`].
    OptimisticParallel(OptimisticParallelWritePolicy),
    /// See [`RaceWritePolicy`].
    Race(RaceWritePolicy),
}

impl AnyWritePolicy {
    /// The word used in config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sequential(_) => "sequential",
            Self::OptimisticParallel(_) => "optimistic-parallel",
            Self::Race(_) => "race",
        }
    }
}

impl CompositionWritePolicy for AnyWritePolicy {
    fn needs_both(&self) -> bool {
        match self {
            Self::Sequential(policy) => policy.needs_both(),
            Self::OptimisticParallel(policy) => policy.needs_both(),
            Self::Race(policy) => policy.needs_both(),
        }
    }

    async fn execute_with<K, A, E, O>(
        &self,
        request: WriteRequest<'_, K, O>,
        write_l1: impl LayerCall<A, E>,
        write_l2: impl LayerCall<A, E>,
    ) -> Result<Outcome<E, A>, CompositionError<E>>
    where
        K: PolicyKey + ?Sized,
        A: Send + 'static,
        E: Failure,
        O: Offload,
    {
        match self {
            Self::Sequential(policy) => policy.execute_with(request, write_l1, write_l2).await,
            Self::OptimisticParallel(policy) => {
                policy.execute_with(request, write_l1, write_l2).await
            }
            Self::Race(policy) => policy.execute_with(request, write_l1, write_l2).await,
        }
    }
}

impl Default for AnyWritePolicy {
    fn default() -> Self {
        Self::OptimisticParallel(OptimisticParallelWritePolicy)
    }
}

impl From<SequentialWritePolicy> for AnyWritePolicy {
    fn from(policy: SequentialWritePolicy) -> Self {
        Self::Sequential(policy)
    }
}

impl From<OptimisticParallelWritePolicy> for AnyWritePolicy {
    fn from(policy: OptimisticParallelWritePolicy) -> Self {
        Self::OptimisticParallel(policy)
    }
}

impl From<RaceWritePolicy> for AnyWritePolicy {
    fn from(policy: RaceWritePolicy) -> Self {
        Self::Race(policy)
    }
}

impl FromStr for AnyWritePolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "sequential" => Ok(SequentialWritePolicy.into()),
            "optimistic-parallel" => Ok(OptimisticParallelWritePolicy.into()),
            "race" => Ok(RaceWritePolicy::default().into()),
            _ => Err(UnknownPolicy::new(
                "write policy",
                text,
                "sequential, optimistic-parallel, race",
            )),
        }
    }
}

impl fmt::Display for AnyWritePolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
