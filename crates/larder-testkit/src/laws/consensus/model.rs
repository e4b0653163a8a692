use larder_core::SharedConsensus;

use crate::law::laws;
use crate::model::{consensus, explore};
use crate::{Stage, Verdict};

laws! { SharedConsensus, "any sequence of calls";
    /// Any sequence of calls, one after the other, is answered as the reference model answers it,
    /// errors and their values included.
    any_sequence_of_calls_agrees_with_the_reference;
    /// The same with closing and opening among the calls.
    any_sequence_with_reopenings_agrees_with_the_reference [Reopen];
}

async fn any_sequence_of_calls_agrees_with_the_reference(
    stage: &Stage<SharedConsensus>,
) -> Verdict {
    explore(stage, consensus::calls, consensus::play).await
}

async fn any_sequence_with_reopenings_agrees_with_the_reference(
    stage: &Stage<SharedConsensus>,
) -> Verdict {
    explore(stage, consensus::calls_and_reopenings, consensus::play).await
}
