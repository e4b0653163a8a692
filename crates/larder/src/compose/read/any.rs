//! A read policy that is chosen by config.

use std::fmt;
use std::str::FromStr;

use larder_core::Failure;

use super::{
    CompositionReadPolicy, ParallelReadPolicy, RaceReadPolicy, ReadResult, SequentialReadPolicy,
};
use crate::compose::{
    CompositionError, Freshness, LayerCall, Offload, PolicyKey, ReadRequest, UnknownPolicy,
};

/// Any of the read policies of this crate, chosen at run time.
///
/// From text: `sequential`, `race` (its loser goes on in the background) or `parallel`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum AnyReadPolicy {
    /// See [`SequentialReadPolicy`].
    Sequential(SequentialReadPolicy),
    /// See [`RaceReadPolicy`].
    Race(RaceReadPolicy),
    /// See [`ParallelReadPolicy`].
    Parallel(ParallelReadPolicy),
}

impl AnyReadPolicy {
    /// The word used in config.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sequential(_) => "sequential",
            Self::Race(_) => "race",
            Self::Parallel(_) => "parallel",
        }
    }
}

impl CompositionReadPolicy for AnyReadPolicy {
    fn l1_hit_decides(&self, stale: bool) -> bool {
        match self {
            Self::Sequential(policy) => policy.l1_hit_decides(stale),
            Self::Race(policy) => policy.l1_hit_decides(stale),
            Self::Parallel(policy) => policy.l1_hit_decides(stale),
        }
    }

    async fn execute_with<K, T, E, O>(
        &self,
        request: ReadRequest<'_, K, O>,
        read_l1: impl LayerCall<Option<T>, E>,
        read_l2: impl LayerCall<Option<T>, E>,
    ) -> Result<ReadResult<T, E>, CompositionError<E>>
    where
        K: PolicyKey + ?Sized,
        T: Freshness,
        E: Failure,
        O: Offload,
    {
        match self {
            Self::Sequential(policy) => policy.execute_with(request, read_l1, read_l2).await,
            Self::Race(policy) => policy.execute_with(request, read_l1, read_l2).await,
            Self::Parallel(policy) => policy.execute_with(request, read_l1, read_l2).await,
        }
    }
}

impl Default for AnyReadPolicy {
    fn default() -> Self {
        Self::Sequential(SequentialReadPolicy)
    }
}

impl From<SequentialReadPolicy> for AnyReadPolicy {
    fn from(policy: SequentialReadPolicy) -> Self {
        Self::Sequential(policy)
    }
}

impl From<RaceReadPolicy> for AnyReadPolicy {
    fn from(policy: RaceReadPolicy) -> Self {
        Self::Race(policy)
    }
}

impl From<ParallelReadPolicy> for AnyReadPolicy {
    fn from(policy: ParallelReadPolicy) -> Self {
        Self::Parallel(policy)
    }
}

impl FromStr for AnyReadPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "sequential" => Ok(SequentialReadPolicy.into()),
            "race" => Ok(RaceReadPolicy::default().into()),
            "parallel" => Ok(ParallelReadPolicy.into()),
            _ => Err(UnknownPolicy::new("read policy", text, "sequential, race, parallel")),
        }
    }
}

impl fmt::Display for AnyReadPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}
