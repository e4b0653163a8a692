//! Which segments to rewrite.
//!
//! The choice is that of the log-structured file system (Rosenblum and Ousterhout 1992): what a
//! rewrite gives back times the age of the segment, over what the rewrite costs. Only segments that
//! give back at least as much as is copied come into question, so what is copied in all stays below
//! what was ever written, and the log writes at most twice what it is given. Only on a disk that is
//! short of room more is copied.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::CompactMode;
use crate::footer::{PUT_HINT_BYTES, SEAL_BYTES};
use crate::segment::Segment;
use crate::shared::Shared;

/// Dead bytes that are tolerated besides as many as are live, in segments.
const SLACK_SEGMENTS: u64 = 2;
/// On a disk that is short of room this part of the live bytes may be dead, and a rewrite has to give
/// back this part of what it copies.
const SHORT_PART: u64 = 8;
/// A segment below this part of the usual size is small.
const SMALL_PART: u64 = 8;
/// So many small segments are made one.
const SMALL_MAX: usize = 16;

/// What is known of one sealed segment, from memory.
struct Figures {
    segment: Arc<Segment>,
    /// Bytes of all frames but the seal.
    data: u64,
    /// Bytes of live records.
    live: u64,
    /// Bytes that a rewrite would write: the live ones, the deletes when any may be needed, and about
    /// what their footer takes.
    kept: u64,
    /// Its deletes may be needed.
    pinned: bool,
}

impl Figures {
    fn of(segment: Arc<Segment>, all: &[Arc<Segment>]) -> Self {
        let data = segment.data_bytes().saturating_sub(SEAL_BYTES);
        let live = segment.live_bytes.load(Ordering::Relaxed);
        let pinned = needs_tombstones(&segment, all);
        let tombstones = segment.tombstone_bytes.load(Ordering::Relaxed);
        // The copies have a footer, too; a delete is about twice as long as what that says of it.
        let hints = segment.live_records.load(Ordering::Relaxed) * PUT_HINT_BYTES;
        let kept = live + hints + if pinned { tombstones + tombstones / 2 } else { 0 };
        Self { segment, data, live, kept, pinned }
    }

    fn gain(&self) -> u64 {
        self.data.saturating_sub(self.kept)
    }

    /// Copying it costs no more than it gives back; on a disk that is `short` of room, not much more.
    fn pays(&self, short: bool) -> bool {
        let worth = if short { self.gain().saturating_mul(SHORT_PART) } else { self.gain() };
        self.gain() > 0 && worth >= self.kept
    }

    /// Benefit over cost: `(1 - u) * age / (1 + u)`, age by positions since its youngest record.
    fn score(&self, newest: u64) -> u128 {
        let age = newest.saturating_sub(self.segment.lsn_range().1) + 1;
        u128::from(self.gain()) * u128::from(age) / u128::from((self.data + self.kept).max(1))
    }

