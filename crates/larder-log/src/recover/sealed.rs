//! Reading the sealed segments: their footers, or where there is none to believe, all of them.
//!
//! Twice over, on several threads. First every footer is checked, and what was given up is noted,
//! since that decides about records of other segments. Then the records are brought into the index.
//! A footer is in memory only while it is being read, so the second round reads it again, out of
//! the page cache.

use std::io;
use std::num::NonZeroUsize;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::replay::Replay;
use super::{Found, Loader};
use crate::damage::DamageKind;
use crate::footer::{Footer, SEAL_BYTES};
use crate::io::File;
use crate::mend::{self, Mended};
use crate::record::{Header, Kind};
use crate::scan::{Body, Event, Frame, frame_at, scan};
use crate::segment::{FRAMES_START, Origin, Segment};

/// More threads than this gain nothing.
const THREADS_MAX: usize = 16;
/// Frames of walked segments that are kept from the first round to the second (about 50 MB).
const KEPT_MAX: usize = 1 << 19;

/// What the first round found out about a segment.
struct Known {
    segment: Arc<Segment>,
    content: Content,
    /// Frames that cancel others.
    aborts: Vec<Frame>,
    max_lsn: u64,
    damage: Vec<(u64, u64)>,
    /// It was sealed with a footer, which cannot be believed.
    footer_lost: bool,
    /// Headers that were put right.
    mended: Vec<(u64, Header)>,
}

enum Content {
    /// The checksum of the footer that was checked.
    Footer(u32),
    /// What a walk met.
    Frames(Vec<Frame>),
    /// Too much to keep: it is walked again.
    Walk,
}

impl Loader {
    /// Reads the sealed segments `found`, and notes what was given up; `full`: never by a footer.
    pub(super) fn read_sealed(&mut self, found: &[Found], full: bool) -> io::Result<Vec<Sealed>> {
        let segments: Vec<Arc<Segment>> =
            found.iter().map(|found| self.new_segment(found, found.limit, true)).collect();
        let kept = AtomicUsize::new(0);
        let mut known = in_parallel(found.len(), |at| {
            first_look(&found[at], Arc::clone(&segments[at]), full, &kept)
        })?;
        for known in &mut known {
            self.note_mended(u64::from(known.segment.id), std::mem::take(&mut known.mended));
            self.max_lsn = self.max_lsn.max(known.max_lsn);
            self.replay.note_aborts(&known.aborts);
            for (from, to) in &known.damage {
                self.report_range(&known.segment, *from, *to);
            }
            match known.content {
                Content::Footer(_) => self.recovery.footers += 1,
                _ => self.recovery.walked += 1,
            }
            if known.footer_lost {
                self.report(&known.segment, (0, 0), DamageKind::Footer);
            }
        }
        let sealed = known.into_iter().zip(found).map(|(known, found)| Sealed {
            segment: known.segment,
            content: known.content,
            after: found.last_before(),
        });
        Ok(sealed.collect())
    }

    /// Brings the records of the segments in. Every abort of the log is known by now.
    pub(super) fn apply_sealed(&self, sealed: Vec<Sealed>) -> io::Result<()> {
        let sealed: Vec<Mutex<Option<Sealed>>> =
            sealed.into_iter().map(|sealed| Mutex::new(Some(sealed))).collect();
        in_parallel(sealed.len(), |at| {
            let taken = sealed[at].lock().unwrap_or_else(PoisonError::into_inner).take();
            taken.map_or(Ok(()), |sealed| apply(&self.replay, sealed))
        })?;
        Ok(())
    }
}

/// A segment whose records are still to be brought in.
pub(super) struct Sealed {
    segment: Arc<Segment>,
    content: Content,
    /// As in [`mend::scan`].
    after: Option<u64>,
}

