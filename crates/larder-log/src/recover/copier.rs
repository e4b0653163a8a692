//! Copying what lay above the durable mark into a segment of its own.

use std::io;

use crate::crc32c;
use crate::footer::Hints;
use crate::group::control_frame;
use crate::io::{File, read_full, write_all};
use crate::record::{self, Commit, HEADER_LEN, Header, Kind, encode_abort, header_crc, take};
use crate::scan::{Body, Frame};
use crate::segment::FRAMES_START;

/// Copies frames to the end of a new segment.
pub(super) struct Copier<'a> {
    file: &'a dyn File,
    seed: u32,
    end: u64,
}

impl<'a> Copier<'a> {
    pub(super) fn new(file: &'a dyn File, seed: u32) -> Self {
        Self { file, seed, end: FRAMES_START }
    }

    /// Copies one frame under the same position; returns it as it lies in the new file.
    pub(super) fn copy(&mut self, from: &dyn File, frame: &Frame) -> io::Result<Frame> {
        let len = usize::try_from(frame.header.payload_len).map_err(io::Error::other)?;
        let mut payload = vec![0; len];
        let read = read_full(from, &mut payload, frame.offset + HEADER_LEN as u64)?;
        if read < len || crc32c::of(&payload) != frame.header.payload_crc {
            return Err(io::Error::other("a payload changed while it was copied"));
        }
        let header = frame.header.encode(self.seed);
        let zeros = [0; 8];
        let parts = [&header[..], &payload, &zeros[..record::padding(len)]];
        write_all(self.file, &parts, self.end)?;
        let copy = Frame { offset: self.end, header_crc: header_crc(&header), ..frame.clone() };
        self.end = copy.end();
        Ok(copy)
    }

    /// Adds a record that cancels ranges of positions; returns it as it lies in the file.
    pub(super) fn cancel(&mut self, lsn: u64, ranges: &[(u64, u64)]) -> io::Result<Frame> {
        let payload = encode_abort(ranges);
        let header = Header::control(Kind::Abort, lsn, &payload);
        let bytes = control_frame(Kind::Abort, lsn, &payload, self.seed);
        write_all(self.file, &[&bytes], self.end)?;
        let frame = Frame {
            offset: self.end,
            header,
            header_crc: header_crc(&take(&bytes, 0)),
            payload_ok: true,
            body: Body::Abort(ranges.into()),
        };
        self.end = frame.end();
        Ok(frame)
    }

    /// Ends the copies with their commit; says where that ends, and what a footer has to say.
    pub(super) fn commit(
        mut self,
        lsn: u64,
        durable_lsn: u64,
        copies: &[Frame],
    ) -> io::Result<(u64, Hints)> {
        let headers_crc =
            copies.iter().fold(0, |crc, copy| crc32c::append(crc, &copy.header_crc.to_le_bytes()));
        let commit = Commit {
            first_lsn: copies.first().map_or(lsn, |copy| copy.header.lsn),
            durable_lsn,
            count: u32::try_from(copies.len()).unwrap_or(u32::MAX),
            headers_crc,
        };
        let payload = commit.encode();
        let frame = control_frame(Kind::Commit, lsn, &payload, self.seed);
        write_all(self.file, &[&frame], self.end)?;
        self.end += frame.len() as u64;
        let mut hints = Hints::default();
        for copy in copies {
            hints.push_frame(copy);
        }
        hints.push(&Header::control(Kind::Commit, lsn, &payload), &[]);
        hints.cover(&header_crc(&take(&frame, 0)).to_le_bytes());
        Ok((self.end, hints))
    }
}
