//! Memory that small payloads share: one allocation for many, as the thread that frees them is
//! mostly another one than this.

use bytes::{Bytes, BytesMut};

/// What a caller that keeps one small payload keeps at most. Not a slice of what was read: that is
/// larger, and much of it may be entries that were deleted.
const CHUNK: usize = 16 << 10;
/// Larger payloads have memory of their own. No more than this stays unused at the end of a chunk.
const SHARED_MAX: usize = CHUNK / 4;

#[derive(Debug, Default)]
pub(super) struct Chunk {
    free: BytesMut,
}

impl Chunk {
    pub(super) fn copy(&mut self, payload: &[u8]) -> Bytes {
        if payload.is_empty() || payload.len() > SHARED_MAX {
            return Bytes::copy_from_slice(payload);
        }
        if self.free.capacity() < payload.len() {
            self.free = BytesMut::with_capacity(CHUNK);
        }
        self.free.extend_from_slice(payload);
        self.free.split().freeze()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_are_whole_and_a_kept_one_keeps_no_more_than_a_chunk() {
        let mut chunk = Chunk::default();
        let sizes = [1, 1000, 3, SHARED_MAX, 7, SHARED_MAX - 1, 0, SHARED_MAX + 1, 100];
        let payloads = (0..500).map(|n| vec![u8::try_from(n % 251).unwrap_or(0); sizes[n % 9]]);
        let payloads: Vec<Vec<u8>> = payloads.collect();
        let copies: Vec<Bytes> = payloads.iter().map(|payload| chunk.copy(payload)).collect();
        assert_eq!(copies, payloads);
        for (copy, payload) in copies.iter().zip(&payloads) {
            let alone = payload.is_empty() || payload.len() > SHARED_MAX;
            assert_eq!(copy.is_unique(), alone && !payload.is_empty(), "{} bytes", payload.len());
        }
        // Neighbours that share memory lie in one stretch of it, without a gap.
        let small = copies.iter().filter(|copy| (1..=SHARED_MAX).contains(&copy.len()));
        let (mut end, mut held, mut chunks) = (0, 0, 0);
        for copy in small {
            let at = copy.as_ptr() as usize;
            if at != end || held + copy.len() > CHUNK {
                assert!(held == 0 || held + copy.len() > CHUNK, "begun anew after {held} bytes");
                (held, chunks) = (0, chunks + 1);
            }
            held += copy.len();
            end = at + copy.len();
        }
        assert!(chunks > 10, "{chunks}");
    }
}