fn first_look(
    found: &Found,
    segment: Arc<Segment>,
    full: bool,
    kept: &AtomicUsize,
) -> io::Result<Known> {
    let mut known = Known {
        segment,
        content: Content::Walk,
        aborts: Vec::new(),
        max_lsn: 0,
        damage: Vec::new(),
        footer_lost: false,
        mended: Vec::new(),
    };
    let (file, seed) = (&*found.file, known.segment.seed);
    let lsns = (found.max_lsn != 0).then_some((found.min_lsn, found.max_lsn));
    let footer =
        if found.limit_is_exact { Footer::read(file, seed, found.limit, lsns)? } else { None };
    if let Some(footer) = footer.as_ref().filter(|_| !full) {
        known.max_lsn = footer.max_lsn;
        let tail = footer.header.frame_len() + SEAL_BYTES;
        known.segment.tail_bytes.store(tail, Ordering::Relaxed);
        known.aborts = footer.frames().filter(is_abort).collect();
        known.content = Content::Footer(footer.header.payload_crc);
        return Ok(known);
    }
    let limit = (found.limit, found.limit_is_exact);
    let walked = walk(file, seed, limit, footer.as_ref(), found.last_before())?;
    let Walked { frames, damage, mended, reached } = walked;
    known.damage = damage;
    known.mended = mended;
    if reached < found.limit && found.limit_is_exact {
        known.damage.push((reached, found.limit));
    }
    let footer_expected = found.limit_is_exact && footer.is_none();
    known.footer_lost =
        lost_footer(found, &known.segment, &frames, &mut known.damage, footer_expected);
    known.max_lsn = frames.iter().map(|frame| frame.header.lsn).max().unwrap_or(0);
    known.aborts = frames.iter().filter(|frame| is_abort(frame)).cloned().collect();
    let is_lost = |frame: &&Frame| frame.header.kind == Kind::Abort && !is_abort(frame);
    known.damage.extend(frames.iter().filter(is_lost).map(|frame| (frame.offset, frame.end())));
    if kept.fetch_add(frames.len(), Ordering::Relaxed) + frames.len() <= KEPT_MAX {
        known.content = Content::Frames(frames);
    }
    Ok(known)
}

/// What a walk met.
struct Walked {
    frames: Vec<Frame>,
    /// Stretches of which nothing is known.
    damage: Vec<(u64, u64)>,
    /// Headers that were put right.
    mended: Vec<(u64, Header)>,
    /// Where it ended.
    reached: u64,
}

/// Reads all of a segment. Where a header cannot be read, a footer tells what it said; without one
/// a single rotten byte is found out. `after`: as in [`mend::scan`].
fn walk(
    file: &dyn File,
    seed: u32,
    (limit, is_exact): (u64, bool),
    footer: Option<&Footer>,
    after: Option<u64>,
) -> io::Result<Walked> {
    let mut scan = scan(file, seed, FRAMES_START, limit)?;
    if is_exact {
        scan.extend_to(limit);
    }
    let mut mended = Vec::new();
    if footer.is_none() {
        Mended { scan, headers: mended } = mend::scan(file, seed, scan, after, limit)?;
    }
    let mut walked =
        Walked { frames: Vec::new(), damage: Vec::new(), mended, reached: FRAMES_START };
    let mut told = footer.map(|footer| footer.frames().peekable());
    for event in scan.events {
        walked.reached = walked.reached.max(event.end());
        match (event, &mut told) {
            (Event::Frame(frame), None) => walked.frames.push(frame),
            (Event::Frame(mut frame), Some(told)) => {
                while told.next_if(|told| told.offset < frame.offset).is_some() {}
                let same = told.next_if(|told| told.header == frame.header);
                if let Some(told) = same.filter(|_| !frame.payload_ok) {
                    frame.body = told.body;
                }
                walked.frames.push(frame);
            }
            (Event::Damage { from, to }, None) => walked.damage.push((from, to)),
            (Event::Damage { from, to }, Some(told)) => {
                while told.next_if(|frame| frame.offset < from).is_some() {}
                while let Some(frame) = told.next_if(|frame| frame.offset < to) {
                    let found = frame_at(file, seed, frame.offset, frame.header, limit)?;
                    if found.payload_ok {
                        walked.mended.push((frame.offset, frame.header));
                    }
                    // Of what cancels, the footer says all.
                    walked.frames.push(Frame { body: frame.body, ..found });
                }
            }
        }
    }
    Ok(walked)
}

