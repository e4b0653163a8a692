//! Walks the frames of a segment file and says what it met. It decides nothing: whether a bad
//! stretch is torn or corrupt depends on what was durable, which is the business of recovery.

use std::io;

use crate::crc32c;
use crate::io::{File, read_full};
use crate::record::{
    ALIGN, Commit, HEADER_LEN, Header, Kind, Seal, decode_abort, decode_delete, header_crc, take,
};

const WINDOW: usize = 1 << 20;
const STRIDE: usize = 8;
const _: () = assert!(STRIDE as u64 == ALIGN);
/// Control frames are small; a larger one is noise.
const BODY_MAX: u32 = 1 << 20;

/// One thing on the way through a segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    /// A frame whose header is sound.
    Frame(Frame),
    /// A stretch without any sound header.
    Damage { from: u64, to: u64 },
}

/// A frame whose header is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) offset: u64,
    pub(crate) header: Header,
    /// The checksum that the header carries.
    pub(crate) header_crc: u32,
    /// Whether the payload is sound, too.
    pub(crate) payload_ok: bool,
    pub(crate) body: Body,
}

/// The payload of a control frame, where it is sound.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Body {
    /// Not a control frame, or an unreadable one.
    None,
    Delete(u64),
    Commit(Commit),
    Abort(Box<[(u64, u64)]>),
    Seal(Seal),
    /// Only read where a folder is checked from outside.
    Footer(Box<[u8]>),
}

/// What a walk met.
#[derive(Clone, Debug, Default)]
pub(crate) struct Scan {
    pub(crate) events: Vec<Event>,
    /// Where the last sound frame ended.
    pub(crate) end: u64,
}

impl Scan {
    /// A stretch at the end goes on to where the frames are known to end.
    pub(crate) fn extend_to(&mut self, end: u64) {
        if let Some(Event::Damage { to, .. }) = self.events.last_mut() {
            *to = end.max(*to);
        }
    }
}

impl Event {
    /// Where it ends.
    pub(crate) fn end(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.end(),
            Self::Damage { to, .. } => *to,
        }
    }

    pub(crate) fn frame(&self) -> Option<&Frame> {
        match self {
            Self::Frame(frame) => Some(frame),
            Self::Damage { .. } => None,
        }
    }

    pub(crate) fn start(&self) -> u64 {
        match self {
            Self::Frame(frame) => frame.offset,
            Self::Damage { from, .. } => *from,
        }
    }
}

impl Frame {
    pub(crate) fn end(&self) -> u64 {
        self.offset + self.header.frame_len()
    }
}

/// Walks `from .. limit` (cut to the file's length). Zeros up to the limit are no event.
pub(crate) fn scan(file: &dyn File, seed: u32, from: u64, limit: u64) -> io::Result<Scan> {
    let limit = limit.min(file.size()?);
    let mut window = Window { file, start: 0, bytes: Vec::new(), limit };
    let mut found = Scan { events: Vec::new(), end: from };
    let mut at = from;
    while at < limit {
        if let Some(frame) = read_frame(&mut window, seed, at)? {
            at = frame.end();
            found.end = at;
            found.events.push(Event::Frame(frame));
            continue;
        }
        if let Some(next) = find_header(&mut window, seed, at + ALIGN)? {
            found.events.push(Event::Damage { from: at, to: next });
            at = next;
            continue;
        }
        if let Some(last) = last_non_zero(&mut window, at)? {
            found.events.push(Event::Damage { from: at, to: last });
        }
        break;
    }
    Ok(found)
}

/// The frame at `at`, if its header is sound and its payload lies within the limit.
fn read_frame(window: &mut Window<'_>, seed: u32, at: u64) -> io::Result<Option<Frame>> {
    let bytes = window.get(at, HEADER_LEN)?;
    let Some(header) = Header::decode(bytes, seed) else { return Ok(None) };
    let header_crc = u32::from_le_bytes(take(bytes, 0));
    finish(window, at, header, header_crc).map(Some)
}

/// The frame at `at`, whose header is known from elsewhere.
pub(crate) fn frame_at(
    file: &dyn File,
    seed: u32,
    at: u64,
    header: Header,
    limit: u64,
) -> io::Result<Frame> {
    let mut window = Window { file, start: 0, bytes: Vec::new(), limit };
    let header_crc = header_crc(&header.encode(seed));
    finish(&mut window, at, header, header_crc)
}

