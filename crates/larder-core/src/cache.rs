//! The cache tier: values that are fresh, then stale, then gone.

use std::fmt;
use std::future::Future;
use std::time::Duration;

use crate::{
    BackendError, Clock, Durability, Effect, Failure, Key, KeyRef, Retry, Timestamp, Version,
};

/// A value with its life and its place in the order of writes.
///
/// Fresh until `stale`, then usable but due for a refresh until `expire`, then gone: no tier
/// returns an expired value. Both times are absolute, so a copy keeps them exactly. `None` means
/// never. A `stale` beyond `expire` has no effect.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "plain data that callers build and take apart")]
pub struct CacheValue<T> {
    /// The payload.
    pub data: T,
    /// When it stops existing; `None` = never.
    pub expire: Option<Timestamp>,
    /// When it is due for a refresh; `None` = never.
    pub stale: Option<Timestamp>,
    /// Which write it is; `None` = unknown, which loses against any known version.
    pub version: Option<Version>,
}

impl<T> CacheValue<T> {
    /// A value that never expires and has no version.
    pub const fn new(data: T) -> Self {
        Self { data, expire: None, stale: None, version: None }
    }

    /// The same value, gone `ttl` after `now`.
    #[must_use]
    pub fn with_ttl(mut self, now: Timestamp, ttl: Duration) -> Self {
        self.expire = Some(now.saturating_add(ttl));
        self
    }

    /// The same value, due for a refresh `after` from `now`.
    #[must_use]
    pub fn with_stale_after(mut self, now: Timestamp, after: Duration) -> Self {
        self.stale = Some(now.saturating_add(after));
        self
    }

    /// The same value with the version of its write.
    #[must_use]
    pub fn with_version(mut self, version: Version) -> Self {
        self.version = Some(version);
        self
    }

    /// Where in its life the value is.
    ///
    /// Asks the clock only when the value can change its age.
    pub fn age(&self, clock: &(impl Clock + ?Sized)) -> Age {
        if self.expire.is_some_and(|expire| clock.is_past(expire)) {
            Age::Expired
        } else if self.stale.is_some_and(|stale| clock.is_past(stale)) {
            Age::Stale
        } else {
            Age::Fresh
        }
    }

    /// Where in its life the value is at `now`.
    pub fn age_at(&self, now: Timestamp) -> Age {
        if self.expire.is_some_and(|expire| expire <= now) {
            Age::Expired
        } else if self.stale.is_some_and(|stale| stale <= now) {
            Age::Stale
        } else {
            Age::Fresh
        }
    }

    /// The same life and version around another payload.
    pub fn map<U>(self, change: impl FnOnce(T) -> U) -> CacheValue<U> {
        CacheValue {
            data: change(self.data),
            expire: self.expire,
            stale: self.stale,
            version: self.version,
        }
    }
}

/// Where in its life a value is.
///
/// A whole word: a hit with its age is moved several times, and processors are slow to read a word of
/// which a part was just written.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u64)]
#[allow(clippy::exhaustive_enums, reason = "the three ages of a value; callers match them all")]
pub enum Age {
    /// Serve it.
    Fresh,
    /// Serve it and refresh it.
    Stale,
    /// Never serve it.
    Expired,
}

/// When a write or a remove applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Condition {
    /// Whatever is stored.
    Always,
    /// Only when nothing is stored, or what is stored has no version or a lower one than this.
    IfNewerThan(Version),
    /// Only when what is stored has exactly this version (`None`: has no version).
    ///
    /// For removing a record that was found damaged, if it still is that record.
    IfVersionIs(Option<Version>),
}

impl Condition {
    /// Whether the condition holds for a stored value; `None` when nothing is stored.
    pub fn holds(self, stored: Option<Option<Version>>) -> bool {
        match (self, stored) {
            (Self::Always, _) | (Self::IfNewerThan(_), None | Some(None)) => true,
            (Self::IfNewerThan(new), Some(Some(stored))) => stored < new,
            (Self::IfVersionIs(_), None) => false,
            (Self::IfVersionIs(wanted), Some(stored)) => stored == wanted,
        }
    }
}

