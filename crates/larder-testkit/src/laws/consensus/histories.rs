use crate::Law;
use larder_core::SharedConsensus;
pub(super) const LAWS: &[Law<SharedConsensus>] = &[];
