//! What was found out about calls of unknown outcome, against the versions that are there in the end.

use larder::recipes::Resolution;
use larder::{SeqNo, VersionedData};

/// A call of unknown outcome, and what was found out.
pub(crate) struct Resolved {
    pub(crate) key: usize,
    pub(crate) expected: Option<SeqNo>,
    pub(crate) new: VersionedData,
    pub(crate) resolution: Resolution,
}

impl Resolved {
    /// What was found out has to agree with the versions that are there in the end.
    ///
    /// The history is judged with the moments of all calls by `History::check`; this is what the end alone rules out.
    pub(crate) fn agrees(&self, left: &[VersionedData]) -> Result<(), String> {
        let Self { expected, new, resolution, .. } = self;
        let is_there = left.contains(new);
        let is_truncated = left.first().is_some_and(|oldest| new.seqno < oldest.seqno);
        let head = left.last().map(|head| head.seqno);
        // The version before it, if that is still there.
        let before = left.iter().rfind(|version| version.seqno < new.seqno);
        let agrees = match resolution {
            Resolution::Committed => is_there || is_truncated,
            // The door is shut: the head has left what it expected.
            Resolution::Lost => !is_there && head > *expected,
            // If it has landed by now, then where it was to.
            Resolution::Open => {
                !is_there || before.is_none_or(|before| Some(before.seqno) == *expected)
            }
            // What was gone when it was looked for does not come back.
            Resolution::Unknown => {
                let from = expected.unwrap_or(SeqNo::MIN);
                let is_between =
                    |version: &VersionedData| (from..=new.seqno).contains(&version.seqno);
                head > Some(new.seqno) && !left.iter().any(is_between)
            }
        };
        if agrees { Ok(()) } else { Err(format!("{resolution:?}, but {new:?} of {left:#?}")) }
    }
}
