//! CRC-32C (Castagnoli), as RFC 3720 defines it.

use crc_fast::CrcAlgorithm::Crc32Iscsi;
use crc_fast::Digest;

/// The checksum of `bytes`.
pub(crate) fn of(bytes: &[u8]) -> u32 {
    crc_fast::crc32_iscsi(bytes)
}

/// The checksum of what `crc` is the checksum of, followed by `bytes`. On a seed that is no checksum
/// of anything this is a checksum that knows the seed.
pub(crate) fn append(crc: u32, bytes: &[u8]) -> u32 {
    let mut digest = Digest::new_with_init_state(Crc32Iscsi, u64::from(!crc));
    digest.update(bytes);
    // A checksum of 32 bits: the other half is zero.
    u32::try_from(digest.finalize()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_check_value_of_the_standard_comes_out() {
        assert_eq!(of(b"123456789"), 0xe306_9283);
        assert_eq!(of(&[0; 32]), 0x8a91_36aa);
    }

    #[test]
    fn what_is_appended_in_pieces_is_the_same() {
        let bytes: Vec<u8> = (0..=255).cycle().take(3000).collect();
        for cut in [0, 1, 36, 255, 1024, 3000] {
            let (front, back) = bytes.split_at(cut);
            assert_eq!(append(of(front), back), of(&bytes), "cut at {cut}");
        }
        assert_ne!(append(1, b"x"), append(2, b"x"), "a seed counts");
    }
}