/// Adds to a header what the bytes behind it say.
fn finish(window: &mut Window<'_>, at: u64, header: Header, header_crc: u32) -> io::Result<Frame> {
    let payload_at = at + HEADER_LEN as u64;
    if payload_at + u64::from(header.payload_len) > window.limit {
        // The header is sound but the file ends before the payload does.
        let frame = Frame { offset: at, header, header_crc, payload_ok: false, body: Body::None };
        return Ok(frame);
    }
    let payload_ok = window.crc(payload_at, header.payload_len)? == header.payload_crc;
    let control =
        !matches!(header.kind, Kind::Put | Kind::Footer) && header.payload_len <= BODY_MAX;
    let body = if payload_ok && control {
        decode_body(header.kind, window.get(payload_at, header.payload_len as usize)?)
    } else {
        Body::None
    };
    Ok(Frame { offset: at, header, header_crc, payload_ok, body })
}

fn decode_body(kind: Kind, bytes: &[u8]) -> Body {
    match kind {
        // A footer is read from the end, and only where a segment need not be walked.
        Kind::Put | Kind::Footer => Body::None,
        Kind::Delete => Body::Delete(decode_delete(bytes)),
        Kind::Commit => Commit::decode(bytes).map_or(Body::None, Body::Commit),
        Kind::Abort => Body::Abort(decode_abort(bytes).into_boxed_slice()),
        Kind::Seal => Seal::decode(bytes).map_or(Body::None, Body::Seal),
    }
}

/// The first aligned offset from `at` on that holds a sound header.
fn find_header(window: &mut Window<'_>, seed: u32, mut at: u64) -> io::Result<Option<u64>> {
    while at + HEADER_LEN as u64 <= window.limit {
        let bytes =
            window.get(at, WINDOW.min(usize::try_from(window.limit - at).unwrap_or(WINDOW)))?;
        let mut i = 0;
        while i + HEADER_LEN <= bytes.len() {
            // The kind byte rules out nearly everything before the checksum is worth computing.
            if (1..=6).contains(&bytes[i + 4]) && Header::decode(&bytes[i..], seed).is_some() {
                return Ok(Some(at + i as u64));
            }
            i += STRIDE;
        }
        if i == 0 {
            break;
        }
        at += i as u64;
    }
    Ok(None)
}

/// The end of the last byte from `at` on that is not zero.
fn last_non_zero(window: &mut Window<'_>, mut at: u64) -> io::Result<Option<u64>> {
    let mut last = None;
    while at < window.limit {
        let len = WINDOW.min(usize::try_from(window.limit - at).unwrap_or(WINDOW));
        let bytes = window.get(at, len)?;
        if bytes.is_empty() {
            break;
        }
        if let Some(i) = bytes.iter().rposition(|byte| *byte != 0) {
            last = Some(at + i as u64 + 1);
        }
        at += bytes.len() as u64;
    }
    Ok(last)
}

/// A piece of the file in memory, moved forward as the walk goes on.
struct Window<'a> {
    file: &'a dyn File,
    start: u64,
    bytes: Vec<u8>,
    limit: u64,
}

impl Window<'_> {
    /// `len` bytes at `at`, fewer at the limit.
    fn get(&mut self, at: u64, len: usize) -> io::Result<&[u8]> {
        let len = len.min(usize::try_from(self.limit.saturating_sub(at)).unwrap_or(usize::MAX));
        let held = at >= self.start && at + len as u64 <= self.start + self.bytes.len() as u64;
        if !held {
            let want = len.max(WINDOW);
            let want = want.min(usize::try_from(self.limit.saturating_sub(at)).unwrap_or(want));
            self.bytes.resize(want, 0);
            self.start = at;
            let read = read_full(self.file, &mut self.bytes, at)?;
            self.bytes.truncate(read);
        }
        let from = usize::try_from(at - self.start).unwrap_or(0);
        let to = (from + len).min(self.bytes.len());
        Ok(&self.bytes[from.min(to)..to])
    }

    /// The checksum of `len` bytes at `at`, which may be more than the window holds.
    fn crc(&mut self, mut at: u64, len: u32) -> io::Result<u32> {
        let mut left = len as usize;
        let mut crc = 0;
        while left > 0 {
            let bytes = self.get(at, left.min(WINDOW))?;
            if bytes.is_empty() {
                break;
            }
            crc = crc32c::append(crc, bytes);
            at += bytes.len() as u64;
            left -= bytes.len().min(left);
        }
        Ok(crc)
    }
}
