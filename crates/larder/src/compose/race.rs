//! What the two races share.

use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::str::FromStr;
use std::task::Poll;

use super::UnknownPolicy;

/// What happens to the call that loses a race.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_enums, reason = "it goes on or it does not")]
pub enum RaceLoserPolicy {
    /// It goes on in the background.
    #[default]
    Offload,
    /// It is cancelled.
    Drop,
}

impl RaceLoserPolicy {
    /// The word used in config: `offload` or `drop`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Offload => "offload",
            Self::Drop => "drop",
        }
    }
}

impl FromStr for RaceLoserPolicy {
    type Err = UnknownPolicy;

    fn from_str(text: &str) -> Result<Self, UnknownPolicy> {
        match text {
            "offload" => Ok(Self::Offload),
            "drop" => Ok(Self::Drop),
            _ => Err(UnknownPolicy::new("policy for the loser of a race", text, "offload, drop")),
        }
    }
}

/// Polls a call once: its answer, if it has one without waiting.
pub(super) async fn poll_once<F: Future + Unpin>(call: &mut F) -> Poll<F::Output> {
    poll_fn(|context| Poll::Ready(Pin::new(&mut *call).poll(context))).await
}
