//! What was found out about calls of unknown outcome, against what came of them.

use std::collections::BTreeMap;

use larder_core::consensus::Resolution;
use larder_core::{SeqNo, VersionedData};

use super::chain::{Chain, was_reached};
use super::{Answer, Call, Event, History};
use crate::{Verdict, ensure};

/// A compare-and-set that somebody looked into, and the event of that look.
pub(super) struct Resolved<'a> {
    pub(super) expected: Option<SeqNo>,
    pub(super) new: &'a VersionedData,
    pub(super) event: &'a Event,
}

impl Chain<'_> {
    /// What a look says has to be true at a moment of it, and of all that comes later.
    ///
    /// | | allows | forbids |
    /// |---|---|---|
    /// | `Committed` | that the version is truncated later | that it is not in the chain, or only later |
    /// | `Lost` | anything else in its place | that it is ever in the chain, or that it could still land |
    /// | `Open` | that it lands later, or another one does | that the head had left `expected` before the look began |
    /// | `Unknown` | both, as long as nobody sees it | that a version that would have told was there |
    ///
    /// That nothing had left `expected` for `Open` is part of the moments: see `found_below`.
    pub(super) fn agrees_with(
        &self,
        resolved: &Resolved<'_>,
        resolution: Resolution,
        moments: &BTreeMap<SeqNo, u64>,
        history: &History,
    ) -> Verdict {
        let Resolved { expected, new, event } = resolved;
        let seqno = new.seqno;
        let is_member = self.members.get(&seqno).is_some_and(|member| member.data == &*new.data);
        match resolution {
            Resolution::Committed => {
                let since = moments.get(&seqno).filter(|_| is_member);
                ensure!(
                    since.is_some_and(|since| *since <= event.ended),
                    "version {seqno} was found committed before it can have been"
                );
            }
            Resolution::Lost => {
                ensure!(!is_member, "version {seqno} was found lost, but it was committed");
                ensure!(
                    was_reached(beyond(*expected), event, moments, history),
                    "version {seqno} was found lost while it could still land: nothing had come \
                     after {expected:?}"
                );
            }
            Resolution::Open => {}
            Resolution::Unknown => {
                ensure!(
                    was_reached(SeqNo(seqno.0 + 1), event, moments, history),
                    "nothing was said about version {seqno} before the head was beyond it"
                );
                let from = expected.unwrap_or(SeqNo::MIN);
                let left = self.left_between(from, SeqNo(seqno.0 + 1), event, history);
                ensure!(
                    left.is_none(),
                    "nothing was said about version {seqno}, but {} was not truncated",
                    left.unwrap_or_default()
                );
            }
        }
        Ok(())
    }
}

/// The lowest head that is none of those a write waits for.
pub(super) fn beyond(expected: Option<SeqNo>) -> SeqNo {
    expected.map_or(SeqNo::MIN, |SeqNo(expected)| SeqNo(expected + 1))
}

/// The version that was looked for.
pub(super) fn of(event: &Event) -> Option<&VersionedData> {
    match &event.call {
        Call::Resolve { new, .. } => Some(new),
        _ => None,
    }
}

/// A version that was found to be lost, by its number and bytes.
pub(super) fn lost(event: &Event) -> Option<(SeqNo, &[u8])> {
    let is_lost = event.answer == Answer::Resolved(Resolution::Lost);
    of(event).filter(|_| is_lost).map(|new| (new.seqno, &*new.data))
}
