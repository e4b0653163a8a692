//! Invalidation by version: everything at or below a floor is dead.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{PoisonError, RwLock};

use larder_core::Version;
use rapidhash::fast::RandomState;

use super::{Tag, Tags};

/// The versions up to which values are dead: of each tag, of tags that are not remembered, and of
/// everything.
///
/// Nothing is searched or removed when a tag is invalidated: a read asks whether what it found is
/// dead. So a copy in any layer is covered, also one that arrives late.
///
/// # The bound
/// [`Floors::TAGS_MAX`] tags are remembered. Beyond that the one that was invalidated the longest
/// ago is forgotten, and its floor becomes that of every tag that is not remembered. So some values
/// die without need; none lives on that should be dead. The same rule covers what was invalidated
/// before this process started, which it cannot know: tagged values from before are in doubt, and
/// so are those from before a loss of messages of other processes. What is in doubt is not served,
/// but it is not known to be dead: it stays where it is.
#[derive(Debug)]
pub(crate) struct Floors {
    /// The reading of the highest floor of all: what is above it lives, without a lock.
    highest: AtomicU64,
    /// The reading above which what has no tags lives, without a lock: that of the floor of
    /// everything, zero while there is none.
    everything: AtomicU64,
    state: RwLock<State>,
}

#[derive(Debug)]
struct State {
    everything: Option<Version>,
    /// The floor of every tag that is not remembered.
    forgotten: Version,
    /// The floor of every tag.
    doubted: Version,
    of_tag: HashMap<Tag, Version, RandomState>,
    by_age: BTreeMap<Version, Tag>,
    tags_max: usize,
}

impl Floors {
    /// How many tags are remembered.
    pub(crate) const TAGS_MAX: usize = 65_536;

    /// Floors of a process that started at `start`.
    pub(crate) fn new(start: Version, tags_max: usize) -> Self {
        let state = State {
            everything: None,
            forgotten: start,
            doubted: start,
            of_tag: HashMap::default(),
            by_age: BTreeMap::new(),
            tags_max,
        };
        let highest = AtomicU64::new(start.reading());
        Self { highest, everything: AtomicU64::new(0), state: RwLock::new(state) }
    }