/// Which conditions a tier can decide in one step.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct Conditions {
    /// [`Condition::IfNewerThan`].
    pub if_newer_than: bool,
    /// [`Condition::IfVersionIs`].
    pub if_version_is: bool,
}

impl Conditions {
    /// Every condition.
    pub const ALL: Self = Self { if_newer_than: true, if_version_is: true };
    /// Only [`Condition::Always`].
    pub const NONE: Self = Self { if_newer_than: false, if_version_is: false };

    /// What two tiers that are written together can both decide.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        Self {
            if_newer_than: self.if_newer_than && other.if_newer_than,
            if_version_is: self.if_version_is && other.if_version_is,
        }
    }

    /// Whether `condition` can be decided.
    pub const fn supports(self, condition: Condition) -> bool {
        match condition {
            Condition::Always => true,
            Condition::IfNewerThan(_) => self.if_newer_than,
            Condition::IfVersionIs(_) => self.if_version_is,
        }
    }
}

/// A hit: a value that is not expired, and where it came from.
///
/// In this order in memory, so that a value that moves into one stays aligned as it was written.
#[derive(Clone, Debug, PartialEq, Eq)]
#[repr(C)]
#[allow(clippy::exhaustive_structs, reason = "plain data that callers build and take apart")]
pub struct Found<V> {
    /// The value.
    pub value: CacheValue<V>,
    /// The tier that gave it.
    pub source: Source,
}

impl<V> Found<V> {
    /// A hit of a tier that has no tiers inside.
    pub const fn here(value: CacheValue<V>) -> Self {
        Self { value, source: Source::HERE }
    }
}

/// The way from a tier down to the leaf that answered: which of two layers, and so on.
///
/// One word that costs nothing to carry; [`Tier::describe`] turns it into labels. Nesting
/// deeper than 32 tiers keeps the first 32 steps.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Source {
    /// A bit for each step from the lowest on, set for second layers.
    steps: u32,
    spare: Spare,
}

/// Says nothing. The values that it cannot have are where enums around a [`Found`] keep which variant
/// they are: so [`Now`] is as long as the hit inside, and moving one is moving the other. As wide as
/// the rest of its word, which processors are slow to read when it was written in parts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u32)]
enum Spare {
    Nothing,
}

impl Source {
    /// The tier itself; of a tier that has layers inside the first one, and of that one likewise.
    pub const HERE: Self = Self { steps: 0, spare: Spare::Nothing };

    /// The same leaf, seen from a tier that holds the asked tier as its first (`false`) or second
    /// (`true`) layer.
    #[must_use]
    pub const fn below(self, second: bool) -> Self {
        Self { steps: self.steps << 1 | second as u32, ..self }
    }

    /// The first step of a tier that has layers inside, and the rest of the way as that layer sees it.
    ///
    /// `false` is the first layer, `true` the second.
    pub const fn step(self) -> (bool, Self) {
        (self.steps & 1 == 1, Self { steps: self.steps >> 1, ..self })
    }
}

/// What a tier can say about a key without waiting.
#[derive(Clone, Debug, PartialEq, Eq)]
#[allow(clippy::exhaustive_enums, reason = "callers match all three answers")]
pub enum Now<V> {
    /// The value is here.
    Hit(Found<V>),
    /// It is known not to be here.
    Miss,
    /// The answer must be awaited.
    Ask,
}

/// What became of one layer of a tier in a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum LayerState {
    /// It has the write.
    Done,
    /// It answered with an error.
    Failed,
    /// It was never asked.
    NotTried,
    /// It goes on in the background.
    Background,
}

impl LayerState {
    /// The word used on the wire.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Done => "done",
            Self::Failed => "failed",
            Self::NotTried => "not-tried",
            Self::Background => "background",
        }
    }
}

/// What a write did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub struct WriteStatus {
    /// Whether the condition held and the value was written (or removed, for a life that is over).
    pub applied: bool,
    /// What became of the two layers, for a tier that has two.
    pub layers: Option<[LayerState; 2]>,
}

