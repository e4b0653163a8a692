//! What the tests share.

use larder::consensus::ObjectConsensus;
use larder::{CaSResult, Consensus, ConsensusError, Effect, Failure, Retry, SeqNo, VersionedData};
use larder_testkit::service::S3Server;

/// The address of a store on `server`, with more parameters.
pub(crate) fn uri(server: &S3Server, parameters: &str) -> String {
    format!("{}&{parameters}", server.uri("test"))
}

pub(crate) async fn store(server: &S3Server, parameters: &str) -> ObjectConsensus {
    ObjectConsensus::open(&uri(server, parameters)).await.unwrap()
}

pub(crate) fn version(seqno: u64, data: &str) -> VersionedData {
    VersionedData { seqno: SeqNo(seqno), data: data.to_owned().into() }
}

pub(crate) async fn cas(
    store: &ObjectConsensus,
    expected: Option<u64>,
    seqno: u64,
    data: &str,
) -> Result<CaSResult, ConsensusError> {
    store.compare_and_set("k", expected.map(SeqNo), version(seqno, data)).await
}

pub(crate) async fn commit(store: &ObjectConsensus, expected: Option<u64>, seqno: u64, data: &str) {
    assert_eq!(cas(store, expected, seqno, data).await.unwrap(), CaSResult::Committed);
}

pub(crate) fn mismatch(current: Option<u64>) -> CaSResult {
    CaSResult::ExpectationMismatch { current: current.map(SeqNo) }
}

/// All live versions of the key.
pub(crate) async fn versions(store: &ObjectConsensus) -> Vec<VersionedData> {
    store.scan("k", SeqNo::MIN, usize::MAX).await.unwrap()
}

/// That a call failed so, and what it said, sources included.
#[track_caller]
pub(crate) fn assert_fails<T: std::fmt::Debug, E: Failure>(
    answer: Result<T, E>,
    effect: Effect,
    retry: Retry,
) -> String {
    let error = answer.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (effect, retry), "{error:?}");
    let told = format!("{} {error:?}", larder::error::chain(&error));
    assert!(!told.contains("hush"), "{told}");
    told
}
