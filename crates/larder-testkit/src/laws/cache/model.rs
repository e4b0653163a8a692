use super::entry::Store;
use crate::law::laws;
use crate::model::{cache, explore};
use crate::{Stage, Verdict};

laws! { Store, "any sequence of calls";
    /// Any sequence of calls, one after the other, is answered as the reference model answers it.
    any_sequence_of_calls_agrees_with_the_reference;
    /// The same with values that become stale and expire while time passes.
    any_sequence_in_time_agrees_with_the_reference [Clock];
}

async fn any_sequence_of_calls_agrees_with_the_reference(stage: &Stage<Store>) -> Verdict {
    explore(stage, cache::calls, cache::play).await
}

async fn any_sequence_in_time_agrees_with_the_reference(stage: &Stage<Store>) -> Verdict {
    explore(stage, cache::calls_in_time, cache::play).await
}