impl WriteStatus {
    /// Written.
    pub const WRITTEN: Self = Self { applied: true, layers: None };
    /// Not written: what is stored is newer, or the condition did not hold.
    pub const NOT_NEWER: Self = Self { applied: false, layers: None };

    /// The same status with what became of two layers.
    #[must_use]
    pub const fn with_layers(mut self, l1: LayerState, l2: LayerState) -> Self {
        self.layers = Some([l1, l2]);
        self
    }
}

/// What a remove did.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "callers match both answers")]
pub enum DeleteStatus {
    /// So many layers had the key and removed it.
    Deleted(u32),
    /// No layer had it, or the condition did not hold.
    Missing,
}

impl DeleteStatus {
    /// The sum of what two layers removed.
    #[must_use]
    pub const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Deleted(a), Self::Deleted(b)) => Self::Deleted(a.saturating_add(b)),
            (Self::Deleted(n), Self::Missing) | (Self::Missing, Self::Deleted(n)) => {
                Self::Deleted(n)
            }
            (Self::Missing, Self::Missing) => Self::Missing,
        }
    }

    /// How many layers removed the key.
    pub const fn count(self) -> u32 {
        match self {
            Self::Deleted(n) => n,
            Self::Missing => 0,
        }
    }
}

/// Why a cache tier failed. A miss is not a failure.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CacheError {
    /// The value is larger than the tier takes. Effect `NotApplied`, retry `Never`.
    #[error("the value is too large for this cache: bytes={bytes} bytes_max={bytes_max}")]
    TooLarge {
        /// The size of the value.
        bytes: u64,
        /// The largest size that is taken.
        bytes_max: u64,
    },
    /// The tier cannot decide this condition in one step. Effect `NotApplied`, retry `Never`.
    #[error("this cache tier cannot decide the condition in one step: use Condition::Always")]
    ConditionUnsupported,
    /// The technology behind the tier failed; the error says its effect and retry.
    #[error(transparent)]
    Backend(#[from] BackendError),
}

impl Failure for CacheError {
    fn effect(&self) -> Effect {
        match self {
            Self::TooLarge { .. } | Self::ConditionUnsupported => Effect::NotApplied,
            Self::Backend(error) => error.effect(),
        }
    }

    fn retry(&self) -> Retry {
        match self {
            Self::TooLarge { .. } | Self::ConditionUnsupported => Retry::Never,
            Self::Backend(error) => error.retry(),
        }
    }
}

