//! What became of a compare-and-set whose outcome is unknown.

pub use larder_core::consensus::Resolution;
use larder_core::{Consensus, ConsensusError, SeqNo, VersionedData};

/// Decides what became of `compare_and_set(key, expected, new)` after an `Indeterminate` answer.
///
/// It reads at most twice, uses no clock, and writes nothing. It recognises the write by its exact
/// bytes, so the answer is decisive only when `new.data` is unique: two writers that set the same
/// bytes under the same sequence number are told the same.
///
/// It rests on three facts of the contract: sequence numbers of a key only rise, a committed
/// version stands directly after the one it expected, and truncation only takes from the low end.
///
/// # Errors
/// Those of [`Consensus::head`] and [`Consensus::scan`]. Nothing was changed; ask again.
///
/// # Cancel safety
/// Has no effect.
///
/// # Examples
/// ```
/// use larder::{Consensus, MemoryConsensus, SeqNo, VersionedData};
/// use larder::recipes::{Resolution, resolve};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::ConsensusError> {
/// let store = MemoryConsensus::default();
/// let mine = VersionedData { seqno: SeqNo(1), data: "mine".into() };
/// assert_eq!(resolve(&store, "key", None, &mine).await?, Resolution::Open);
/// store.compare_and_set("key", None, mine.clone()).await?;
/// assert_eq!(resolve(&store, "key", None, &mine).await?, Resolution::Committed);
/// # Ok(()) }
/// ```
pub async fn resolve<C: Consensus>(
    store: &C,
    key: &str,
    expected: Option<SeqNo>,
    new: &VersionedData,
) -> Result<Resolution, ConsensusError> {
    let head = store.head(key).await?;
    let Some(head) = head else {
        // An empty key never was anything else, and `expected` may yet come to be.
        return Ok(Resolution::Open);
    };
    if head.seqno == new.seqno {
        return Ok(by_bytes(&head, new));
    }
    if head.seqno < new.seqno {
        // Still possible only while `expected` is the head or can become it.
        let possible = expected.is_some_and(|expected| head.seqno <= expected);
        return Ok(if possible { Resolution::Open } else { Resolution::Lost });
    }
    let from = expected.unwrap_or(SeqNo::MIN);
    let versions = store.scan(key, from, 2).await?;
    let next = versions.iter().find(|version| Some(version.seqno) != expected);
    let expected_is_live = versions.first().is_some_and(|first| Some(first.seqno) == expected);
    Ok(match next {
        Some(next) if next.seqno == new.seqno => by_bytes(next, new),
        // Another version took the place after `expected`, before `new` or instead of it.
        Some(next) if next.seqno < new.seqno || expected_is_live => Resolution::Lost,
        // The low end is gone, `new` included if it ever was there.
        _ => Resolution::Unknown,
    })
}

fn by_bytes(found: &VersionedData, new: &VersionedData) -> Resolution {
    if found.data == new.data { Resolution::Committed } else { Resolution::Lost }
}

#[cfg(test)]
mod tests {
    use larder_core::{CaSResult, MemoryConsensus};

    use super::*;

    fn version(seqno: u64, data: &'static str) -> VersionedData {
        VersionedData { seqno: SeqNo(seqno), data: data.into() }
    }

    /// A store with a history of one key: (seqno, data) in order, then truncated below `truncate`.
    async fn history(chain: &[(u64, &'static str)], truncate: u64) -> MemoryConsensus {
        let store = MemoryConsensus::default();
        let mut expected = None;
        for (seqno, data) in chain {
            let done = store.compare_and_set("k", expected, version(*seqno, data)).await.unwrap();
            assert_eq!(done, CaSResult::Committed);
            expected = Some(SeqNo(*seqno));
        }
        if truncate > 0 {
            store.truncate("k", SeqNo(truncate)).await.unwrap();
        }
        store
    }

    #[tokio::test]
    async fn every_history_has_its_answer() {
        use Resolution::{Committed, Lost, Open, Unknown};
        type Case = (&'static str, &'static [(u64, &'static str)], u64, Option<u64>, Resolution);
        let cases: &[Case] = &[
            ("nothing there yet", &[], 0, None, Open),
            ("nothing there, a wrong expectation", &[], 0, Some(4), Open),
            ("it is the head", &[(4, "a"), (5, "mine")], 0, Some(4), Committed),
            ("it is the first version", &[(5, "mine")], 0, None, Committed),
            ("another one has its place", &[(4, "a"), (5, "other")], 0, Some(4), Lost),
            ("the expected one is still the head", &[(4, "a")], 0, Some(4), Open),
            ("the expected one is yet to come", &[(3, "a")], 0, Some(4), Open),
            ("overtaken below by a gap", &[(2, "a"), (4, "other")], 0, Some(2), Lost),
            ("a key that was to be empty is not", &[(4, "other")], 0, None, Lost),
            ("built upon", &[(4, "a"), (5, "mine"), (9, "b")], 0, Some(4), Committed),
            ("jumped over", &[(4, "a"), (9, "other")], 0, Some(4), Lost),
            ("replaced and built upon", &[(4, "a"), (5, "x"), (9, "b")], 0, Some(4), Lost),
            (
                "built upon, expected truncated",
                &[(4, "a"), (5, "mine"), (9, "b")],
                5,
                Some(4),
                Committed,
            ),
            ("truncated itself", &[(4, "a"), (5, "mine"), (9, "b")], 9, Some(4), Unknown),
            ("one between, lower end truncated", &[(1, "a"), (4, "x"), (9, "b")], 4, Some(1), Lost),
        ];
        for (story, chain, truncate, expected, answer) in cases {
            let store = history(chain, *truncate).await;
            let mine = version(5, "mine");
            let resolved = resolve(&store, "k", expected.map(SeqNo), &mine).await.unwrap();
            assert_eq!(resolved, *answer, "{story}");
        }
    }
}
