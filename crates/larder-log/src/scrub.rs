//! Reading sealed segments again, so that rot is found before a reader meets it.
//!
//! A pass goes through the segments one after the other, checks header block, record headers and
//! payloads, and reports what is damaged to where readers report it: each entry once. It repairs
//! nothing. An error of the system is no damage; the rest of that segment waits for the next pass.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use crate::Error;
use crate::clock;
use crate::damage::DamageKind;
use crate::index::Location;
use crate::io::read_full;
use crate::pace::{Asking, Pace};
use crate::record::Kind;
use crate::rot::has_footer;
use crate::scan::{Event, Frame};
use crate::segment::{FRAMES_START, Segment, SegmentHeader};
use crate::shared::Shared;
use crate::walk::Walk;

/// Opening has just read, or is being followed by more urgent things.
const FIRST_AFTER: Duration = Duration::from_mins(1);
/// How much of a segment's start is read for its header block.
const HEADER_BYTES: usize = 64;

/// What a pass of the scrubber came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ScrubReport {
    /// Segments that were read to their ends.
    pub segments: u64,
    /// Bytes that were read.
    pub bytes: u64,
    /// Damaged places that were not known before.
    pub found: u64,
    /// Segments that the system could not read.
    pub unreadable: u64,
}

impl Shared {
    /// Scrubs in the background until the log is shut down.
    pub(crate) fn run_scrubber(&self) {
        let pace = Pace::new(self.options.scrub_bytes_per_second);
        let mut wait = FIRST_AFTER.min(self.options.scrub_interval);
        while self.scrubber.pause(wait) {
            let begun = clock::now();
            match self.scrub(Some(&pace)) {
                Ok(report) => tracing::debug!(?report, "scrubbed"),
                Err(_) => return,
            }
            let took = clock::now().saturating_sub(begun);
            wait = self.options.scrub_interval.saturating_sub(took);
        }
    }

    /// One pass over the segments that are sealed now; at once without a pace.
    pub(crate) fn scrub(&self, pace: Option<&Pace>) -> Result<ScrubReport, Error> {
        let mut report = ScrubReport::default();
        let mut sealed = self.all_segments();
        sealed.retain(|segment| segment.is_sealed());
        let sealed: Vec<u32> = sealed.into_iter().map(|segment| segment.id).collect();
        let before = self.counters.corrupt.load(Ordering::Relaxed);
        for id in sealed {
            // Held while it is read, so its file is neither used again nor given back meanwhile.
            let Some(segment) = self.segment(id) else { continue };
            match self.scrub_segment(&segment, pace, &mut report) {
                Ok(()) => report.segments += 1,
                Err(_) if self.is_closed() => return Err(Error::Closed),
                Err(error) => {
                    report.unreadable += 1;
                    tracing::warn!(%error, segment = id, "cannot read a segment to check it");
                }
            }
        }
        let found = self.counters.corrupt.load(Ordering::Relaxed).saturating_sub(before);
        report.found = found;
        self.counters.scrub_passes.fetch_add(1, Ordering::Relaxed);
        Ok(report)
    }

    fn scrub_segment(
        &self,
        segment: &Arc<Segment>,
        pace: Option<&Pace>,
        report: &mut ScrubReport,
    ) -> io::Result<()> {
        let ask = |bytes| self.ask_scrubber(bytes, pace);
        let file = Asking { file: &*segment.file, ask: &ask, forget: true };
        let end = segment.end.load(Ordering::Acquire);
        let short = segment.file.size()? < end && self.segment(segment.id).is_some();
        if short && !segment.told_short.swap(true, Ordering::Relaxed) {
            self.report_structural(u64::from(segment.id), DamageKind::CutShort);
        }
        self.check_header(segment, &file)?;
        let mut walk = Walk::new(&file, segment.seed, FRAMES_START, end)?;
        let mut at = FRAMES_START;
        let mut mended_to = FRAMES_START;
        let records_end = FRAMES_START + segment.record_bytes();
        while let Some(event) = walk.step()? {
            match &event {
                Event::Frame(frame) => self.check_frame(segment, frame),
                // What was mended and still cannot be read is damage.
                Event::Damage { from, to }
                    if *to > mended_to && self.mend_stretch(segment, (*from, *to)) =>
                {
                    mended_to = *to;
                    walk.read_again(*from);
                    continue;
                }
                Event::Damage { from, .. } if *from >= records_end => {
                    self.report_range(segment, (0, 0), DamageKind::Footer);
                }
                Event::Damage { from, to } => {
                    self.report_stretch(segment, (*from, *to));
                }
            }
            let read = event.end().saturating_sub(at);
            at = event.end();
            report.bytes += read;
            self.counters.scrubbed_bytes.fetch_add(read, Ordering::Relaxed);
        }
        Ok(())
    }

    /// Waits until some bytes may be read.
    fn ask_scrubber(&self, bytes: u64, pace: Option<&Pace>) -> io::Result<()> {
        let wait = pace.map_or(Duration::ZERO, |pace| pace.book(bytes, clock::now()));
        if self.is_closed() || (!wait.is_zero() && !self.scrubber.pause(wait)) {
            return Err(io::Error::other("the log is closed"));
        }
        Ok(())
    }

    fn check_header(&self, segment: &Segment, file: &Asking<'_>) -> io::Result<()> {
        let mut bytes = [0; HEADER_BYTES];
        let read = read_full(file, &mut bytes, 0)?;
        let sound = SegmentHeader::decode(&bytes[..read])
            .is_ok_and(|header| header.store == self.store && header.id == u64::from(segment.id));
        if !sound {
            self.report_range(segment, (0, FRAMES_START), DamageKind::SegmentHeader);
        }
        Ok(())
    }

    fn check_frame(&self, segment: &Segment, frame: &Frame) {
        let header = &frame.header;
        match header.kind {
            _ if frame.payload_ok => {}
            Kind::Put => {
                let here = Location::new(segment.id, frame.offset, header.payload_len, header.lsn);
                // What is dead is nobody's entry.
                if self.index.get(&header.slot).is_some_and(|now| now.same_place(&here)) {
                    self.report_payload(header.slot, &here, segment);
                }
            }
            // What it cancels is not known any more.
            Kind::Abort if !has_footer(segment) => {
                let range = (frame.offset, frame.end());
                self.report_range(segment, range, DamageKind::Unidentified);
            }
            // The header says what matters, and without its footer a segment is read in full.
            Kind::Delete | Kind::Abort | Kind::Commit | Kind::Seal | Kind::Footer => {}
        }
    }
}