/// One cache: a map from key to value with expiry, that may forget.
///
/// # Contract
/// - What a successful write stored is returned until it expires, is replaced, removed or evicted;
///   never after it expired, and never with another life or version than it was written with.
/// - A write without an expiry clears the one that was there. A value whose life is already over
///   removes the key instead.
/// - Times keep at least millisecond precision.
/// - Values are shared, not copied: `V` is something cheap to clone, such as `Arc<T>` or `Bytes`.
///   Only tiers of bytes encode and decode.
/// - Keys and values never appear in logs or error texts.
///
/// # Cancel safety
/// Dropping the future of a read has no effect. Dropping that of a write or remove leaves it
/// unknown whether it applied.
pub trait Tier<V>: fmt::Debug + Send + Sync + 'static {
    /// Returns the value of `key` if it is here and not expired.
    ///
    /// # Errors
    /// [`CacheError::Backend`] when the tier could not be asked. A damaged record is a miss.
    fn read<'a>(
        &'a self,
        key: KeyRef<'a>,
    ) -> impl Future<Output = Result<Option<Found<V>>, CacheError>> + Send + 'a;

    /// Returns what can be said about `key` without waiting and without allocating.
    ///
    /// A tier in memory answers `Hit` or `Miss`; one behind a network or a disk answers `Ask`.
    fn read_now(&self, key: KeyRef<'_>) -> Now<V>;

    /// Writes or replaces the value of `key` if `condition` holds.
    ///
    /// # Errors
    /// [`CacheError::TooLarge`] and [`CacheError::ConditionUnsupported`]: nothing was written.
    /// [`CacheError::Backend`]: as it says.
    fn write<'a>(
        &'a self,
        key: KeyRef<'a>,
        value: CacheValue<V>,
        condition: Condition,
    ) -> impl Future<Output = Result<WriteStatus, CacheError>> + Send + 'a;

    /// Removes `key` if `condition` holds; a missing key is `Missing`, not an error.
    ///
    /// # Errors
    /// As [`Tier::write`].
    fn remove<'a>(
        &'a self,
        key: KeyRef<'a>,
        condition: Condition,
    ) -> impl Future<Output = Result<DeleteStatus, CacheError>> + Send + 'a;

    /// Reads many keys, in one round trip where the backend can; answers in the order of `keys`.
    ///
    /// # Errors
    /// As [`Tier::read`], for the first key that failed.
    fn read_many<'a>(
        &'a self,
        keys: &'a [KeyRef<'a>],
    ) -> impl Future<Output = Result<Vec<Option<Found<V>>>, CacheError>> + Send + 'a;

    /// Writes many values, in one round trip where the backend can; not atomic.
    ///
    /// # Errors
    /// As [`Tier::write`], for the first key that failed; others may have been written.
    fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> impl Future<Output = Result<Vec<WriteStatus>, CacheError>> + Send + '_;

    /// Removes many keys, in one round trip where the backend can; not atomic.
    ///
    /// # Errors
    /// As [`Tier::remove`], for the first key that failed; others may have been removed.
    fn remove_many<'a>(
        &'a self,
        keys: &'a [KeyRef<'a>],
        condition: Condition,
    ) -> impl Future<Output = Result<Vec<DeleteStatus>, CacheError>> + Send + 'a;

    /// Removes everything in this tier's namespace.
    ///
    /// # Errors
    /// [`CacheError::Backend`]; some entries may be gone.
    fn clear(&self) -> impl Future<Output = Result<(), CacheError>> + Send + '_;

    /// Drops `key` where only this process can see it, if `condition` holds there: what another
    /// process has changed must not be served from a copy. What processes share stays as it is.
    ///
    /// A tier in memory or on a disk of its own drops the key; one on a server does nothing; one of
    /// tiers asks each of them, and lets nothing come back that was read before. A tier that cannot
    /// decide the condition drops the key whatever is there.
    ///
    /// # Errors
    /// [`CacheError::Backend`] when the key may still be there.
    fn forget<'a>(
        &'a self,
        key: KeyRef<'a>,
        condition: Condition,
    ) -> impl Future<Output = Result<(), CacheError>> + Send + 'a;

    /// As [`Tier::forget`] for every key.
    ///
    /// # Errors
    /// [`CacheError::Backend`] when some keys may still be there.
    fn forget_all(&self) -> impl Future<Output = Result<(), CacheError>> + Send + '_;

    /// The name of this tier in metrics and in source paths.
    fn label(&self) -> &str;

    /// The labels on the way to the leaf that answered, joined by dots: `a.b.l2`.
    fn describe(&self, source: Source) -> String;

    /// Which conditions this tier can decide in one step.
    fn conditions(&self) -> Conditions;

    /// What an acknowledged write survives.
    fn durability(&self) -> Durability;

    /// How full the tier is, as far as it knows without asking anyone; `None` if it does not.
    fn usage(&self) -> Option<TierUsage>;

    /// What this tier has done, or each of the tiers inside it, the nearest first: one for every
    /// [`Source`] that a hit can have. A tier without tiers inside answers with
    /// [`TierStats::new`].
    fn tier_stats(&self) -> Vec<TierStats>;

    /// Tells `listener` from now on whenever this tier, or one inside it, brings on its own what others
    /// may share to where it should have been already: a debt that is paid, a late write that lands. Who
    /// keeps copies elsewhere may have copied what was there before.
    ///
    /// A tier that changes only while a caller waits has nothing to tell.
    fn on_repair(&self, listener: &RepairListener);
}

mod repair;
mod stats;
#[cfg(test)]
mod tests;

pub use repair::{Repair, RepairListener};
pub use stats::{BreakerState, GuardStats, TierStats, TierUsage};