    fn is_damaged(&self) -> bool {
        self.segment.damaged.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Whether the background has something to do: a dead segment, more dead bytes than the bound
    /// allows, or many small segments.
    pub(crate) fn wants_compaction(&self) -> bool {
        !self.find_dead().is_empty() || !self.choose_victims(CompactMode::Due).is_empty()
    }

    /// Sealed segments that hold nothing that is needed.
    pub(super) fn find_dead(&self) -> Vec<Arc<Segment>> {
        let all = self.all_segments();
        let mut dead = all.clone();
        dead.retain(|segment| {
            segment.is_sealed()
                && segment.live_records.load(Ordering::Relaxed) == 0
                && !needs_tombstones(segment, &all)
        });
        dead
    }

    /// The segments that are to be rewritten next, those that gain most first.
    pub(super) fn choose_victims(&self, mode: CompactMode) -> Vec<Arc<Segment>> {
        let all = self.all_segments();
        let sealed = all.iter().filter(|segment| segment.is_sealed());
        let mut figures: Vec<Figures> =
            sealed.map(|segment| Figures::of(Arc::clone(segment), &all)).collect();
        if mode == CompactMode::Full {
            return self.choose_all(figures);
        }
        // What is damaged stays as it is: it counts neither as a burden nor as a way out.
        figures.retain(|figures| !figures.is_damaged());
        let dead: u64 = all.iter().map(|segment| dead_bytes(segment)).sum();
        let excess = dead.saturating_sub(self.dead_bytes_max());
        if mode == CompactMode::Due && excess == 0 {
            return self.choose_small(&figures);
        }
        let paying = self.choose_paying(&figures, excess);
        if !paying.is_empty() || excess == 0 {
            return paying;
        }
        let pinning = choose_pinning(&figures, &all);
        if pinning.is_empty() { self.choose_small(&figures) } else { pinning }
    }

    /// What `bytes` cost of the rate of the background: less the further it has fallen behind, and
    /// nothing when it has to hurry.
    pub(super) fn cost(&self, bytes: u64) -> u64 {
        let left = self.dead_bytes_of_hurry().saturating_sub(self.dead_bytes());
        if self.health.is_short_of_space() {
            return 0;
        }
        let slack = SLACK_SEGMENTS * self.options.segment_bytes;
        let cost = u128::from(bytes) * u128::from(left.min(slack)) / u128::from(slack);
        u64::try_from(cost).unwrap_or(bytes)
    }

    /// Dead bytes in sealed segments.
    pub(super) fn dead_bytes(&self) -> u64 {
        self.all_segments().iter().map(|segment| dead_bytes(segment)).sum()
    }

    /// How many of them may be there before the background acts: as many as are live, and two
    /// segments. On a disk that is short of room much fewer.
    fn dead_bytes_max(&self) -> u64 {
        let live = self.counters.live_bytes.load(Ordering::Relaxed);
        if self.health.is_short_of_space() {
            return live / SHORT_PART;
        }
        live.saturating_add(SLACK_SEGMENTS * self.options.segment_bytes)
    }

    /// With so many of them the background does not keep to its rate any more, and with more writers
    /// have to wait for it.
    pub(super) fn dead_bytes_of_hurry(&self) -> u64 {
        let live = self.counters.live_bytes.load(Ordering::Relaxed);
        live.saturating_add(2 * SLACK_SEGMENTS * self.options.segment_bytes)
    }

    /// Everything that is not exactly what a rewrite would make of it.
    fn choose_all(&self, mut figures: Vec<Figures>) -> Vec<Arc<Segment>> {
        let many_small = figures.iter().filter(|figures| self.is_small(figures)).count() > 1;
        figures.retain(|figures| {
            let segment = &figures.segment;
            segment.put_bytes.load(Ordering::Relaxed) > figures.live
                || segment.tombstone_bytes.load(Ordering::Relaxed) > 0
                || figures.gain() > figures.data / 8
                || (many_small && self.is_small(figures))
        });
        figures.into_iter().map(|figures| figures.segment).collect()
    }

    /// The best of those that give back as much as they cost: as many as the excess asks for, within
    /// one segment of copies.
    fn choose_paying(&self, figures: &[Figures], excess: u64) -> Vec<Arc<Segment>> {
        let newest = self.published_lsn.load(Ordering::Acquire);
        let short = self.health.is_short_of_space();
        let mut paying: Vec<&Figures> =
            figures.iter().filter(|figures| figures.pays(short)).collect();
        paying
            .sort_by_key(|figures| (std::cmp::Reverse(figures.score(newest)), figures.segment.id));
        let (mut gain, mut kept) = (0, 0);
        let wanted = paying.into_iter().take_while(|figures| {
            let first = gain == 0;
            let more = gain < excess && kept + figures.kept <= self.options.segment_bytes;
            gain += figures.gain();
            kept += figures.kept;
            first || more
        });
        wanted.map(|figures| Arc::clone(&figures.segment)).collect()
    }

    /// Small segments, once there are many: each costs a header block, a file handle and a line in
    /// the manifest. They come from copies of the little that was left of large ones.
    fn choose_small(&self, figures: &[Figures]) -> Vec<Arc<Segment>> {
        let mut small: Vec<&Figures> =
            figures.iter().filter(|figures| self.is_small(figures)).collect();
        if small.len() < SMALL_MAX {
            return Vec::new();
        }
        small.sort_by_key(|figures| figures.data);
        let mut bytes = 0;
        let fitting = small.into_iter().take_while(|figures| {
            bytes += figures.data;
            bytes <= self.options.segment_bytes
        });
        fitting.map(|figures| Arc::clone(&figures.segment)).collect()
    }

    fn is_small(&self, figures: &Figures) -> bool {
        figures.data < self.options.segment_bytes / SMALL_PART
    }
}

/// Bytes in a segment that are not live, deletes among them, as far as anything can be done about it.
fn dead_bytes(segment: &Segment) -> u64 {
    if !segment.is_sealed() || segment.damaged.load(Ordering::Relaxed) {
        return 0;
    }
    let data = segment.data_bytes().saturating_sub(SEAL_BYTES);
    data.saturating_sub(segment.live_bytes.load(Ordering::Relaxed))
}

/// The oldest segment that keeps deletes alive elsewhere, when only these stand in the way.
///
/// A delete is needed as long as some segment may hold a version that it hides, and one dead record
/// is enough for that. Rewriting all that hold on to deletes copies at most what is live in them, and
/// what the deletes then give back is more: together with the other dead bytes it is what exceeds
/// the bound.
fn choose_pinning(figures: &[Figures], all: &[Arc<Segment>]) -> Vec<Arc<Segment>> {
    let movable =
        |segment: &Segment| segment.is_sealed() && !segment.damaged.load(Ordering::Relaxed);
    let freeable: Vec<&Arc<Segment>> = figures
        .iter()
        .filter(|figures| figures.pinned)
        .map(|figures| &figures.segment)
        // What a damaged segment holds on to, or the one that is written, cannot be freed.
        .filter(|held| !all.iter().any(|other| !movable(other) && pins(other, held)))
        .collect();
    let pinning = figures.iter().map(|figures| &figures.segment);
    let oldest = pinning
        .filter(|segment| freeable.iter().any(|held| pins(segment, held)))
        .min_by_key(|segment| (segment.lsn_range().0, segment.id));
    oldest.cloned().into_iter().collect()
}

/// Whether a delete or abort in `held` may still have to cancel something in `other`.
fn pins(other: &Segment, held: &Segment) -> bool {
    let newest = held.tombstone_newest.load(Ordering::Relaxed);
    let oldest = held.tombstone_oldest.load(Ordering::Relaxed);
    other.id != held.id
        && newest > 0
        && if held.holds_aborts.load(Ordering::Relaxed) {
            other.may_hold_aborted(oldest, newest)
        } else {
            other.may_hold(oldest, newest)
        }
}

fn needs_tombstones(segment: &Segment, all: &[Arc<Segment>]) -> bool {
    all.iter().any(|other| pins(other, segment))
}
