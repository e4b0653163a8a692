//! What a loader returns.

use std::time::Duration;

use super::super::Tags;

/// What a loader found: a value or that there is none, and how long the cache may keep it.
///
/// A plain value, and an `Option` of one, turn into it: a loader that has nothing to add returns
/// what it found.
///
/// ```
/// use larder::cache::Loaded;
/// use std::time::Duration;
///
/// let price = Loaded::new("9.99").ttl(Duration::from_mins(5)).stale_after(Duration::from_mins(1));
/// let half = Loaded::uncached("a page without its sidebar"); // goes to those who wait, is not kept
/// let none: Loaded<&str> = Loaded::not_found().ttl(Duration::from_secs(30));
/// # let (_, _, _) = (price, half, none);
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Loaded<V> {
    pub(in crate::cache) data: Option<V>,
    pub(in crate::cache) keep: Keep,
    pub(in crate::cache) tags: Tags,
}

/// Whether and how long what was loaded is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::cache) enum Keep {
    No,
    Yes { ttl: Option<Duration>, stale_after: Option<Duration> },
}

impl<V> Loaded<V> {
    const fn with(data: Option<V>, keep: Keep) -> Self {
        Self { data, keep, tags: Tags::NONE }
    }

    /// A value to keep, for as long as the options of the call say.
    pub const fn new(value: V) -> Self {
        Self::with(Some(value), Keep::Yes { ttl: None, stale_after: None })
    }

    /// A value for those who wait for it, not to be kept. What the cache holds stays as it is.
    pub const fn uncached(value: V) -> Self {
        Self::with(Some(value), Keep::No)
    }

    /// There is no such value, and that is worth remembering: for the
    /// [`negative_ttl`](super::LoadOptions::negative_ttl) of the call. It replaces a value that the
    /// cache holds.
    pub const fn not_found() -> Self {
        Self::with(None, Keep::Yes { ttl: None, stale_after: None })
    }

    /// It is kept for `ttl` from now on; zero removes what the cache holds. Overrides the options.
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        if let Keep::Yes { ttl: of, .. } = &mut self.keep {
            *of = Some(ttl);
        }
        self
    }

    /// It is due for a refresh `after` now. Overrides the options.
    pub const fn stale_after(mut self, after: Duration) -> Self {
        if let Keep::Yes { stale_after, .. } = &mut self.keep {
            *stale_after = Some(after);
        }
        self
    }

    /// It can be invalidated by `tags`.
    pub fn tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }
}

impl<V> From<V> for Loaded<V> {
    fn from(value: V) -> Self {
        Self::new(value)
    }
}

impl<V> From<Option<V>> for Loaded<V> {
    fn from(found: Option<V>) -> Self {
        found.map_or_else(Self::not_found, Self::new)
    }
}
