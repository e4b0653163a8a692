//! Tags: names that values share, so that they can be invalidated together.

use std::fmt;
use std::sync::Arc;

use bytes::{Buf as _, Bytes};
use larder_core::{BoxError, Effect, Failure, Retry};

use super::{Codec, Weight};

mod floors;

pub(super) use floors::Floors;

/// A name that values share.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tag(Arc<str>);

/// Why a text is not a tag, or tags are too many. Nothing was done.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TagError {
    /// The text is empty.
    #[error("a tag is empty: give at least one character")]
    Empty,
    /// The text is longer than [`Tag::BYTES_MAX`].
    #[error("a tag is {len} bytes long: at most {} are allowed", Tag::BYTES_MAX)]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// The text holds a comma, which separates tags in headers, or a control character.
    #[error("a tag has a comma or control character at byte {at}: remove it")]
    Character {
        /// Where the first one is.
        at: usize,
    },
    /// More than [`Tags::MAX`] tags on one value.
    #[error("a value has {count} tags: at most {} are allowed", Tags::MAX)]
    TooMany {
        /// How many were given.
        count: usize,
    },
}

impl Failure for TagError {
    fn effect(&self) -> Effect {
        Effect::NotApplied
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl Tag {
    /// The longest tag, in bytes.
    pub const BYTES_MAX: usize = 128;

    /// The tag `text`.
    ///
    /// # Errors
    /// [`TagError`] when it is empty, too long, or has a comma or control character.
    pub fn new(text: &str) -> Result<Self, TagError> {
        if text.is_empty() {
            return Err(TagError::Empty);
        }
        if text.len() > Self::BYTES_MAX {
            return Err(TagError::TooLong { len: text.len() });
        }
        match text.find(|character: char| character == ',' || character.is_control()) {
            Some(at) => Err(TagError::Character { at }),
            None => Ok(Self(text.into())),
        }
    }

    /// The tag as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Tag {
    /// Tags may hold personal data: only the length is shown.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Tag({} bytes)", self.0.len())
    }
}

/// The tags of a value: sorted, each once. Clones share them; no tags take no memory.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Tags(Option<Arc<[Tag]>>);

impl Tags {
    /// The most tags of one value.
    pub const MAX: usize = 32;

    /// No tags.
    pub const NONE: Self = Self(None);

    /// These tags.
    ///
    /// # Errors
    /// [`TagError::TooMany`] beyond [`Tags::MAX`].
    pub fn new(tags: impl IntoIterator<Item = Tag>) -> Result<Self, TagError> {
        let mut tags: Vec<Tag> = tags.into_iter().collect();
        tags.sort_unstable();
        tags.dedup();
        match tags.len() {
            0 => Ok(Self::NONE),
            count if count > Self::MAX => Err(TagError::TooMany { count }),
            _ => Ok(Self(Some(tags.into()))),
        }
    }

    /// The tags in a list such as `red, green`, as headers have it. Blanks around a tag are not
    /// part of it; an empty list has none.
    ///
    /// # Errors
    /// [`TagError`] when a part of the list is not a tag, or there are too many.
    pub fn from_list(list: &str) -> Result<Self, TagError> {
        if list.trim().is_empty() {
            return Ok(Self::NONE);
        }
        let tags: Result<Vec<Tag>, TagError> =
            list.split(',').map(|part| Tag::new(part.trim())).collect();
        Self::new(tags?)
    }

    /// Whether there are none.
    pub const fn is_empty(&self) -> bool {
        self.0.is_none()
    }

    /// The tags in order.
    pub fn iter(&self) -> std::slice::Iter<'_, Tag> {
        self.0.as_deref().unwrap_or_default().iter()
    }
}

impl<'a> IntoIterator for &'a Tags {
    type Item = &'a Tag;
    type IntoIter = std::slice::Iter<'a, Tag>;

    fn into_iter(self) -> Self::IntoIter {
        self.iter()
    }
}

impl fmt::Debug for Tags {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_list().entries(self).finish()
    }
}

/// What the tiers of a [`Cache`](super::Cache) hold: a value, or that there is none, with its tags.
///
/// Both travel into every layer: an invalidation by tag also covers copies that a refill brings
/// back, and what is known not to exist is known in every tier.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "plain data that callers build and take apart")]
pub struct Tagged<V> {
    /// The value; `None`: it is known that there is none (a negative entry).
    pub data: Option<V>,
    /// Its tags.
    pub tags: Tags,
}

impl<V> Tagged<V> {
    /// A value with its tags.
    pub const fn new(data: V, tags: Tags) -> Self {
        Self { data: Some(data), tags }
    }

    /// The note that there is no value.
    pub const fn absent(tags: Tags) -> Self {
        Self { data: None, tags }
    }
}

impl<V: Weight> Weight for Tagged<V> {
    fn weight(&self) -> u64 {
        let tags = self.tags.iter().map(|tag| size_of::<Tag>() + 16 + tag.as_str().len());
        let tags = u64::try_from(tags.sum::<usize>()).unwrap_or(u64::MAX);
        self.data.as_ref().map_or(0, V::weight).saturating_add(tags)
    }
}

/// Tags before the bytes of another codec. Its number is that of the other one, with the highest
/// bit set. A negative entry has no bytes of the other codec at all.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "a codec around a codec")]
pub struct TaggedCodec<C>(pub C);

/// Set beside the number of tags when there is no value.
const ABSENT: u8 = 0x80;

impl<V, C: Codec<V>> Codec<Tagged<V>> for TaggedCodec<C> {
    fn id(&self) -> u16 {
        self.0.id() | 0x8000
    }

    fn encode(&self, value: &Tagged<V>, into: &mut Vec<u8>) -> Result<(), BoxError> {
        let absent = if value.data.is_none() { ABSENT } else { 0 };
        into.push(u8::try_from(value.tags.iter().len())? | absent);
        for tag in &value.tags {
            into.push(u8::try_from(tag.as_str().len())?);
            into.extend_from_slice(tag.as_str().as_bytes());
        }
        value.data.as_ref().map_or(Ok(()), |data| self.0.encode(data, into))
    }

    fn decode(&self, mut encoded: Bytes) -> Result<Tagged<V>, BoxError> {
        let first = encoded.try_get_u8()?;
        let mut tags = Vec::new();
        for _ in 0..first & !ABSENT {
            let len = usize::from(encoded.try_get_u8()?);
            if encoded.len() < len {
                return Err("a tag reaches beyond the end".into());
            }
            tags.push(Tag::new(std::str::from_utf8(&encoded.split_to(len))?)?);
        }
        let tags = Tags::new(tags)?;
        match (first & ABSENT != 0, encoded.is_empty()) {
            (false, _) => Ok(Tagged::new(self.0.decode(encoded)?, tags)),
            (true, true) => Ok(Tagged::absent(tags)),
            (true, false) => Err("a negative entry has a value".into()),
        }
    }
}
