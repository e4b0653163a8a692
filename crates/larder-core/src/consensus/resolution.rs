//! What reading can tell of a call that was cut off.

/// What became of a compare-and-set whose outcome was unknown, as far as reading tells.
///
/// Of `compare_and_set(key, expected, new)`, at a moment of the question:
///
/// | | it says | so the history of the key |
/// |---|---|---|
/// | `Committed` | `new` is a version of the key | has `new` directly after `expected`, until that is truncated |
/// | `Lost` | the head has left `expected`, and not for `new` | never has `new`, however late the call lands |
/// | `Open` | the head had not gone beyond `expected` | may get `new` later, or another version in its place |
/// | `Unknown` | the head is beyond `new`, and nothing from `expected` up to `new` is left | is not told: no version from there is ever seen again |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "callers must handle each answer")]
pub enum Resolution {
    /// It committed.
    Committed,
    /// It did not commit and never will.
    Lost,
    /// It did not commit so far but still may: the key is as it expects it, or could become so.
    ///
    /// Write another version (with a higher sequence number or other bytes) to close the door.
    Open,
    /// Too much was truncated to tell, or the key's first version that is left is a later one than that of a call
    /// which expected an empty key.
    Unknown,
}
