use std::collections::{HashMap, HashSet};
use std::sync::Mutex;

use larder_core::{
    BoxError, CaSResult, Consensus, ConsensusError, Durability, KeyStream, MemoryConsensus, SeqNo,
    SharedConsensus, VersionedData,
};
use larder_testkit::{Place, Subject};

use crate::{broken, is_caught_by};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    StaleHead,
    RejectsFromMemory,
    ChecksThenActs,
    ForgetsWhatWasTruncated,
    JudgesArgumentsLate,
    NamesWhatWasExpected,
    ScansWithoutTheHead,
    TruncatesAboveTheHead,
    ListsWhatWasTried,
    CutsData,
    TearsScans,
}

/// The reference with one defect.
#[derive(Debug)]
struct Defective {
    inner: MemoryConsensus,
    defect: Defect,
    heads: Mutex<HashMap<String, VersionedData>>,
    tried: Mutex<HashSet<String>>,
}

fn subject(defect: Defect) -> Subject<SharedConsensus> {
    Subject::new(format!("{defect:?}"), move || {
        let store = SharedConsensus::new(Defective {
            inner: MemoryConsensus::default(),
            defect,
            heads: Mutex::default(),
            tried: Mutex::default(),
        });
        Ok(Place::new(move || std::future::ready(Ok::<_, BoxError>(store.clone()))))
    })
}

impl Consensus for Defective {
    fn list_keys(&self) -> KeyStream {
        if self.defect == Defect::ListsWhatWasTried {
            return KeyStream::from_keys(self.tried.lock().unwrap().iter().cloned().collect());
        }
        self.inner.list_keys()
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        let head = self.inner.head(key).await?;
        if self.defect == Defect::StaleHead {
            // A cache that is refreshed only when it has nothing.
            let mut heads = self.heads.lock().unwrap();
            if let Some(cached) = heads.get(key) {
                return Ok(Some(cached.clone()));
            }
            if let Some(head) = &head {
                heads.insert(key.to_owned(), head.clone());
            }
        }
        Ok(head)
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        mut new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        self.tried.lock().unwrap().insert(key.to_owned());
        let head = self.inner.head(key).await.ok().flatten().map(|head| head.seqno);
        match self.defect {
            Defect::ChecksThenActs if head == expected => {
                // Long enough for somebody else to come in between, where there is anybody: this is
                // caught in each run, not in most. What came is followed without a look.
                let mut now = head;
                for _ in 0..64 {
                    tokio::task::yield_now().await;
                    now = self.inner.head(key).await?.map(|head| head.seqno);
                    if now != head {
                        break;
                    }
                }
                return self.inner.compare_and_set(key, now, new).await;
            }
            Defect::RejectsFromMemory => {
                // A head that somebody may have moved since decides, and is read anew only after that.
                let known = self.heads.lock().unwrap().remove(key).map(|head| head.seqno);
                if known.is_some() && known != expected {
                    return Ok(CaSResult::ExpectationMismatch { current: known });
                }
                let head = self.inner.head(key).await?;
                self.heads.lock().unwrap().extend(head.map(|head| (key.to_owned(), head)));
            }
            Defect::ForgetsWhatWasTruncated if expected.is_none() && head.is_some() => {
                let oldest = self.inner.scan(key, SeqNo::MIN, 1).await?;
                if oldest.first().is_some_and(|oldest| new.seqno < oldest.seqno) {
                    return Ok(CaSResult::Committed);
                }
            }
            Defect::JudgesArgumentsLate if head != expected => {
                return Ok(CaSResult::ExpectationMismatch { current: head });
            }
            Defect::NamesWhatWasExpected => {
                let answer = self.inner.compare_and_set(key, expected, new).await?;
                return Ok(match answer {
                    CaSResult::Committed => answer,
                    CaSResult::ExpectationMismatch { .. } => {
                        CaSResult::ExpectationMismatch { current: expected }
                    }
                });
            }
            Defect::CutsData => new.data.truncate(64 << 10),
            _ => {}
        }
        self.inner.compare_and_set(key, expected, new).await
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        let mut versions = self.inner.scan(key, from, limit).await?;
        if self.defect == Defect::ScansWithoutTheHead {
            versions.pop();
        }
        if self.defect == Defect::TearsScans && versions.len() > 2 && versions.len() < limit {
            // The last version is looked up later than the others.
            versions.pop();
            for _ in 0..3 {
                tokio::task::yield_now().await;
            }
            versions.extend(self.inner.head(key).await?);
        }
        Ok(versions)
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        let answer = self.inner.truncate(key, seqno).await;
        match answer {
            Err(ConsensusError::Determinate(_)) if self.defect == Defect::TruncatesAboveTheHead => {
                Ok(0)
            }
            answer => answer,
        }
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_defect_every_law_is_kept() {
    assert_eq!(broken(&subject(Defect::None)).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stale_head_is_caught() {
    let laws = [
        "a_matching_expectation_commits",
        "a_head_is_never_older_than_a_commit_that_returned",
        "concurrent_histories_are_linearizable",
        "any_sequence_of_calls_agrees_with_the_reference",
    ];
    is_caught_by(subject(Defect::StaleHead), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_remembered_head_that_rejects_is_caught() {
    let laws = ["gaps_are_legal_and_stay", "concurrent_histories_are_linearizable"];
    is_caught_by(subject(Defect::RejectsFromMemory), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_check_apart_from_its_act_is_caught() {
    let laws = ["competing_writers_build_one_chain", "concurrent_histories_are_linearizable"];
    is_caught_by(subject(Defect::ChecksThenActs), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncated_version_that_comes_back_is_caught() {
    let laws = ["a_truncated_version_never_comes_back"];
    is_caught_by(subject(Defect::ForgetsWhatWasTruncated), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn arguments_that_are_judged_late_are_caught() {
    let laws = ["arguments_are_judged_before_the_expectation"];
    is_caught_by(subject(Defect::JudgesArgumentsLate), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_mismatch_that_names_what_was_expected_is_caught() {
    let laws = [
        "a_mismatch_never_names_the_expected_head",
        "a_wrong_expectation_changes_nothing_and_names_the_head",
    ];
    is_caught_by(subject(Defect::NamesWhatWasExpected), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_scan_without_the_head_is_caught() {
    let laws = ["a_scan_is_ascending_and_includes_both_ends"];
    is_caught_by(subject(Defect::ScansWithoutTheHead), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_torn_scan_is_caught() {
    is_caught_by(subject(Defect::TearsScans), &["a_scan_is_one_consistent_slice"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_truncation_above_the_head_is_caught() {
    let laws =
        ["a_truncation_above_the_head_is_refused", "a_truncation_of_an_unknown_key_is_refused"];
    is_caught_by(subject(Defect::TruncatesAboveTheHead), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_that_was_only_tried_is_caught() {
    let laws = ["a_failed_first_write_creates_no_key", "no_other_key_is_listed"];
    is_caught_by(subject(Defect::ListsWhatWasTried), &laws).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn data_that_is_cut_is_caught() {
    is_caught_by(subject(Defect::CutsData), &["data_comes_back_byte_for_byte"]).await;
}
