//! Keys of cache entries and of consensus data: one rule for both.

use std::borrow::Borrow;
use std::fmt;
use std::sync::Arc;

/// The longest key, in bytes.
pub const KEY_BYTES_MAX: usize = 1024;

/// Why a text is not a key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// The text is empty.
    #[error("the key is empty: give at least one character")]
    Empty,
    /// The text is longer than [`KEY_BYTES_MAX`].
    #[error("the key is {len} bytes long: at most {KEY_BYTES_MAX} are allowed")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The text holds a NUL character, which some stores cannot hold.
    #[error("the key has a NUL character at byte {at}: remove it")]
    Nul {
        /// Where the first one is.
        at: usize,
    },
}

/// Checks that `text` can be a key: not empty, at most [`KEY_BYTES_MAX`] bytes, no NUL.
///
/// # Errors
/// [`KeyError`], naming what is wrong. Nothing was done (effect `NotApplied`, retry `Never`).
pub fn check_key(text: &str) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty);
    }
    if text.len() > KEY_BYTES_MAX {
        return Err(KeyError::TooLong { len: text.len() });
    }
    match text.bytes().position(|byte| byte == 0) {
        Some(at) => Err(KeyError::Nul { at }),
        None => Ok(()),
    }
}

/// An owned key; cloning shares the text.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Arc<str>);

impl Key {
    /// The key `text`.
    ///
    /// # Errors
    /// [`KeyError`] when `text` cannot be a key; see [`check_key`].
    pub fn new(text: impl Into<Arc<str>>) -> Result<Self, KeyError> {
        let text = text.into();
        check_key(&text)?;
        Ok(Self(text))
    }

    /// The key as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The same key, borrowed: what a look-up takes.
    pub fn as_ref(&self) -> KeyRef<'_> {
        KeyRef(&self.0)
    }
}

impl Borrow<str> for Key {
    fn borrow(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Key {
    /// Keys may hold personal data: only the length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Key({} bytes)", self.0.len())
    }
}

/// A borrowed key of two words: a look-up copies nothing and allocates nothing.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyRef<'a>(&'a str);

impl<'a> KeyRef<'a> {
    /// The key `text`, borrowed.
    ///
    /// # Errors
    /// [`KeyError`] when `text` cannot be a key; see [`check_key`].
    pub fn new(text: &'a str) -> Result<Self, KeyError> {
        check_key(text)?;
        Ok(Self(text))
    }

    /// The key as text.
    pub const fn as_str(self) -> &'a str {
        self.0
    }

    /// The same key with a text of its own.
    pub fn to_key(self) -> Key {
        Key(self.0.into())
    }
}

impl fmt::Debug for KeyRef<'_> {
    /// Keys may hold personal data: only the length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "KeyRef({} bytes)", self.0.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_limits_are_inclusive_and_named() {
        let longest = "k".repeat(KEY_BYTES_MAX);
        assert!(check_key(&longest).is_ok());
        assert_eq!(check_key(&format!("{longest}k")), Err(KeyError::TooLong { len: 1025 }));
        assert_eq!(check_key(""), Err(KeyError::Empty));
        assert_eq!(check_key("a\0b"), Err(KeyError::Nul { at: 1 }));
    }

    #[test]
    fn a_debug_print_never_shows_the_key() {
        let key = Key::new("card-4111").unwrap();
        assert!(!format!("{key:?}{:?}", key.as_ref()).contains("4111"));
    }
}
