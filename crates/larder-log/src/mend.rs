//! Putting right what one rotten byte did to a header.
//!
//! A header is 40 bytes under a checksum, so that each of its bytes can be tried with each other
//! value. What fits the checksum must also fit everything else that is known: its neighbours, its
//! place and the checksum of its payload. Only if a single candidate is left it is taken.

use std::io;

use crate::io::{File, read_full};
use crate::record::{HEADER_LEN, Header, Kind, take};
use crate::scan::{Event, Frame, Scan, frame_at};

/// A walk whose unreadable headers were put right where that could be done.
#[derive(Debug)]
pub(crate) struct Mended {
    pub(crate) scan: Scan,
    /// The headers that were put right, with their places.
    pub(crate) headers: Vec<(u64, Header)>,
}

/// The headers from which `bytes` differ in one byte.
pub(crate) fn candidates(bytes: &[u8], seed: u32) -> Vec<Header> {
    let mut found = Vec::new();
    let mut bytes: [u8; HEADER_LEN] = take(bytes, 0);
    for at in 0..HEADER_LEN {
        let before = bytes[at];
        for change in 1..=u8::MAX {
            bytes[at] = before ^ change;
            found.extend(Header::decode(&bytes, seed));
        }
        bytes[at] = before;
    }
    found
}

/// What is known of a place at which no header can be read.
#[derive(Clone, Copy, Debug)]
struct Place {
    at: u64,
    /// No frame there reaches beyond.
    limit: u64,
    /// The positions before and behind it.
    after: u64,
    before: u64,
}

/// Puts right what can be in the stretches of `scan`, whose frames have ascending positions above
/// `after` if that is given; `limit` is where the file or its frames end.
pub(crate) fn scan(
    file: &dyn File,
    seed: u32,
    scan: Scan,
    after: Option<u64>,
    limit: u64,
) -> io::Result<Mended> {
    let mut mended =
        Mended { scan: Scan { events: Vec::new(), end: scan.end }, headers: Vec::new() };
    if scan.events.iter().all(|event| event.frame().is_some()) {
        return Ok(Mended { scan, ..mended });
    }
    let limit = limit.min(file.size()?);
    let mut last = after;
    let mut events = scan.events.into_iter().peekable();
    while let Some(event) = events.next() {
        let (mut from, to) = match event {
            Event::Frame(frame) => {
                last = last.map(|_| frame.header.lsn);
                mended.scan.events.push(Event::Frame(frame));
                continue;
            }
            Event::Damage { from, to } => (from, to),
        };
        let next = events.peek().and_then(Event::frame);
        while from < to {
            let place = Place {
                at: from,
                limit: if next.is_some() { to } else { limit },
                after: last.unwrap_or(0),
                // Behind the last frame only the next position can stand.
                before: match (last, next) {
                    (None, _) => u64::MAX,
                    (Some(_), Some(next)) => next.header.lsn,
                    (Some(last), None) => last.saturating_add(2),
                },
            };
            let Some(frame) = frame(file, seed, place)? else { break };
            last = last.map(|_| frame.header.lsn);
            from = frame.end();
            mended.scan.end = mended.scan.end.max(from);
            mended.headers.push((frame.offset, frame.header));
            mended.scan.events.push(Event::Frame(frame));
        }
        if from < to {
            mended.scan.events.push(Event::Damage { from, to });
        }
    }
    Ok(mended)
}

/// The headers of a stretch between two sound ones, as far as they can be put right.
pub(crate) fn stretch(
    file: &dyn File,
    seed: u32,
    (from, to): (u64, u64),
) -> io::Result<Vec<(u64, Header)>> {
    let mut headers = Vec::new();
    let mut place = Place { at: from, limit: to, after: 0, before: u64::MAX };
    while place.at < to
        && let Some(frame) = frame(file, seed, place)?
    {
        headers.push((frame.offset, frame.header));
        place.at = frame.end();
    }
    Ok(headers)
}

/// The only frame that can have been at a place.
fn frame(file: &dyn File, seed: u32, place: Place) -> io::Result<Option<Frame>> {
    let mut bytes = [0; HEADER_LEN];
    if read_full(file, &mut bytes, place.at)? < HEADER_LEN {
        return Ok(None);
    }
    let mut only = None;
    for header in candidates(&bytes, seed) {
        // What footers and seals say is said again by the frames before them.
        let fits = !matches!(header.kind, Kind::Footer | Kind::Seal)
            && header.lsn > place.after
            && header.lsn < place.before
            && place.at + header.frame_len() <= place.limit;
        if !fits {
            continue;
        }
        let frame = frame_at(file, seed, place.at, header, place.limit)?;
        if frame.payload_ok && only.replace(frame).is_some() {
            return Ok(None);
        }
    }
    Ok(only)
}

/// Writes headers to their places.
pub(crate) fn write(file: &dyn File, seed: u32, headers: &[(u64, Header)]) -> io::Result<()> {
    for (at, header) in headers {
        crate::io::write_all(file, &[&header.encode(seed)], *at)?;
    }
    file.sync()
}

#[cfg(test)]
mod tests;
