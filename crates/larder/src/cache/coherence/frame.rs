//! The bytes that caches tell one another. The layout is in `docs/format/bus-frame-v1.md`.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use larder_core::bus::FRAME_BYTES_MAX;
use larder_core::{Key, Version};

use super::super::Tag;

const MAGIC: [u8; 4] = *b"LRDB";
const WIRE_VERSION: u8 = 1;
const WELL: u8 = 1;
const GOODBYE: u8 = 2;
const FLAGS_KNOWN: u8 = WELL | GOODBYE;

/// Magic, wire version, flags, number of changes, origin, number.
const HEADER_LEN: usize = 4 + 1 + 1 + 1 + 8 + 8;
const CHECKSUM_LEN: usize = 4;

/// What one process tells all others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Frame {
    /// Who tells it: the origin of its versions.
    pub(super) origin: u64,
    /// One more than that of the frame before, unless something was left out.
    pub(super) number: u64,
    /// Whether its own frames come back to it in time.
    pub(super) well: bool,
    /// Whether it is the last one.
    pub(super) goodbye: bool,
    pub(super) changes: Vec<Change>,
}

/// What was changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Change {
    /// A key has a new value, of this version.
    Put(Key, Version),
    /// A key was removed.
    Remove(Key, Version),
    /// Everything with this tag was invalidated, up to this version.
    RemoveTag(Tag, Version),
    /// Everything was invalidated, up to this version.
    Clear(Version),
}

/// Why bytes are no frame that can be read. Something was said that is not known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Written by something else, or in a layout that is not known here.
    Foreign,
    /// Ours, and not as it was written.
    Damaged,
}

impl Change {
    fn kind(&self) -> u8 {
        match self {
            Self::Put(..) => 1,
            Self::Remove(..) => 2,
            Self::RemoveTag(..) => 3,
            Self::Clear(_) => 4,
        }
    }

    pub(in crate::cache) const fn version(&self) -> Version {
        match self {
            Self::Put(_, version)
            | Self::Remove(_, version)
            | Self::RemoveTag(_, version)
            | Self::Clear(version) => *version,
        }
    }

    fn name(&self) -> &str {
        match self {
            Self::Put(key, _) | Self::Remove(key, _) => key.as_str(),
            Self::RemoveTag(tag, _) => tag.as_str(),
            Self::Clear(_) => "",
        }
    }

    /// How many bytes it takes in a frame.
    fn len(&self) -> usize {
        1 + Version::LEN + 2 + self.name().len()
    }

    fn parse(rest: &mut Bytes) -> Option<Self> {
        let kind = rest.try_get_u8().ok()?;
        let version = rest.first_chunk::<{ Version::LEN }>().copied()?;
        rest.advance(Version::LEN);
        let len = usize::from(rest.try_get_u16().ok()?);
        if rest.len() < len {
            return None;
        }
        let name = rest.split_to(len);
        let (version, name) = (Version::from_bytes(version)?, std::str::from_utf8(&name).ok()?);
        match kind {
            1 => Some(Self::Put(Key::new(name).ok()?, version)),
            2 => Some(Self::Remove(Key::new(name).ok()?, version)),
            3 => Some(Self::RemoveTag(Tag::new(name).ok()?, version)),
            4 if name.is_empty() => Some(Self::Clear(version)),
            _ => None,
        }
    }
}

impl Frame {
    /// How many of `changes`, from the first, fit into one frame. At least one does.
    pub(super) fn fitting<'a>(changes: impl IntoIterator<Item = &'a Change>) -> usize {
        let room = FRAME_BYTES_MAX - HEADER_LEN - CHECKSUM_LEN;
        let mut taken = 0;
        let fits = |change: &&Change| {
            taken += change.len();
            taken <= room
        };
        changes.into_iter().take(usize::from(u8::MAX)).take_while(fits).count()
    }

    /// The bytes of this frame; its changes are no more than [`Frame::fitting`] allows.
    pub(super) fn encode(&self) -> Bytes {
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut frame = BytesMut::with_capacity(HEADER_LEN + CHECKSUM_LEN);
        frame.put_slice(&MAGIC);
        frame.put_u8(WIRE_VERSION);
        frame.put_u8(flag(self.well, WELL) | flag(self.goodbye, GOODBYE));
        frame.put_u8(u8::try_from(self.changes.len()).unwrap_or(u8::MAX));
        frame.put_u64(self.origin);
        frame.put_u64(self.number);
        for change in &self.changes {
            frame.put_u8(change.kind());
            frame.put_slice(&change.version().to_bytes());
            // A key is at most 1,024 bytes long, a tag 128.
            frame.put_u16(u16::try_from(change.name().len()).unwrap_or(u16::MAX));
            frame.put_slice(change.name().as_bytes());
        }
        frame.put_u32(checksum(&frame));
        frame.freeze()
    }

    /// Takes a frame apart. Nothing in it is trusted before the checksum holds, and no length even
    /// then.
    pub(super) fn parse(mut bytes: Bytes) -> Result<Self, Unreadable> {
        if bytes.get(..4) != Some(&MAGIC) || bytes.get(4).is_some_and(|wire| *wire != WIRE_VERSION)
        {
            return Err(Unreadable::Foreign);
        }
        let len = bytes.len();
        if !(HEADER_LEN + CHECKSUM_LEN..=FRAME_BYTES_MAX).contains(&len) {
            return Err(Unreadable::Damaged);
        }
        let sum = bytes.split_off(len - CHECKSUM_LEN);
        if sum[..] != checksum(&bytes).to_be_bytes() {
            return Err(Unreadable::Damaged);
        }
        bytes.advance(5);
        let (flags, count) = (bytes.get_u8(), bytes.get_u8());
        if flags & !FLAGS_KNOWN != 0 {
            // The checksum holds, so a later version of this layout wrote it.
            return Err(Unreadable::Foreign);
        }
        let (origin, number) = (bytes.get_u64(), bytes.get_u64());
        let changes: Option<Vec<_>> = (0..count).map(|_| Change::parse(&mut bytes)).collect();
        match changes {
            Some(changes) if bytes.is_empty() => Ok(Self {
                origin,
                number,
                well: flags & WELL != 0,
                goodbye: flags & GOODBYE != 0,
                changes,
            }),
            _ => Err(Unreadable::Foreign),
        }
    }
}

fn checksum(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests;
