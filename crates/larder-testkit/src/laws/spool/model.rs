use larder_core::SharedSpool;

use crate::law::laws;
use crate::model::{explore, spool};
use crate::{Stage, Verdict};

laws! { SharedSpool, "any sequence of calls";
    /// Any sequence of calls, one after the other, is answered as the reference model answers it.
    any_sequence_of_calls_agrees_with_the_reference;
    /// The same with closing and opening among the calls.
    any_sequence_with_reopenings_agrees_with_the_reference [Reopen];
}

async fn any_sequence_of_calls_agrees_with_the_reference(stage: &Stage<SharedSpool>) -> Verdict {
    explore(stage, spool::calls, spool::play).await
}

async fn any_sequence_with_reopenings_agrees_with_the_reference(
    stage: &Stage<SharedSpool>,
) -> Verdict {
    explore(stage, spool::calls_and_reopenings, spool::play).await
}