    /// Lets values with this tag die up to `version`.
    pub(crate) fn raise(&self, tag: &Tag, version: Version) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        let state = &mut *state;
        if *state.of_tag.get(tag).unwrap_or(&state.forgotten) >= version {
            return;
        }
        if let Some(older) = state.of_tag.insert(tag.clone(), version) {
            state.by_age.remove(&older);
        }
        state.by_age.insert(version, tag.clone());
        if state.of_tag.len() > state.tags_max
            && let Some((oldest, tag)) = state.by_age.pop_first()
        {
            state.of_tag.remove(&tag);
            state.forgotten = state.forgotten.max(oldest);
        }
        self.highest.fetch_max(version.reading(), Ordering::SeqCst);
    }

    /// Lets everything die up to `version`.
    pub(crate) fn raise_all(&self, version: Version) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.everything = state.everything.max(Some(version));
        self.everything.fetch_max(version.reading(), Ordering::SeqCst);
        self.highest.fetch_max(version.reading(), Ordering::SeqCst);
    }

    /// Puts every value with tags in doubt up to `version`.
    pub(crate) fn doubt(&self, version: Version) {
        let mut state = self.state.write().unwrap_or_else(PoisonError::into_inner);
        state.doubted = state.doubted.max(version);
        self.highest.fetch_max(version.reading(), Ordering::SeqCst);
    }

    /// Whether a value was invalidated for certain, and not only perhaps.
    pub(crate) fn condemn(&self, version: Option<Version>, tags: &Tags) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let dead = |floor: &Version| version <= Some(*floor);
        state.everything.as_ref().is_some_and(dead)
            || tags.iter().any(|tag| state.of_tag.get(tag).is_some_and(dead))
    }

    /// Whether a value is dead or in doubt. One without a version is as old as can be.
    #[inline]
    pub(crate) fn cover(&self, version: Option<Version>, tags: &Tags) -> bool {
        let highest = if tags.is_empty() { &self.everything } else { &self.highest };
        let highest = highest.load(Ordering::SeqCst);
        if version.is_some_and(|version| version.reading() > highest) {
            return false;
        }
        self.look_up(version, tags)
    }

    fn look_up(&self, version: Option<Version>, tags: &Tags) -> bool {
        let state = self.state.read().unwrap_or_else(PoisonError::into_inner);
        let dead = |floor: Version| version <= Some(floor);
        state.everything.is_some_and(dead)
            || (!tags.is_empty() && dead(state.doubted))
            || tags.iter().any(|tag| dead(*state.of_tag.get(tag).unwrap_or(&state.forgotten)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v(reading: u64) -> Version {
        Version::from_parts(reading, 1)
    }

    fn tags(names: &[&str]) -> Tags {
        Tags::new(names.iter().map(|name| Tag::new(name).unwrap())).unwrap()
    }

    #[test]
    fn a_floor_covers_values_with_its_tag_up_to_its_version() {
        let floors = Floors::new(v(0), 8);
        floors.raise(&Tag::new("a").unwrap(), v(5));
        assert!(floors.cover(Some(v(5)), &tags(&["a"])));
        assert!(floors.cover(Some(v(4)), &tags(&["a", "b"])));
        assert!(floors.cover(None, &tags(&["a"])));
        assert!(!floors.cover(Some(v(6)), &tags(&["a"])));
        assert!(!floors.cover(Some(v(4)), &tags(&["b"])));
        assert!(!floors.cover(Some(v(4)), &Tags::NONE));
    }

    #[test]
    fn at_the_bound_too_much_dies_and_never_too_little() {
        let floors = Floors::new(v(0), 2);
        for (name, at) in [("a", 3), ("b", 4), ("a", 5), ("c", 6)] {
            floors.raise(&Tag::new(name).unwrap(), v(at));
        }
        // `b` was invalidated the longest ago and is forgotten.
        assert!(floors.cover(Some(v(4)), &tags(&["b"])));
        assert!(floors.cover(Some(v(4)), &tags(&["never invalidated"])));
        assert!(!floors.cover(Some(v(5)), &tags(&["b"])));
        assert!(floors.cover(Some(v(5)), &tags(&["a"])) && floors.cover(Some(v(6)), &tags(&["c"])));
        assert!(!floors.cover(Some(v(1)), &Tags::NONE));
    }

    #[test]
    fn a_floor_never_falls() {
        let floors = Floors::new(v(0), 8);
        let tag = Tag::new("a").unwrap();
        for at in [5, 3, 5] {
            floors.raise(&tag, v(at));
        }
        assert!(floors.cover(Some(v(5)), &tags(&["a"])));
        assert!(!floors.cover(Some(v(6)), &tags(&["a"])));
    }

    #[test]
    fn what_is_in_doubt_is_covered_and_not_condemned() {
        let floors = Floors::new(v(0), 8);
        floors.raise(&Tag::new("a").unwrap(), v(3));
        floors.doubt(v(7));
        assert!(floors.cover(Some(v(7)), &tags(&["a"])) && floors.cover(Some(v(7)), &tags(&["b"])));
        assert!(!floors.cover(Some(v(7)), &Tags::NONE) && !floors.cover(Some(v(8)), &tags(&["a"])));
        assert!(floors.condemn(Some(v(3)), &tags(&["a"])) && floors.condemn(None, &tags(&["a"])));
        assert!(!floors.condemn(Some(v(4)), &tags(&["a"])));
        assert!(!floors.condemn(None, &tags(&["b"])) && !floors.condemn(None, &Tags::NONE));
    }

    #[test]
    fn tagged_values_from_before_the_start_are_dead() {
        let floors = Floors::new(v(10), 2);
        assert!(floors.cover(Some(v(10)), &tags(&["a"])));
        assert!(!floors.cover(Some(v(11)), &tags(&["a"])));
        assert!(!floors.cover(Some(v(9)), &Tags::NONE) && !floors.cover(None, &Tags::NONE));
    }

    #[test]
    fn the_floor_of_everything_covers_values_without_tags() {
        let floors = Floors::new(v(0), 2);
        floors.raise_all(v(7));
        assert!(floors.cover(Some(v(7)), &Tags::NONE) && floors.cover(None, &Tags::NONE));
        assert!(!floors.cover(Some(v(8)), &Tags::NONE));
        // A tag that is invalidated later is no floor of what has none.
        floors.raise(&Tag::new("a").unwrap(), v(9));
        assert!(!floors.cover(Some(v(8)), &Tags::NONE) && floors.cover(Some(v(8)), &tags(&["a"])));
    }
}
