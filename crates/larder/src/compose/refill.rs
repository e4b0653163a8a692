//! Whether a value that the far layer gave is copied into the near one.

use super::{CompositionLayer, ReadResult, UnknownPolicy};

/// Whether a read that the far layer answered fills the near one.
///
/// The composite does the filling, because only it knows how to write: inside its own read, with
/// the version, the absolute expiry and the stale time of the far copy, which the near copy never
/// outlives. A refill that fails changes nothing for the caller of the read.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "config chooses between them by name")]
pub enum RefillPolicy {
    /// Values reach the near layer by writes only.
    #[default]
    Never,
    /// Every value that the far layer gave is copied.
    Always,
}

impl RefillPolicy {
    /// Whether `result` has a value to copy into the near layer.
    ///
    /// ```
    /// use larder::compose::{CompositionLayer, ReadResult, RefillPolicy};
    ///
    /// let from_l2 = ReadResult::<_, ()>::hit("value", CompositionLayer::L2);
    /// assert!(RefillPolicy::Always.wants(&from_l2));
    /// assert!(!RefillPolicy::Never.wants(&from_l2));
    /// ```
    pub const fn wants<T, E>(self, result: &ReadResult<T, E>) -> bool {
        matches!(
            (self, &result.value, result.source),
            (Self::Always, Some(_), CompositionLayer::L2)
        )
    }

    /// The word used in config: `never` or `always`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Never => "never",
            Self::Always => "always",
        }
    }
}

impl std::str::FromStr for RefillPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "never" => Ok(Self::Never),
            "always" => Ok(Self::Always),
            _ => Err(UnknownPolicy::new("refill policy", text, "never, always")),
        }
    }
}
