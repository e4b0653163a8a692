//! What a composite tells a policy besides the two calls.

use std::fmt;

use larder_core::{Clock, Durability, Key, KeyRef, SpoolId};

use super::{Observer, OffloadKey, OnLayerError};

/// One read through a composition.
///
/// Borrowed from the composite for one call: the policy keeps nothing of it.
#[allow(clippy::exhaustive_structs, reason = "plain data that composites build")]
pub struct ReadRequest<'a, K: ?Sized, O> {
    /// What is read. Only its name for background work matters to a policy.
    pub key: &'a K,
    /// What tells whether a value is expired or stale.
    pub clock: &'a dyn Clock,
    /// What a miss next to an error means. It belongs to the contract of the stores (a cache may
    /// call it a miss, a spool must not), so the composite decides and not the policy.
    pub on_layer_error: OnLayerError,
    /// Where calls go that outlive the policy.
    pub offload: &'a O,
    /// Where failures are counted and reported.
    pub observer: &'a Observer,
}

/// One write or remove through a composition.
#[allow(clippy::exhaustive_structs, reason = "plain data that composites build")]
pub struct WriteRequest<'a, K: ?Sized, O> {
    /// What is written. Only its name for background work matters to a policy.
    pub key: &'a K,
    /// Which layers count as a success.
    pub counted: Counted,
    /// Where calls go that outlive the policy.
    pub offload: &'a O,
    /// Where failures are counted and reported.
    pub observer: &'a Observer,
}

impl<K: ?Sized, O> Clone for ReadRequest<'_, K, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: ?Sized, O> Copy for ReadRequest<'_, K, O> {}

impl<K: ?Sized, O> fmt::Debug for ReadRequest<'_, K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReadRequest")
            .field("on_layer_error", &self.on_layer_error)
            .field("observer", &self.observer)
            .finish_non_exhaustive()
    }
}

impl<K: ?Sized, O> Clone for WriteRequest<'_, K, O> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<K: ?Sized, O> Copy for WriteRequest<'_, K, O> {}

impl<K: ?Sized, O> fmt::Debug for WriteRequest<'_, K, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WriteRequest")
            .field("counted", &self.counted)
            .field("observer", &self.observer)
            .finish_non_exhaustive()
    }
}

/// How a key names its background work.
///
/// Two calls with equal names for the same kind of work are the same work, and the second one is
/// not started while the first one runs. Only reads are named by their key.
pub trait PolicyKey: Sync {
    /// The name of background work of this `kind` for this key.
    fn offload_key(&self, kind: &'static str) -> OffloadKey;
}

impl PolicyKey for str {
    fn offload_key(&self, kind: &'static str) -> OffloadKey {
        OffloadKey::keyed(kind, self.as_bytes())
    }
}

impl PolicyKey for [u8] {
    fn offload_key(&self, kind: &'static str) -> OffloadKey {
        OffloadKey::keyed(kind, self)
    }
}

impl PolicyKey for KeyRef<'_> {
    fn offload_key(&self, kind: &'static str) -> OffloadKey {
        self.as_str().offload_key(kind)
    }
}

impl PolicyKey for Key {
    fn offload_key(&self, kind: &'static str) -> OffloadKey {
        self.as_str().offload_key(kind)
    }
}

impl PolicyKey for SpoolId {
    fn offload_key(&self, kind: &'static str) -> OffloadKey {
        self.as_bytes()[..].offload_key(kind)
    }
}

/// Which layers count as a success of a write. At least one does.
///
/// A layer that does not count is written all the same: it is only not enough. The tolerant
/// policies then fail unless a layer that counts has confirmed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "every subset of two layers that is not empty")]
pub enum Counted {
    /// Either layer is enough: the caller asked for no durability, or both have it.
    #[default]
    Both,
    /// Only the near layer is enough.
    OnlyL1,
    /// Only the far layer is enough.
    OnlyL2,
}

impl Counted {
    /// The layers whose durability is at least `asked`; `None` when neither is.
    ///
    /// A composite that gets `None` cannot keep the promise, and refuses before it writes. For a
    /// call without `force_sync` ask for [`Durability::Process`]: then both layers count.
    pub fn for_durability(asked: Durability, l1: Durability, l2: Durability) -> Option<Self> {
        match (l1 >= asked, l2 >= asked) {
            (true, true) => Some(Self::Both),
            (true, false) => Some(Self::OnlyL1),
            (false, true) => Some(Self::OnlyL2),
            (false, false) => None,
        }
    }

    /// Whether a success of the near layer is enough.
    pub const fn l1(self) -> bool {
        matches!(self, Self::Both | Self::OnlyL1)
    }

    /// Whether a success of the far layer is enough.
    pub const fn l2(self) -> bool {
        matches!(self, Self::Both | Self::OnlyL2)
    }
}
