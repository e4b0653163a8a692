//! What the laws of the cache tier have in common: short calls with an expectation.

use bytes::Bytes;
use larder_core::{
    CacheError, CacheValue, Condition, DeleteStatus, Key, Now, SharedTier, Tier, Version,
    WriteStatus,
};

use crate::{Stage, Verdict, Violation, ensure, ensure_eq, same_bytes};

pub(super) type Store = SharedTier<Bytes>;

pub(super) fn key(stage: &Stage<Store>, part: &str) -> Result<Key, Violation> {
    Ok(Key::new(stage.key(part))?)
}

/// A version; a higher number is a newer write.
pub(super) const fn version(number: u64) -> Version {
    Version::from_parts(number << 16, 7)
}

/// A value that never expires, with a text.
pub(super) fn text(text: &str) -> CacheValue<Bytes> {
    CacheValue::new(Bytes::copy_from_slice(text.as_bytes()))
}

/// A write that has to apply.
pub(super) async fn put(tier: &Store, key: &Key, value: CacheValue<Bytes>) -> Verdict {
    let status = tier.write(key.as_ref(), value, Condition::Always).await?;
    ensure!(status.applied, "an unconditional write says that it was not applied");
    Ok(())
}

/// A write under a condition; whether it was applied.
pub(super) async fn try_put(
    tier: &Store,
    key: &Key,
    value: CacheValue<Bytes>,
    condition: Condition,
) -> Result<bool, CacheError> {
    let status: WriteStatus = tier.write(key.as_ref(), value, condition).await?;
    Ok(status.applied)
}

/// `key` has to hit with exactly `promised`, data and life and version, awaited and at once.
pub(super) async fn hits(
    tier: &Store,
    key: &Key,
    promised: &CacheValue<Bytes>,
    when: &str,
) -> Verdict {
    let Some(found) = tier.read(key.as_ref()).await? else {
        return Err(Violation::new(format!("the value {when} is missing")));
    };
    same_bytes(&format!("the value {when}"), &found.value.data, &promised.data)?;
    let life = |value: &CacheValue<Bytes>| (value.expire, value.stale, value.version);
    ensure_eq!(life(&found.value), life(promised), "expiry, staleness and version {when}");
    match tier.read_now(key.as_ref()) {
        Now::Hit(now) => ensure!(now.value == found.value, "read_now differs from read {when}"),
        Now::Miss => return Err(Violation::new(format!("read_now misses what read hits {when}"))),
        Now::Ask => {}
    }
    Ok(())
}

/// `key` has to miss, awaited and at once.
pub(super) async fn misses(tier: &Store, key: &Key, when: &str) -> Verdict {
    if let Some(found) = tier.read(key.as_ref()).await? {
        let (expire, version) = (found.value.expire, found.value.version);
        return Err(Violation::new(format!(
            "a miss was promised {when}, but a value came: expire={expire:?} version={version:?}"
        )));
    }
    let hit = matches!(tier.read_now(key.as_ref()), Now::Hit(_));
    ensure!(!hit, "read_now hits what read misses {when}");
    Ok(())
}

/// A remove without a condition has to say whether the key was there.
pub(super) async fn removes(tier: &Store, key: &Key, was_there: bool, when: &str) -> Verdict {
    let status = tier.remove(key.as_ref(), Condition::Always).await?;
    // A tier of tiers counts every layer that had the key.
    let promised = matches!(status, DeleteStatus::Deleted(1..)) == was_there;
    ensure!(promised, "a remove {when} answers {status:?}, was there: {was_there}");
    Ok(())
}
