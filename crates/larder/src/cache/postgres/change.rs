//! What is to become of a key, and what became of it.

use std::collections::HashSet;

use bytes::Bytes;
use larder_core::{CacheValue, DeleteStatus, KeyRef, WriteStatus};

/// One key's change.
#[derive(Clone, Copy)]
pub(super) struct Change<'a> {
    pub(super) key: KeyRef<'a>,
    pub(super) then: Then<'a>,
}

#[derive(Clone, Copy)]
pub(super) enum Then<'a> {
    Remove,
    Write(&'a CacheValue<Bytes>),
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The condition did not hold.
    Nothing,
    /// It held; something that was there was removed, or not.
    Applied { removed: bool },
}

impl Done {
    pub(super) const fn written(self) -> WriteStatus {
        match self {
            Self::Nothing => WriteStatus::NOT_NEWER,
            Self::Applied { .. } => WriteStatus::WRITTEN,
        }
    }

    pub(super) const fn removed(self) -> DeleteStatus {
        match self {
            Self::Applied { removed: true } => DeleteStatus::Deleted(1),
            Self::Nothing | Self::Applied { removed: false } => DeleteStatus::Missing,
        }
    }
}

impl Change<'_> {
    /// About how much is sent for it.
    fn bytes(&self) -> usize {
        match self.then {
            Then::Remove => self.key.as_str().len(),
            Then::Write(value) => self.key.as_str().len() + value.data.len(),
        }
    }

    const fn removes(&self) -> bool {
        matches!(self.then, Then::Remove)
    }
}

/// Changes as the statements can take them: in order, each of one kind, of limited size, and with a key at
/// most once, because a statement sees nothing of what it does itself.
pub(super) fn rounds<'c, 'a>(changes: &'c [Change<'a>]) -> Vec<&'c [Change<'a>]> {
    /// The most that is sent in one statement, unless a single value is larger.
    const BYTES_MAX: usize = 16 << 20;
    let mut rounds = Vec::new();
    let (mut from, mut bytes, mut keys) = (0, 0, HashSet::new());
    for (at, change) in changes.iter().enumerate() {
        let is_other_kind = change.removes() != changes[from].removes();
        let is_full = at - from >= super::KEYS_MAX || bytes + change.bytes() > BYTES_MAX;
        if at > from && (is_other_kind || is_full || keys.contains(change.key.as_str())) {
            rounds.push(&changes[from..at]);
            (from, bytes) = (at, 0);
            keys.clear();
        }
        bytes += change.bytes();
        keys.insert(change.key.as_str());
    }
    if from < changes.len() {
        rounds.push(&changes[from..]);
    }
    rounds
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_in_a_round_once_and_kinds_do_not_mix() {
        let keys: Vec<String> = (0..3_000).map(|number| number.to_string()).collect();
        let value = CacheValue::new(Bytes::from_static(b"x"));
        let key = |at: usize| KeyRef::new(&keys[at]).unwrap();
        let write = |at| Change { key: key(at), then: Then::Write(&value) };
        let remove = |at| Change { key: key(at), then: Then::Remove };
        let sizes = |changes: &[Change<'_>]| -> Vec<usize> {
            rounds(changes).into_iter().map(<[_]>::len).collect()
        };
        assert!(sizes(&[]).is_empty());
        assert_eq!(sizes(&[write(1), write(2), write(1), write(1), write(3)]), [2, 1, 2]);
        assert_eq!(sizes(&[write(1), remove(2), remove(3), write(4)]), [1, 2, 1]);
        let many: Vec<_> = (0..3_000).map(write).collect();
        assert_eq!(sizes(&many), [1_000, 1_000, 1_000]);
        let large = CacheValue::new(Bytes::from(vec![0; 7 << 20]));
        let large: Vec<_> =
            (0..5).map(|at| Change { key: key(at), then: Then::Write(&large) }).collect();
        assert_eq!(sizes(&large), [2, 2, 1]);
    }
}
