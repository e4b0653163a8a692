//! Telling what rot has hit in a segment that is in use, and putting right what can be.

use std::io;
use std::sync::atomic::Ordering;

use crate::damage::{Damage, DamageKind};
use crate::footer::Footer;
use crate::mend;
use crate::record::Header;
use crate::scan::frame_at;
use crate::segment::{self, Segment};
use crate::shared::Shared;

impl Shared {
    /// Puts the headers right that cannot be read in a stretch of a sealed segment: whether that was
    /// all that was wrong with it. The caller holds the segment, so its file is used for no other.
    pub(crate) fn mend_stretch(&self, segment: &Segment, (from, to): (u64, u64)) -> bool {
        let mended = (|| {
            let headers = readable(segment, (from, to))?;
            let ends = headers.last().map_or(from, |(at, header)| at + header.frame_len());
            let whole = headers.first().is_some_and(|(at, _)| *at == from) && ends >= to;
            if whole {
                let path = segment::path(&self.dir, u64::from(segment.id));
                mend::write(&*self.io.open(&path, true)?, segment.seed, &headers)?;
                tracing::warn!(segment = segment.id, offset = from, "mended headers");
            }
            Ok::<_, io::Error>(whole)
        })();
        mended.unwrap_or_else(|error| {
            tracing::warn!(%error, segment = segment.id, offset = from, "cannot mend headers");
            false
        })
    }

    /// Notes a stretch in which no record header can be read. The entries that lie there are known
    /// from memory: each is noted as well. Returns how many these are.
    pub(crate) fn report_stretch(&self, segment: &Segment, (from, to): (u64, u64)) -> u64 {
        let mut lost = Vec::new();
        self.index.for_each(|slot, location| {
            if location.segment() == segment.id && (from..to).contains(&location.offset()) {
                lost.push((*slot, *location));
            }
        });
        for (slot, location) in &lost {
            self.report_payload(*slot, location, segment);
        }
        // It may also have held deletes.
        if !has_footer(segment) {
            self.report_range(segment, (from, to), DamageKind::Unidentified);
        }
        lost.len() as u64
    }

    /// Notes damage that belongs to no entry in particular, once.
    pub(crate) fn report_range(&self, segment: &Segment, (from, to): (u64, u64), what: DamageKind) {
        segment.damaged.store(true, Ordering::Relaxed);
        let new = self.damage.add(Damage {
            slot: None,
            segment: u64::from(segment.id),
            offset: from,
            bytes: to - from,
            what,
        });
        if new {
            self.counters.corrupt.fetch_add(1, Ordering::Relaxed);
            tracing::warn!(segment = segment.id, offset = from, %what, "damage found");
            if what.is_structural() {
                self.health.report_structural();
            }
        }
    }
}

/// Whether a footer remembers what the segment holds, deletes and what cancels included.
pub(crate) fn has_footer(segment: &Segment) -> bool {
    let end = segment.end.load(Ordering::Acquire);
    matches!(Footer::read(&*segment.file, segment.seed, end, None), Ok(Some(_)))
}

/// The headers of a stretch whose payloads are sound: by the footer, or one rotten byte each.
fn readable(segment: &Segment, (from, to): (u64, u64)) -> io::Result<Vec<(u64, Header)>> {
    let (file, seed) = (&*segment.file, segment.seed);
    let end = segment.end.load(Ordering::Acquire);
    let Some(footer) = Footer::read(file, seed, end, None)? else {
        return mend::stretch(file, seed, (from, to));
    };
    let mut headers = Vec::new();
    for told in footer.frames().filter(|told| (from..to).contains(&told.offset)) {
        if !frame_at(file, seed, told.offset, told.header, end)?.payload_ok {
            break;
        }
        headers.push((told.offset, told.header));
    }
    Ok(headers)
}
