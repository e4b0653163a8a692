//! What tests of a far tier need, whatever it is.

use std::time::Duration;

use bytes::Bytes;
use larder::{
    CacheError, CacheValue, Clock, Effect, Failure, Key, Retry, SystemClock, Tier, Version,
};

/// What a call may take beyond its limit on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

pub(crate) fn key(text: &str) -> Key {
    Key::new(text).unwrap()
}

pub(crate) fn text(text: &str) -> CacheValue<Bytes> {
    CacheValue::new(Bytes::copy_from_slice(text.as_bytes()))
}

pub(crate) fn version(number: u64) -> Version {
    Version::from_parts(number, 7)
}

pub(crate) async fn data(tier: &impl Tier<Bytes>, at: &Key) -> Option<Bytes> {
    tier.read(at.as_ref()).await.unwrap().map(|found| found.value.data)
}

/// What a call came to, and that it ended soon after `limit`.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = T>) -> T {
    // By the same timer: what stops the whole process for a while stops both.
    let ended = tokio::time::timeout(limit + SLACK, call).await;
    ended.unwrap_or_else(|_| panic!("a call with a limit of {limit:?} goes on"))
}

#[track_caller]
pub(crate) fn assert_fails<T: std::fmt::Debug>(
    ended: Result<T, CacheError>,
    effect: Effect,
    retry: Retry,
) -> String {
    let error = ended.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (effect, retry), "{error:?}");
    larder::error::chain(&error)
}

/// Repeats `call` until it succeeds, for at most some seconds.
pub(crate) async fn in_the_end<T>(mut call: impl AsyncFnMut() -> Result<T, CacheError>) -> T {
    let until = SystemClock.instant() + Duration::from_mins(1);
    loop {
        match call().await {
            Ok(answer) => return answer,
            Err(error) => {
                assert_eq!(error.retry(), Retry::Later, "{error:?}");
                assert!(SystemClock.instant() < until, "still: {error:?}");
            }
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
