//! Random calls on a cache tier.

use std::time::Duration;

use bytes::Bytes;
use larder_core::reference::ReferenceTier;
use larder_core::{
    CacheValue, Condition, Key, KeyRef, SharedTier, SystemClock, Tier, Timestamp, Version,
};
use proptest::collection::vec;
use proptest::option::of;
use proptest::prop_oneof;
use proptest::strategy::{BoxedStrategy, Just, Strategy as _};

use super::payload;
use crate::{Stage, Verdict, Violation, ensure_eq};

/// How many keys the calls are spread over.
const KEYS: usize = 4;

/// A condition with a small version.
#[derive(Clone, Copy, Debug)]
pub(crate) enum When {
    Always,
    NewerThan(u8),
    Is(Option<u8>),
}

/// What is written; lives are in milliseconds from now.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Written {
    len: u16,
    life: Option<u16>,
    stale: Option<u16>,
    version: Option<u8>,
}

/// One call; keys are places in a small table.
#[derive(Clone, Debug)]
pub(crate) enum CacheCall {
    Write(usize, Written, When),
    WriteMany(Vec<usize>, Written, When),
    Remove(usize, When),
    RemoveMany(Vec<usize>, When),
    Read(usize),
    ReadMany(Vec<usize>),
    Pass(u16),
}

fn when() -> BoxedStrategy<When> {
    prop_oneof![
        4 => Just(When::Always),
        2 => (0..6_u8).prop_map(When::NewerThan),
        1 => of(0..6_u8).prop_map(When::Is),
    ]
    .boxed()
}

fn written(lives: bool) -> BoxedStrategy<Written> {
    let lengths = || prop_oneof![1 => Just(0_u16), 4 => 0..200_u16];
    let life = if lives { of(lengths()).boxed() } else { Just(None).boxed() };
    let stale = if lives { of(lengths()).boxed() } else { Just(None).boxed() };
    (0..400_u16, life, stale, of(0..6_u8))
        .prop_map(|(len, life, stale, version)| Written { len, life, stale, version })
        .boxed()
}

fn any_call(lives: bool) -> BoxedStrategy<CacheCall> {
    use CacheCall::{Read, ReadMany, Remove, RemoveMany, Write, WriteMany};
    let key = || 0..KEYS;
    let keys = || vec(0..KEYS, 0..6);
    prop_oneof![
        6 => (key(), written(lives), when()).prop_map(|(key, value, when)| Write(key, value, when)),
        1 => (keys(), written(lives), when())
            .prop_map(|(keys, value, when)| WriteMany(keys, value, when)),
        2 => (key(), when()).prop_map(|(key, when)| Remove(key, when)),
        1 => (keys(), when()).prop_map(|(keys, when)| RemoveMany(keys, when)),
        4 => key().prop_map(Read),
        1 => keys().prop_map(ReadMany),
    ]
    .boxed()
}

/// Calls on values that never expire.
pub(crate) fn calls() -> BoxedStrategy<CacheCall> {
    any_call(false)
}

/// Calls on values that expire, with time passing between them.
pub(crate) fn calls_in_time() -> BoxedStrategy<CacheCall> {
    prop_oneof![4 => any_call(true), 1 => (0..150_u16).prop_map(CacheCall::Pass)].boxed()
}

/// Plays the calls on `tier` and on a new reference tier with the same clock.
pub(crate) async fn play(
    stage: Stage<SharedTier<Bytes>>,
    tier: SharedTier<Bytes>,
    calls: Vec<CacheCall>,
) -> (SharedTier<Bytes>, Verdict) {
    let clock =
        stage.clock().map_or_else(|_| SystemClock::shared(), larder_core::ManualClock::shared);
    let model = ReferenceTier::new("model", clock);
    let verdict = play_all(&stage, &tier, &model, calls).await;
    (tier, verdict)
}

async fn play_all(
    stage: &Stage<SharedTier<Bytes>>,
    tier: &SharedTier<Bytes>,
    model: &ReferenceTier<Bytes>,
    calls: Vec<CacheCall>,
) -> Verdict {
    let keys = (0..KEYS).map(|number| Key::new(stage.key(number)));
    let keys = keys.collect::<Result<Vec<_>, _>>()?;
    for (turn, call) in calls.into_iter().enumerate() {
        let shown = format!("call {turn}, {call:?}");
        let verdict = step(stage, tier, model, &keys, turn, call).await;
        verdict.map_err(|violation| violation.while_doing(&shown))?;
    }
    let all: Vec<_> = keys.iter().map(Key::as_ref).collect();
    ensure_eq!(read(tier, &all).await?, read(model, &all).await?, "the values at the end");
    tier.remove_many(&all, Condition::Always).await?;
    Ok(())
}

