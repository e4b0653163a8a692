//! Whose records, of which type: the part of a key that keeps strangers apart.

use larder_core::{Key, KeyRef, key::KEY_BYTES_MAX};
use rapidhash::v3::rapidhash_v3;

/// The longest namespace, in bytes.
pub const NAMESPACE_BYTES_MAX: usize = 128;

/// Whose records these are and which type they hold.
///
/// Both are in the key of every record, so that two services on one store, or two versions of one
/// type during a rolling deploy, neither read nor overwrite nor delete each other's entries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Schema {
    fingerprint: u64,
    /// `namespace:fingerprint:`
    prefix: String,
}

/// Why a schema is refused. Nothing was done (effect `NotApplied`, retry `Never`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SchemaError {
    /// The namespace is empty or longer than [`NAMESPACE_BYTES_MAX`].
    #[error("the namespace is {len} bytes long: give 1 to {NAMESPACE_BYTES_MAX}")]
    NamespaceLength {
        /// Its length in bytes.
        len: usize,
    },
    /// The namespace has a character other than letters, digits, `-`, `_`, `.` and `/`.
    #[error(
        "the namespace has a character that is not allowed at byte {at}: use letters, digits, -, _, . and /"
    )]
    NamespaceCharacter {
        /// Where the first one is.
        at: usize,
    },
}

impl Schema {
    /// The records of `namespace` that hold the type `name` in its `version`.
    ///
    /// Raise `version` when a record of the old type must not be read as the new one. The names of
    /// Rust types play no part: they change with compilers and refactorings.
    ///
    /// # Errors
    /// [`SchemaError`] for a namespace that is empty, too long or not plain text.
    pub fn new(namespace: &str, name: &str, version: u32) -> Result<Self, SchemaError> {
        check_namespace(namespace)?;
        let fingerprint = rapidhash_v3(format!("{name}\0{version}").as_bytes());
        Ok(Self { fingerprint, prefix: format!("{namespace}:{fingerprint:016x}:") })
    }

    /// The number in the record: one for each type name and version.
    pub const fn fingerprint(&self) -> u64 {
        self.fingerprint
    }

    /// The key of the record of `key`.
    pub(super) fn place(&self, key: KeyRef<'_>) -> Place {
        let text = key.as_str();
        if self.prefix.len() + text.len() <= KEY_BYTES_MAX
            && let Ok(key) = Key::new(format!("{}={text}", self.prefix).as_str())
        {
            return Place { key, digested: false };
        }
        // `#` instead of `=`: no short key can name the place of a long one.
        let halves = [text.as_bytes(), &[text.as_bytes(), &[0]].concat()].map(rapidhash_v3);
        let digest = format!("{}#{:016x}{:016x}", self.prefix, halves[0], halves[1]);
        let key = Key::new(digest.as_str()).unwrap_or_else(|_| key.to_key());
        Place { key, digested: true }
    }
}

/// Checks that `namespace` can stand in front of keys: it has no colon, which ends it, and nothing
/// that a pattern of a store would mean otherwise.
fn check_namespace(namespace: &str) -> Result<(), SchemaError> {
    if namespace.is_empty() || namespace.len() > NAMESPACE_BYTES_MAX {
        return Err(SchemaError::NamespaceLength { len: namespace.len() });
    }
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
    match namespace.bytes().position(|byte| !plain(byte)) {
        Some(at) => Err(SchemaError::NamespaceCharacter { at }),
        None => Ok(()),
    }
}

/// Where a record is stored.
pub(super) struct Place {
    pub(super) key: Key,
    /// Whether the key was too long beside the prefix, so that its place is a digest of it and the
    /// record itself has to name it.
    pub(super) digested: bool,
}
