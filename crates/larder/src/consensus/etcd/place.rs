//! Where things are in etcd, and how they are written.
//!
//! | key | value |
//! |---|---|
//! | `PREFIX//layout` | the number of this layout |
//! | `PREFIX//h/KEY` | the head: its sequence number, and its data if they are few |
//! | `PREFIX//v/` length of KEY, KEY, sequence number | the data of one version |
//!
//! Numbers are big-endian, so that etcd's order of bytes is theirs. No prefix has two slashes in a row, so
//! that none begins with the keys of another; with the length in front, no range of versions
//! of one key has a version of another one in it.

use bytes::{BufMut as _, Bytes, BytesMut};
use larder_core::{SeqNo, VersionedData};

/// The number of the layout: keys of another one must not be mixed with these.
pub(super) const LAYOUT: u32 = 1;

/// Data of at most so many bytes are kept with the head as well, so that it is read at once.
const INLINE_BYTES_MAX: usize = 4 << 10;
/// What stands behind the number of a head whose data are with the version only, and of the others.
const APART: u8 = 0;
const INLINE: u8 = 1;

/// The keys of one store.
#[derive(Debug)]
pub(super) struct Place(String);

/// All keys from the first to below the second.
pub(super) type Range = (Bytes, Bytes);

/// The head of a key, as it is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Head {
    pub(super) seqno: SeqNo,
    /// `None`: they are with the version.
    pub(super) data: Option<Bytes>,
}

impl Place {
    pub(super) fn new(prefix: &str) -> Self {
        Self(format!("{prefix}//"))
    }

    pub(super) fn layout(&self) -> Bytes {
        format!("{}layout", self.0).into()
    }

    /// All keys of the store.
    pub(super) fn everything(&self) -> Range {
        // The next byte after the last slash.
        let end = format!("{}0", self.0.strip_suffix('/').unwrap_or(&self.0));
        (self.0.clone().into(), end.into())
    }

    pub(super) fn head(&self, key: &str) -> Bytes {
        format!("{}h/{key}", self.0).into()
    }

    /// The heads of all keys after `after`.
    pub(super) fn heads_after(&self, after: &str) -> Range {
        // The next byte after the slash.
        (format!("{}h/{after}\0", self.0).into(), format!("{}h0", self.0).into())
    }

    /// The key whose head is at `place`.
    pub(super) fn key(&self, place: &[u8]) -> Option<String> {
        let key = place.strip_prefix(self.0.as_bytes())?.strip_prefix(b"h/")?;
        String::from_utf8(key.to_vec()).ok()
    }

    pub(super) fn version(&self, key: &str, seqno: SeqNo) -> Bytes {
        let len = u16::try_from(key.len()).unwrap_or(u16::MAX);
        let mut place = BytesMut::with_capacity(self.0.len() + key.len() + 12);
        place.put_slice(self.0.as_bytes());
        place.put_slice(b"v/");
        place.put_u16(len);
        place.put_slice(key.as_bytes());
        place.put_u64(seqno.0);
        place.freeze()
    }

    /// The versions of a key from `from` to below `below`.
    pub(super) fn versions(&self, key: &str, from: SeqNo, below: SeqNo) -> Range {
        (self.version(key, from), self.version(key, below))
    }

    /// All versions of a key from `from` upwards.
    pub(super) fn versions_from(&self, key: &str, from: SeqNo) -> Range {
        // Above every number that there may be.
        self.versions(key, from, SeqNo(u64::MAX))
    }
}

impl Head {
    /// What is written for a new head.
    pub(super) fn write(new: &VersionedData) -> Bytes {
        let inline = new.data.len() <= INLINE_BYTES_MAX;
        let data = if inline { &new.data[..] } else { &[] };
        let mut value = BytesMut::with_capacity(9 + data.len());
        value.put_u64(new.seqno.0);
        value.put_u8(if inline { INLINE } else { APART });
        value.put_slice(data);
        value.freeze()
    }

    pub(super) fn read(value: &Bytes) -> Option<Self> {
        let (seqno, rest) = value.split_first_chunk::<8>()?;
        let seqno = SeqNo(u64::from_be_bytes(*seqno));
        match *rest.first()? {
            APART => Some(Self { seqno, data: None }),
            INLINE => Some(Self { seqno, data: Some(value.slice(9..)) }),
            _ => None,
        }
    }

    /// Between what is written for the heads below `seqno` and what is written for the others.
    pub(super) fn bound(seqno: u64) -> Bytes {
        Bytes::copy_from_slice(&seqno.to_be_bytes())
    }
}

/// The sequence number at the end of the place of a version.
pub(super) fn seqno(place: &[u8]) -> Option<SeqNo> {
    place.last_chunk::<8>().map(|seqno| SeqNo(u64::from_be_bytes(*seqno)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn version(seqno: u64, len: usize) -> VersionedData {
        VersionedData { seqno: SeqNo(seqno), data: vec![7; len].into() }
    }

    #[test]
    fn a_head_is_read_as_it_was_written() {
        for (len, inline) in [(0, true), (INLINE_BYTES_MAX, true), (INLINE_BYTES_MAX + 1, false)] {
            let new = version(9, len);
            let head = Head::read(&Head::write(&new)).unwrap();
            assert_eq!(head, Head { seqno: SeqNo(9), data: inline.then_some(new.data) });
        }
        for odd in [&b""[..], b"1234567", b"12345678", b"12345678\x02"] {
            assert_eq!(Head::read(&Bytes::copy_from_slice(odd)), None);
        }
    }

    #[test]
    fn what_is_written_of_a_head_lies_between_its_bounds_and_no_others() {
        let all = [0, 1, 255, 256, SeqNo::MAX.0 - 1, SeqNo::MAX.0];
        for seqno in all {
            for len in [0, 1, INLINE_BYTES_MAX + 1] {
                let value = Head::write(&version(seqno, len));
                for other in all {
                    let is_between = value > Head::bound(other) && value < Head::bound(other + 1);
                    assert_eq!(is_between, seqno == other, "{seqno} {other}");
                    assert_eq!(value > Head::bound(other), seqno >= other, "{seqno} {other}");
                }
            }
        }
    }

    #[test]
    fn ranges_hold_what_they_say_and_nothing_of_others() {
        let place = Place::new("a");
        let names = ["k", "kk", "k\u{1}", "k/12345678", "k/", "\u{10ffff}"];
        for name in names {
            let (from, below) = place.versions_from(name, SeqNo(3));
            for other in names {
                for number in [0, 2, 3, SeqNo::MAX.0] {
                    let at = place.version(other, SeqNo(number));
                    let is_in = at >= from && at < below;
                    assert_eq!(is_in, name == other && number >= 3, "{name} {other} {number}");
                    assert_eq!(seqno(&at), Some(SeqNo(number)));
                }
                let (first, end) = place.heads_after(name);
                let at = place.head(other);
                assert_eq!(at >= first && at < end, other > name, "{name} {other}");
                assert!(!(at >= from && at < below));
            }
            assert_eq!(place.key(&place.head(name)).as_deref(), Some(name));
            let (first, end) = place.everything();
            for (at, is_ours) in [
                (place.head(name), true),
                (place.version(name, SeqNo::MAX), true),
                (place.layout(), true),
                (Place::new("a/b").head(name), false),
                (Place::new("a0").layout(), false),
            ] {
                assert_eq!(at >= first && at < end, is_ours, "{at:?}");
            }
            // A prefix that goes on with what this one calls its heads.
            assert_eq!(place.key(&Place::new("a/h").head(name)), None);
        }
    }
}
