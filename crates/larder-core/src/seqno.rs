//! Sequence numbers of consensus data.

use std::fmt;
use std::str::FromStr;

/// The position of one version in the history of a key: `0 ..= i64::MAX`.
///
/// The type itself can hold larger numbers, because they arrive from outside and have to be
/// refused by name: every operation answers `InvalidArgument` for them (see [`SeqNo::is_valid`]).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SeqNo(pub u64);

impl SeqNo {
    /// The lowest sequence number.
    pub const MIN: Self = Self(0);
    /// The highest valid sequence number, `i64::MAX`.
    pub const MAX: Self = Self(i64::MAX.unsigned_abs());

    /// Whether every backend can hold it: at most `i64::MAX`.
    pub const fn is_valid(self) -> bool {
        self.0 <= Self::MAX.0
    }

    /// The next sequence number, or `None` after the last valid one.
    pub fn next(self) -> Option<Self> {
        (self < Self::MAX).then(|| Self(self.0 + 1))
    }
}

impl fmt::Display for SeqNo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&self.0, f)
    }
}

impl FromStr for SeqNo {
    type Err = std::num::ParseIntError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}
