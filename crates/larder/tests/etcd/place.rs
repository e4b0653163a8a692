//! What tests of etcd need.

use std::time::Duration;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use larder::consensus::EtcdConsensus;
#[cfg(feature = "etcd-tls")]
use larder::registry::OpenError;
use larder::{
    CaSResult, Clock, Consensus, ConsensusError, Effect, Failure, Retry, SeqNo, SystemClock,
    VersionedData,
};
use larder_testkit::service::EtcdServer;

/// What a call may take beyond its limit on a busy machine.
const SLACK: Duration = Duration::from_secs(2);

pub(crate) async fn open(uri: &str) -> EtcdConsensus {
    EtcdConsensus::open(uri).await.unwrap()
}

pub(crate) fn version(seqno: u64, data: &str) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: bytes::Bytes::copy_from_slice(data.as_bytes()) }
}

/// Makes `to` the head after `from`.
pub(crate) async fn cas(
    store: &impl Consensus,
    key: &str,
    from: Option<u64>,
    to: VersionedData,
) -> Result<CaSResult, ConsensusError> {
    store.compare_and_set(key, from.map(SeqNo), to).await
}

/// What a call came to, and that it ended soon after `limit`.
pub(crate) async fn within<T>(limit: Duration, call: impl Future<Output = T>) -> T {
    // By the same timer: what stops the whole process for a while stops both.
    let ended = tokio::time::timeout(limit + SLACK, call).await;
    ended.unwrap_or_else(|_| panic!("a call with a limit of {limit:?} goes on"))
}

#[track_caller]
pub(crate) fn assert_fails<T: std::fmt::Debug>(
    ended: Result<T, ConsensusError>,
    effect: Effect,
    retry: Retry,
) -> String {
    let error = ended.unwrap_err();
    let told = larder::error::chain(&error);
    assert_eq!((error.effect(), error.retry()), (effect, retry), "{told}");
    told
}

/// Repeats `call` until it succeeds, for at most some seconds.
pub(crate) async fn in_the_end<T>(mut call: impl AsyncFnMut() -> Result<T, ConsensusError>) -> T {
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

/// The number behind `"name":"` in the JSON of a server.
pub(crate) fn number(json: &str, name: &str) -> u64 {
    let (_, rest) = json.split_once(&format!("\"{name}\":\"")).unwrap();
    rest.split('"').next().unwrap().parse().unwrap()
}

/// Lets nobody in but root and the user `me` (password `hush`), whose keys are those of the place `shop`.
pub(crate) fn let_in_me(server: &EtcdServer) {
    let post = |path: &str, json: &str| server.post(path, json).unwrap();
    post("/v3/auth/user/add", r#"{"name":"root","password":"hush"}"#);
    post("/v3/auth/user/grant", r#"{"user":"root","role":"root"}"#);
    post("/v3/auth/role/add", r#"{"name":"shop"}"#);
    let [from, to] = ["shop//", "shop/0"].map(|text| BASE64_STANDARD.encode(text));
    let grant = format!(
        r#"{{"name":"shop","perm":{{"permType":"READWRITE","key":"{from}","range_end":"{to}"}}}}"#
    );
    post("/v3/auth/role/grant", &grant);
    post("/v3/auth/user/add", r#"{"name":"me","password":"hush"}"#);
    post("/v3/auth/user/grant", r#"{"user":"me","role":"shop"}"#);
    post("/v3/auth/enable", "{}");
}

/// Opening failed for want of TLS, for a reason with these `words`, and shows no password.
#[cfg(feature = "etcd-tls")]
#[track_caller]
pub(crate) fn no_tls(opened: Result<EtcdConsensus, OpenError>, words: &str) {
    let error = opened.unwrap_err();
    let told = larder::error::chain(&error);
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Never), "{told}");
    assert!(told.contains("no TLS with etcds://") && told.contains(words), "{told}");
    assert!(!format!("{told} {error:?}").contains("hush"), "{told}");
}
