//! From a key to the name of its object, and back.

use std::fmt::Write as _;

/// The name of the object of a key.
///
/// Letters, digits and `-` stand for themselves, every other byte is `_` and two hexadecimal digits: nothing that
/// a store, a path or a URL has another meaning for. A name of more than [`SPELLED_MAX`] characters is the SHA-256
/// of the key instead, in a folder of its own; the object has the key.
pub(super) fn of(key: &str) -> String {
    let mut name = String::from(SPELLED);
    for byte in key.bytes() {
        if is_itself(byte) {
            name.push(char::from(byte));
        } else {
            // A text takes whatever is written to it.
            let _ = write!(name, "_{byte:02x}");
        }
        if name.len() > SPELLED.len() + SPELLED_MAX {
            return hashed(key);
        }
    }
    name
}

/// What the name of an object says about its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Meant {
    Key(String),
    /// It is in the object.
    Hashed,
    /// It is not the name of a key's object.
    Nothing,
}

/// All objects of keys have names that begin so.
pub(super) const KEYS: &str = "keys/";
const SPELLED: &str = "keys/by-name/";
const HASHED: &str = "keys/by-hash/";
/// Some stores keep objects as files, whose names have at most 255 bytes.
const SPELLED_MAX: usize = 200;

const fn is_itself(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'-'
}

fn hashed(key: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, key.as_bytes());
    let mut name = String::from(HASHED);
    for byte in digest.as_ref() {
        let _ = write!(name, "{byte:02x}");
    }
    name
}

/// What a name stands for.
pub(super) fn meaning(name: &str) -> Meant {
    if name.starts_with(HASHED) {
        return Meant::Hashed;
    }
    let key = name.strip_prefix(SPELLED).and_then(spelled);
    // One key has one name.
    match key.filter(|key| of(key) == name) {
        Some(key) => Meant::Key(key),
        None => Meant::Nothing,
    }
}

fn spelled(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, others)) = rest.split_first() {
        if *first == b'_' {
            let digits = std::str::from_utf8(others.get(..2)?).ok()?;
            bytes.push(u8::from_str_radix(digits, 16).ok()?);
            rest = &others[2..];
        } else {
            bytes.push(*first);
            rest = others;
        }
    }
    String::from_utf8(bytes).ok().filter(|key| !key.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::{any, proptest};

    use super::*;

    #[test]
    fn names_have_nothing_that_means_something_elsewhere() {
        let table = [
            ("leader", "keys/by-name/leader"),
            ("a/b", "keys/by-name/a_2fb"),
            ("..", "keys/by-name/_2e_2e"),
            ("_", "keys/by-name/_5f"),
            ("é", "keys/by-name/_c3_a9"),
            ("A-z 9", "keys/by-name/A-z_209"),
        ];
        for (key, name) in table {
            assert_eq!(of(key), name);
            assert_eq!(meaning(name), Meant::Key(key.to_owned()));
        }
        let longest = "k".repeat(200);
        assert_eq!(of(&longest), format!("keys/by-name/{longest}"));
        let name = of(&"k".repeat(201));
        assert_eq!(name.len(), "keys/by-hash/".len() + 64);
        assert_eq!(meaning(&name), Meant::Hashed);
        // The digest of a text that everybody knows, filled up.
        assert!(of(&"é".repeat(512)).starts_with("keys/by-hash/"));
    }

    #[test]
    fn what_is_no_name_means_nothing() {
        for name in [
            "keys/by-name/",
            "keys/by-name/_",
            "keys/by-name/_2",
            "keys/by-name/_2F",
            "keys/by-name/_+f",
            "keys/by-name/_61",
            "keys/by-name/a/b",
            "keys/by-name/_ff",
            "keys/other/a",
            "keys/a",
            "",
        ] {
            assert_eq!(meaning(name), Meant::Nothing, "{name}");
        }
    }

    proptest! {
        #[test]
        fn every_key_has_one_name_that_leads_back(key in any::<String>()) {
            if larder_core::key::check_key(&key).is_ok() {
                match meaning(&of(&key)) {
                    Meant::Key(back) => assert_eq!(back, key),
                    Meant::Hashed => assert!(key.len() > 66),
                    Meant::Nothing => panic!("no way back from {key:?}"),
                }
            }
        }
    }
}
