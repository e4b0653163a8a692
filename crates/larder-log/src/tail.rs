//! What to keep of the segment that was being written when the log died.
//!
//! Everything up to the durable mark had survived a sync: what is bad there is corrupt, is reported
//! and never cut. Above the mark nobody was told that anything is safe from power loss by way of a
//! record behind it: whole groups are kept up to the first thing that is not right, and the rest is
//! a torn tail.

use crate::crc32c;
use crate::record::{Commit, Kind};
use crate::scan::{Body, Event, Frame, Scan};
use crate::segment::{Origin, SegmentHeader};

/// A tail, divided.
#[derive(Debug, Default)]
pub(crate) struct Tail {
    /// The highest position that had survived a sync for sure.
    pub(crate) durable_lsn: u64,
    /// Sound headers at or below the mark.
    pub(crate) below: Vec<Frame>,
    /// Stretches at or below the mark that cannot be read.
    pub(crate) corrupt: Vec<(u64, u64)>,
    /// Where the part at or below the mark ends.
    pub(crate) below_end: u64,
    /// Frames of whole groups above the mark, commits not included.
    pub(crate) above: Vec<Frame>,
    /// Bytes that are cut.
    pub(crate) torn_bytes: u64,
}

/// Divides what a scan of the segment with this header met. `floor` is the mark that the manifest
/// knows of.
pub(crate) fn divide(scan: Scan, header: &SegmentHeader, floor: u64) -> Tail {
    let durable_lsn = scan.events.iter().filter_map(durable_mark).fold(floor, u64::max);
    let mut divider = Divider {
        tail: Tail { durable_lsn, below_end: scan_start(&scan), ..Tail::default() },
        // A segment that recovery began holds older positions first, with gaps.
        last_lsn: if header.origin == Origin::Recovery {
            0
        } else {
            header.base_lsn.saturating_sub(1)
        },
        group: Vec::new(),
    };
    // Behind the last sound frame of a file that is written again lies what it held before.
    let last = scan.events.last().filter(|_| !header.recycled);
    let torn_to = last.map_or(scan.end, Event::end);
    let scan_end = scan.end;
    for event in scan.events {
        let start = event.start();
        if let Step::Torn = divider.take(event) {
            let from = divider.group.first().map_or(start, |frame| frame.offset);
            divider.tail.torn_bytes = torn_to.saturating_sub(from);
            return divider.tail;
        }
    }
    if let Some(frame) = divider.group.first() {
        divider.tail.torn_bytes = torn_to.saturating_sub(frame.offset);
    } else if divider.last_lsn < durable_lsn {
        // The scan ended in zeros, or at the end of the file, before it met all that was durable.
        divider.tail.corrupt.push((scan_end, scan_end));
    }
    divider.tail
}

struct Divider {
    tail: Tail,
    last_lsn: u64,
    /// Frames above the mark whose commit is still to come.
    group: Vec<Frame>,
}

enum Step {
    On,
    Torn,
}

impl Divider {
    fn take(&mut self, event: Event) -> Step {
        match event {
            Event::Damage { from, to } => self.take_damage(from, to),
            Event::Frame(frame) if frame.header.lsn <= self.last_lsn => {
                // Positions ascend: this is not where it belongs.
                self.take_damage(frame.offset, frame.end())
            }
            Event::Frame(frame) if frame.header.lsn <= self.tail.durable_lsn => {
                self.last_lsn = frame.header.lsn;
                self.tail.below_end = frame.end();
                self.tail.below.push(frame);
                Step::On
            }
            Event::Frame(frame) => self.take_above(frame),
        }
    }

    fn take_damage(&mut self, from: u64, to: u64) -> Step {
        if self.last_lsn >= self.tail.durable_lsn {
            return Step::Torn;
        }
        self.tail.corrupt.push((from, to));
        self.tail.below_end = to;
        Step::On
    }

    fn take_above(&mut self, frame: Frame) -> Step {
        let expected = self.last_lsn.max(self.tail.durable_lsn) + 1;
        if frame.header.lsn != expected || !frame.payload_ok {
            return Step::Torn;
        }
        self.last_lsn = frame.header.lsn;
        match frame.body {
            Body::Commit(commit) => {
                if commit != self.expected_commit(&frame, commit.durable_lsn) {
                    return Step::Torn;
                }
                self.tail.above.append(&mut self.group);
                Step::On
            }
            // Footer and seal stand alone behind the last group.
            _ if matches!(frame.header.kind, Kind::Footer | Kind::Seal) => {
                if self.group.is_empty() { Step::On } else { Step::Torn }
            }
            _ if frame.header.kind == Kind::Commit => Step::Torn,
            _ => {
                self.group.push(frame);
                Step::On
            }
        }
    }

    fn expected_commit(&self, commit: &Frame, durable_lsn: u64) -> Commit {
        let headers_crc = self
            .group
            .iter()
            .fold(0, |crc, frame| crc32c::append(crc, &frame.header_crc.to_le_bytes()));
        Commit {
            first_lsn: self.group.first().map_or(commit.header.lsn, |frame| frame.header.lsn),
            durable_lsn,
            count: u32::try_from(self.group.len()).unwrap_or(u32::MAX),
            headers_crc,
        }
    }
}

fn durable_mark(event: &Event) -> Option<u64> {
    match event {
        Event::Frame(Frame { body: Body::Commit(commit), header, .. }) => {
            // A commit cannot vouch for itself or for what comes after it.
            (commit.durable_lsn < header.lsn).then_some(commit.durable_lsn)
        }
        _ => None,
    }
}

fn scan_start(scan: &Scan) -> u64 {
    scan.events.first().map_or(scan.end, Event::start)
}

#[cfg(test)]
mod tests;