async fn step(
    stage: &Stage<SharedTier<Bytes>>,
    tier: &SharedTier<Bytes>,
    model: &ReferenceTier<Bytes>,
    keys: &[Key],
    turn: usize,
    call: CacheCall,
) -> Verdict {
    let decidable = |when| {
        let condition = condition(when);
        tier.conditions().supports(condition).then_some(condition)
    };
    match call {
        CacheCall::Write(key, written, when) => {
            let Some(condition) = decidable(when) else { return Ok(()) };
            let (key, value) = (keys[key].as_ref(), value(stage, turn, written));
            let seen = tier.write(key, value.clone(), condition).await?.applied;
            let promised = model.write(key, value, condition).await?.applied;
            ensure_eq!(seen, promised, "whether a write applied");
        }
        CacheCall::WriteMany(places, written, when) => {
            let Some(condition) = decidable(when) else { return Ok(()) };
            let value = value(stage, turn, written);
            let entries = places.iter().map(|place| (keys[*place].clone(), value.clone()));
            let entries: Vec<_> = entries.collect();
            let seen = tier.write_many(entries.clone(), condition).await?;
            let promised = model.write_many(entries, condition).await?;
            let seen: Vec<bool> = seen.into_iter().map(|status| status.applied).collect();
            let promised: Vec<bool> = promised.into_iter().map(|status| status.applied).collect();
            ensure_eq!(seen, promised, "which of many writes applied");
        }
        CacheCall::Remove(key, when) => {
            let Some(condition) = decidable(when) else { return Ok(()) };
            let seen = tier.remove(keys[key].as_ref(), condition).await?.count() > 0;
            let promised = model.remove(keys[key].as_ref(), condition).await?.count() > 0;
            ensure_eq!(seen, promised, "whether a remove found anything");
        }
        CacheCall::RemoveMany(places, when) => {
            let Some(condition) = decidable(when) else { return Ok(()) };
            let removed: Vec<_> = places.iter().map(|place| keys[*place].as_ref()).collect();
            let seen = tier.remove_many(&removed, condition).await?;
            let promised = model.remove_many(&removed, condition).await?;
            let seen: Vec<bool> = seen.into_iter().map(|status| status.count() > 0).collect();
            let promised: Vec<bool> =
                promised.into_iter().map(|status| status.count() > 0).collect();
            ensure_eq!(seen, promised, "which of many removes found anything");
        }
        CacheCall::Read(key) => {
            let key = keys[key].as_ref();
            let seen = tier.read(key).await?.map(|found| found.value);
            ensure_eq!(seen, model.read(key).await?.map(|found| found.value), "a read");
        }
        CacheCall::ReadMany(places) => {
            let asked: Vec<_> = places.iter().map(|place| keys[*place].as_ref()).collect();
            ensure_eq!(read(tier, &asked).await?, read(model, &asked).await?, "a read of many");
        }
        CacheCall::Pass(millis) => stage.pass(Duration::from_millis(millis.into())).await,
    }
    Ok(())
}

async fn read(
    tier: &impl Tier<Bytes>,
    keys: &[KeyRef<'_>],
) -> Result<Vec<Option<CacheValue<Bytes>>>, Violation> {
    let found = tier.read_many(keys).await?;
    Ok(found.into_iter().map(|found| found.map(|found| found.value)).collect())
}

const fn version(number: u8) -> Version {
    Version::from_parts((number as u64) << 16, 1)
}

fn condition(when: When) -> Condition {
    match when {
        When::Always => Condition::Always,
        When::NewerThan(number) => Condition::IfNewerThan(version(number)),
        When::Is(number) => Condition::IfVersionIs(number.map(version)),
    }
}

fn value(stage: &Stage<SharedTier<Bytes>>, turn: usize, written: Written) -> CacheValue<Bytes> {
    let from_now = |millis: u16| {
        let time = stage.now().saturating_add(Duration::from_millis(millis.into()));
        Timestamp::from_millis(time.as_millis())
    };
    CacheValue {
        data: payload(turn, written.len),
        expire: written.life.map(from_now),
        stale: written.stale.map(from_now),
        version: written.version.map(version),
    }
}
