//! What stands in front of the data of an entry, in stores that know nothing of lives and versions. The
//! layout is written down in `docs/format/redis-entry-v1.md`.

use larder_core::{CacheValue, Timestamp, Version};

/// The length of the head, in bytes.
pub(super) const HEAD_LEN: usize = 38;

/// The magic, and the number of the layout. The script that decides conditions in Redis knows both.
const MAGIC: [u8; 5] = *b"LRDR\x01";

const HAS_EXPIRE: u8 = 1;
const HAS_STALE: u8 = 2;
const HAS_VERSION: u8 = 4;
const FLAGS_KNOWN: u8 = HAS_EXPIRE | HAS_STALE | HAS_VERSION;

/// What stands in front of the data of `value`: its life and its version.
///
/// Numbers are big-endian, so that a script can compare them byte by byte.
pub(super) fn head<T>(value: &CacheValue<T>) -> [u8; HEAD_LEN] {
    let flag = |set: bool, flag: u8| if set { flag } else { 0 };
    let flags = flag(value.expire.is_some(), HAS_EXPIRE)
        | flag(value.stale.is_some(), HAS_STALE)
        | flag(value.version.is_some(), HAS_VERSION);
    let mut head = [0; HEAD_LEN];
    head[..5].copy_from_slice(&MAGIC);
    head[5] = flags;
    head[6..14].copy_from_slice(&time(value.expire.unwrap_or(Timestamp::EPOCH)));
    head[14..22].copy_from_slice(&time(value.stale.unwrap_or(Timestamp::EPOCH)));
    head[22..].copy_from_slice(&value.version.map_or([0; Version::LEN], Version::to_bytes));
    head
}

/// A time as it stands in a head.
pub(super) fn time(time: Timestamp) -> [u8; 8] {
    time.as_nanos().to_be_bytes()
}

/// The life and the version that a head says; `None` when it is not one of this layout.
pub(super) fn parse(entry: &[u8]) -> Option<CacheValue<()>> {
    let head = entry.first_chunk::<HEAD_LEN>()?;
    let flags = head[5];
    if head[..5] != MAGIC || flags & !FLAGS_KNOWN != 0 {
        return None;
    }
    let time = |at: usize| Timestamp::from_nanos(u64::from_be_bytes(field(head, at)));
    let has = |flag: u8| flags & flag != 0;
    let (expire, stale) = (has(HAS_EXPIRE).then(|| time(6)), has(HAS_STALE).then(|| time(14)));
    let version = if has(HAS_VERSION) { Some(Version::from_bytes(field(head, 22))?) } else { None };
    Some(CacheValue { data: (), expire, stale, version })
}

/// `N` bytes of the head from `at` on; every caller stays inside of it.
fn field<const N: usize>(head: &[u8; HEAD_LEN], at: usize) -> [u8; N] {
    head.get(at..).and_then(<[u8]>::first_chunk::<N>).copied().unwrap_or([0; N])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_what_was_written() {
        let times = [None, Some(Timestamp::EPOCH), Some(Timestamp::from_nanos(1_234_567_890_123))];
        let versions = [None, Some(Version::from_parts(0, 0)), Some(Version::from_parts(7, 9))];
        for expire in times {
            for stale in times {
                for version in versions {
                    let value = CacheValue { data: (), expire, stale, version };
                    let entry = [&head(&value)[..], b"\0data"].concat();
                    assert_eq!(parse(&entry), Some(value));
                }
            }
        }
    }

    #[test]
    fn what_is_not_an_entry_of_this_layout_is_none() {
        let good = [&head(&CacheValue::new(()))[..], b"data"].concat();
        assert!(parse(&good).is_some() && parse(&good[..HEAD_LEN]).is_some());
        for len in 0..HEAD_LEN {
            assert_eq!(parse(&good[..len]), None);
        }
        for (at, byte) in [(0, b'X'), (4, 2), (5, 8)] {
            let mut other = good.clone();
            other[at] = byte;
            assert_eq!(parse(&other), None, "byte {at}");
        }
        let versioned = CacheValue::new(()).with_version(Version::from_parts(7, 9));
        let mut other = head(&versioned).to_vec();
        other[22..30].fill(0xFF);
        assert_eq!(parse(&other), None, "a reading that no clock gives");
    }
}
