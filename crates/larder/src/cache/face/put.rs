//! How a value is put.

use std::time::Duration;

use super::super::Tags;

/// How a value is put.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct PutOptions {
    /// How long it lives; zero removes the key. `None`: the default of the cache.
    pub ttl: Option<Duration>,
    /// When it is due for a refresh; `None`: never.
    pub stale_after: Option<Duration>,
    /// What it can be invalidated by.
    pub tags: Tags,
}

impl PutOptions {
    /// The defaults of the cache, and no tags.
    pub const fn new() -> Self {
        Self { ttl: None, stale_after: None, tags: Tags::NONE }
    }

    /// Lives for `ttl`.
    #[must_use]
    pub const fn ttl(mut self, ttl: Duration) -> Self {
        self.ttl = Some(ttl);
        self
    }

    /// Is due for a refresh `after` now.
    #[must_use]
    pub const fn stale_after(mut self, after: Duration) -> Self {
        self.stale_after = Some(after);
        self
    }

    /// Can be invalidated by `tags`.
    #[must_use]
    pub fn tags(mut self, tags: Tags) -> Self {
        self.tags = tags;
        self
    }
}