/// Whether a part of footer or seal is unreadable; with `expected` also whether there is a footer
/// at all: it was not believed. What is unreadable there is taken out of the damage, since no record
/// was there.
fn lost_footer(
    found: &Found,
    segment: &Segment,
    frames: &[Frame],
    damage: &mut Vec<(u64, u64)>,
    expected: bool,
) -> bool {
    let is_record = |frame: &&Frame| !matches!(frame.header.kind, Kind::Footer | Kind::Seal);
    let seal = frames.iter().find_map(|frame| match &frame.body {
        Body::Seal(seal) => Some(seal),
        _ => None,
    });
    let ends = seal.map(|seal| if seal.footer == 0 { seal.offset } else { seal.footer });
    let footer = frames.iter().find(|frame| frame.header.kind == Kind::Footer);
    // Without both, the last position tells: those of the committer ascend without gaps.
    let ends = ends.or(footer.map(|frame| frame.offset)).or_else(|| {
        let ascending = found.header.origin != Origin::Compaction && found.max_lsn != 0;
        let last = frames.iter().rfind(is_record)?;
        (ascending && last.header.lsn == found.max_lsn).then(|| last.end())
    });
    let before = damage.len();
    if let Some(ends) = ends {
        // Replaying counts what can be read of it.
        let read = frames.iter().filter(|frame| !is_record(frame));
        let read: u64 = read.map(|frame| frame.header.frame_len()).sum();
        let unread = found.limit.saturating_sub(ends).saturating_sub(read);
        segment.tail_bytes.store(unread, Ordering::Relaxed);
    }
    damage.retain(|(from, _)| ends.is_none_or(|ends| *from < ends));
    let rotten = frames.iter().any(|frame| !is_record(&frame) && !frame.payload_ok);
    let made = footer.is_some() || seal.is_some_and(|seal| seal.footer != 0);
    rotten || damage.len() < before || (expected && made)
}

fn is_abort(frame: &Frame) -> bool {
    matches!(frame.body, Body::Abort(_))
}

fn apply(replay: &Replay, sealed: Sealed) -> io::Result<()> {
    let Sealed { segment, content, after } = sealed;
    let segment = &*segment;
    let (file, seed) = (&*segment.file, segment.seed);
    let end = segment.end.load(Ordering::Relaxed);
    let footer = match content {
        Content::Frames(frames) => {
            replay.apply(segment, frames.into_iter());
            return Ok(());
        }
        Content::Footer(crc) => {
            if let Some(footer) = Footer::read(file, seed, end, None)?
                && footer.header.payload_crc == crc
            {
                replay.apply(segment, footer.frames());
                return Ok(());
            }
            // It has changed since: the frames themselves are there as before.
            segment.tail_bytes.store(0, Ordering::Relaxed);
            None
        }
        Content::Walk => Footer::read(file, seed, end, None)?,
    };
    let walked = walk(file, seed, (end, true), footer.as_ref(), after)?;
    replay.apply(segment, walked.frames.into_iter());
    Ok(())
}

/// Runs `job` for `0..count` on as many threads as there are processors; the first error counts.
fn in_parallel<T: Send>(
    count: usize,
    job: impl Fn(usize) -> io::Result<T> + Sync,
) -> io::Result<Vec<T>> {
    let processors = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let next = AtomicUsize::new(0);
    let done = Mutex::new(Vec::with_capacity(count));
    let work = || {
        loop {
            let at = next.fetch_add(1, Ordering::Relaxed);
            if at >= count {
                break;
            }
            let result = job(at);
            if result.is_err() {
                next.store(count, Ordering::Relaxed);
            }
            done.lock().unwrap_or_else(PoisonError::into_inner).push((at, result));
        }
    };
    std::thread::scope(|scope| {
        for _ in 1..processors.min(THREADS_MAX).min(count) {
            // A thread that cannot be had is no loss: this one does all of it.
            let _ =
                std::thread::Builder::new().name("larder-open".into()).spawn_scoped(scope, work);
        }
        work();
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(at, _)| *at);
    done.into_iter().map(|(_, result)| result).collect()
}
