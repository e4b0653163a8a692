//! The bytes of a debt. The layout is in `docs/format/debt-record-v1.md`.

use bytes::{Buf as _, BufMut as _, Bytes, BytesMut};
use larder_core::{Key, Timestamp, Version};

use super::super::debts::{Due, Loss, Missed};
use crate::compose::CompositionLayer;

const MAGIC: [u8; 4] = *b"LRDO";
const LAYOUT: u8 = 1;
const CHECKSUM_LEN: usize = 4;
const FORGET: u8 = 1;
const VOID: u8 = 2;
const MISSED: u8 = 4;
const EXPIRE: u8 = 8;
const FLAGS_KNOWN: u8 = FORGET | VOID | MISSED | EXPIRE;

/// A debt as it is written down.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::cache::tiered) struct Record {
    pub(in crate::cache::tiered) layer: CompositionLayer,
    /// `None`: the layer as a whole.
    pub(in crate::cache::tiered) key: Option<Key>,
    pub(in crate::cache::tiered) owes: Owes,
}

/// What a layer owes of a key, or as a whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache::tiered) struct Owes {
    pub(in crate::cache::tiered) due: Due,
    pub(in crate::cache::tiered) loss: Loss,
}

/// Why bytes are no debt that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Unreadable {
    /// Written by something else.
    Foreign,
    /// Ours, and not as it was written, or in a layout that is not known here.
    Damaged,
}

impl Owes {
    /// That the layer has to be cleared.
    pub(in crate::cache::tiered) const EVERYTHING: Self = Self::all(Due::Remove);

    /// That the layer has to be cleared, or to forget everything.
    pub(in crate::cache::tiered) const fn all(due: Due) -> Self {
        Self { due, loss: Loss { missed: None, void: None } }
    }
}

impl Record {
    pub(super) fn encode(&self, name: &Key) -> Bytes {
        let Loss { missed, void } = self.owes.loss;
        let expire = missed.and_then(|missed| missed.expire);
        let flag = |set: bool, flag: u8| if set { flag } else { 0 };
        let mut record = BytesMut::new();
        record.put_slice(&MAGIC);
        record.put_u8(LAYOUT);
        record.put_u8(match self.layer {
            CompositionLayer::L1 => 1,
            CompositionLayer::L2 => 2,
        });
        record.put_u8(
            flag(self.owes.due == Due::Forget, FORGET)
                | flag(void.is_some(), VOID)
                | flag(missed.is_some(), MISSED)
                | flag(expire.is_some(), EXPIRE),
        );
        for version in void.into_iter().chain(missed.map(|missed| missed.version)) {
            record.put_slice(&version.to_bytes());
        }
        if let Some(expire) = expire {
            record.put_u64(expire.as_nanos());
        }
        for text in [name.as_str(), self.key.as_ref().map_or("", Key::as_str)] {
            // Both are at most 1,024 bytes long.
            record.put_u16(u16::try_from(text.len()).unwrap_or(u16::MAX));
            record.put_slice(text.as_bytes());
        }
        record.put_u32(checksum(&record));
        record.freeze()
    }
}

/// Takes a record apart: whose it is, and what it says. Nothing in it is trusted before the checksum
/// holds, and no length even then.
pub(super) fn parse(bytes: &Bytes) -> Result<(Key, Record), Unreadable> {
    if bytes.get(..MAGIC.len()) != Some(&MAGIC) {
        return Err(Unreadable::Foreign);
    }
    let at = bytes.len().saturating_sub(CHECKSUM_LEN);
    let (mut body, sum) = (bytes.slice(..at), bytes.slice(at..));
    if sum[..] != checksum(&body).to_be_bytes() {
        return Err(Unreadable::Damaged);
    }
    body.advance(MAGIC.len());
    let read = read(&mut body).filter(|_| body.is_empty());
    read.ok_or(Unreadable::Damaged)
}

fn read(body: &mut Bytes) -> Option<(Key, Record)> {
    let (layout, layer, flags) =
        (body.try_get_u8().ok()?, body.try_get_u8().ok()?, body.try_get_u8().ok()?);
    let layer = match layer {
        1 => CompositionLayer::L1,
        2 => CompositionLayer::L2,
        _ => return None,
    };
    if layout != LAYOUT || flags & !FLAGS_KNOWN != 0 || flags & (MISSED | EXPIRE) == EXPIRE {
        return None;
    }
    let has = |flag: u8| flags & flag != 0;
    let void = if has(VOID) { Some(version(body)?) } else { None };
    let missed = if has(MISSED) { Some(version(body)?) } else { None };
    let expire =
        if has(EXPIRE) { Some(Timestamp::from_nanos(body.try_get_u64().ok()?)) } else { None };
    let (name, key) = (text(body)?, text(body)?);
    let key = if key.is_empty() { None } else { Some(Key::new(key).ok()?) };
    let missed = missed.map(|version| Missed { version, expire });
    let due = if has(FORGET) { Due::Forget } else { Due::Remove };
    let owes = Owes { due, loss: Loss { missed, void } };
    Some((Key::new(name).ok()?, Record { layer, key, owes }))
}

fn version(body: &mut Bytes) -> Option<Version> {
    let version = body.first_chunk::<{ Version::LEN }>().copied()?;
    body.advance(Version::LEN);
    Version::from_bytes(version)
}

fn text(body: &mut Bytes) -> Option<String> {
    let len = usize::from(body.try_get_u16().ok()?);
    if body.len() < len {
        return None;
    }
    String::from_utf8(body.split_to(len).to_vec()).ok()
}

fn checksum(bytes: &[u8]) -> u32 {
    let sum = crc_fast::checksum(crc_fast::CrcAlgorithm::Crc32Iscsi, bytes);
    u32::try_from(sum).unwrap_or(u32::MAX)
}
