//! Random calls on a consensus store.

use larder_core::{Consensus, MemoryConsensus, SeqNo, SharedConsensus, VersionedData};
use proptest::prop_oneof;
use proptest::strategy::{BoxedStrategy, Just, Strategy as _};

use super::{payload, small};
use crate::{Stage, Verdict, Violation, ensure_eq};

/// How many keys the calls are spread over.
const KEYS: usize = 2;
/// One above the largest valid number, so that both sides of the bound are tried.
const NUMBERS: u64 = (1 << 63) + 1;

/// A number relative to the head, or any.
#[derive(Clone, Copy, Debug)]
pub(crate) enum At {
    Head(i8),
    Nothing,
    Number(u64),
}

/// One call; keys are places in a small table.
#[derive(Clone, Copy, Debug)]
pub(crate) enum ConsensusCall {
    Swap(usize, At, At, u16),
    Head(usize),
    Scan(usize, At, usize),
    Truncate(usize, At),
    Keys,
    Reopen,
}

fn at() -> BoxedStrategy<At> {
    prop_oneof![
        6 => (-2..=3_i8).prop_map(At::Head),
        1 => Just(At::Nothing),
        2 => small(NUMBERS).prop_map(At::Number),
    ]
    .boxed()
}

/// Calls without reopening.
pub(crate) fn calls() -> BoxedStrategy<ConsensusCall> {
    use ConsensusCall::{Head, Keys, Scan, Swap, Truncate};
    let key = || 0..KEYS;
    let limit = || prop_oneof![4 => 0..6_usize, 1 => Just(usize::MAX)];
    prop_oneof![
        // Most of them as a well-behaved writer would: from the head to a little above it.
        6 => (key(), 1..4_i8, 0..300_u16)
            .prop_map(|(key, above, len)| Swap(key, At::Head(0), At::Head(above), len)),
        4 => (key(), at(), at(), 0..300_u16)
            .prop_map(|(key, expected, new, len)| Swap(key, expected, new, len)),
        2 => key().prop_map(Head),
        3 => (key(), at(), limit()).prop_map(|(key, from, limit)| Scan(key, from, limit)),
        2 => (key(), at()).prop_map(|(key, below)| Truncate(key, below)),
        1 => Just(Keys),
    ]
    .boxed()
}

/// Calls with reopening.
pub(crate) fn calls_and_reopenings() -> BoxedStrategy<ConsensusCall> {
    prop_oneof![9 => calls(), 1 => Just(ConsensusCall::Reopen)].boxed()
}

/// Plays the calls on `store` and on a new reference store.
pub(crate) async fn play(
    stage: Stage<SharedConsensus>,
    store: SharedConsensus,
    calls: Vec<ConsensusCall>,
) -> (SharedConsensus, Verdict) {
    let keys: Vec<String> = (0..KEYS).map(|number| stage.key(number)).collect();
    let model = MemoryConsensus::default();
    let mut store = Some(store);
    for (turn, call) in calls.into_iter().enumerate() {
        let Some(opened) = store.take() else { break };
        if matches!(call, ConsensusCall::Reopen) {
            // The handle goes with it: a place that is locked opens only when the last one is gone.
            match stage.reopen(opened).await {
                Ok(reopened) => store = Some(reopened),
                Err(violation) => return (placeholder(), Err(violation)),
            }
            continue;
        }
        let verdict = step(&opened, &model, &keys, turn, call).await;
        if let Err(violation) = verdict {
            let shown = format!("call {turn}, {call:?}");
            return (opened, Err(violation.while_doing(&shown)));
        }
        store = Some(opened);
    }
    let Some(store) = store else { return (placeholder(), Ok(())) };
    for key in &keys {
        let seen = store.scan(key, SeqNo::MIN, usize::MAX).await;
        let promised = model.scan(key, SeqNo::MIN, usize::MAX).await;
        if format!("{seen:?}") != format!("{promised:?}") {
            let why = format!("the versions at the end: seen {seen:?}, promised {promised:?}");
            return (store, Err(Violation::new(why)));
        }
    }
    (store, Ok(()))
}

/// What is left when the place did not open again: the run is over anyway.
fn placeholder() -> SharedConsensus {
    SharedConsensus::new(MemoryConsensus::default())
}

async fn step(
    store: &SharedConsensus,
    model: &MemoryConsensus,
    keys: &[String],
    turn: usize,
    call: ConsensusCall,
) -> Verdict {
    match call {
        ConsensusCall::Swap(key, expected, new, len) => {
            let head = head_of(model, &keys[key]).await?;
            let expected = resolve(expected, head);
            let seqno = resolve(new, head).unwrap_or(SeqNo::MIN);
            let new = VersionedData { seqno, data: payload(turn, len) };
            let seen = store.compare_and_set(&keys[key], expected, new.clone()).await;
            let promised = model.compare_and_set(&keys[key], expected, new).await;
            same(&seen, &promised, "a compare-and-set")
        }
        ConsensusCall::Head(key) => {
            let seen = store.head(&keys[key]).await;
            same(&seen, &model.head(&keys[key]).await, "a head")
        }
        ConsensusCall::Scan(key, from, limit) => {
            let head = head_of(model, &keys[key]).await?;
            let from = resolve(from, head).unwrap_or(SeqNo::MIN);
            let seen = store.scan(&keys[key], from, limit).await;
            same(&seen, &model.scan(&keys[key], from, limit).await, "a scan")
        }
        ConsensusCall::Truncate(key, below) => {
            let head = head_of(model, &keys[key]).await?;
            let below = resolve(below, head).unwrap_or(SeqNo::MIN);
            let seen = store.truncate(&keys[key], below).await;
            same(&seen, &model.truncate(&keys[key], below).await, "a truncation")
        }
        ConsensusCall::Keys => {
            ensure_eq!(listed(store, keys).await?, listed(model, keys).await?, "the keys");
            Ok(())
        }
        // A reopening changes the handle, so `play` does it.
        ConsensusCall::Reopen => Ok(()),
    }
}

/// Compares answers and errors in full: the arguments decide them, not the backend.
fn same<T: std::fmt::Debug, E: std::fmt::Debug>(
    seen: &Result<T, E>,
    promised: &Result<T, E>,
    what: &str,
) -> Verdict {
    let (seen, promised) = (format!("{seen:?}"), format!("{promised:?}"));
    if seen == promised {
        return Ok(());
    }
    Err(Violation::new(format!("{what}: seen {seen}, promised {promised}")))
}

async fn head_of(model: &MemoryConsensus, key: &str) -> Result<Option<SeqNo>, Violation> {
    Ok(model.head(key).await?.map(|head| head.seqno))
}

fn resolve(at: At, head: Option<SeqNo>) -> Option<SeqNo> {
    match (at, head) {
        (At::Nothing, _) | (At::Head(..=0), None) => None,
        (At::Number(number), _) => Some(SeqNo(number)),
        (At::Head(offset), head) => {
            let head = head.map_or(0, |SeqNo(head)| head);
            Some(SeqNo(head.saturating_add_signed(i64::from(offset))))
        }
    }
}

async fn listed(store: &impl Consensus, of: &[String]) -> Result<Vec<String>, Violation> {
    let mut stream = store.list_keys();
    let mut listed = Vec::new();
    while let Some(key) = stream.next().await {
        let key = key?;
        if of.contains(&key) {
            listed.push(key);
        }
    }
    listed.sort();
    Ok(listed)
}
