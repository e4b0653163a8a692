//! What a law answers when a promise was broken.

use std::error::Error;
use std::fmt;
use std::panic::Location;

use larder_core::error::chain;

/// A broken promise: what was promised, what was seen instead, and the line of the law that saw it.
///
/// Any error turns into a violation with `?`: inside a law, a call that fails without being
/// allowed to breaks the law. That is why this type is not an error itself.
pub struct Violation {
    message: String,
    at: &'static Location<'static>,
}

/// The answer of a law.
pub type Verdict = Result<(), Violation>;

impl Violation {
    /// A violation with a message of its own; see also [`ensure!`](crate::ensure).
    #[track_caller]
    pub fn new(message: impl Into<String>) -> Self {
        Self { message: message.into(), at: Location::caller() }
    }

    /// Which promise was broken and with what values.
    pub fn message(&self) -> &str {
        &self.message
    }

    /// The line of the law that found it.
    pub const fn at(&self) -> &'static Location<'static> {
        self.at
    }

    /// The same violation, told with the circumstances in front.
    #[must_use]
    pub fn while_doing(mut self, what: &str) -> Self {
        self.message = format!("{what}: {}", self.message);
        self
    }
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({}:{})", self.message, self.at.file(), self.at.line())
    }
}

impl fmt::Debug for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl<E: Error + 'static> From<E> for Violation {
    #[track_caller]
    fn from(error: E) -> Self {
        Self::new(format!("a call failed that has to succeed: {}", chain(&error)))
    }
}

/// Ends a law with a [`Violation`](crate::Violation) unless the promise holds.
///
/// The message says what was promised and what was seen.
///
/// ```
/// # use larder_testkit::{Verdict, ensure};
/// fn at_least_one(count: usize) -> Verdict {
///     ensure!(count > 0, "an entry was promised, but the listing is empty");
///     Ok(())
/// }
/// assert!(at_least_one(0).unwrap_err().message().contains("empty"));
/// ```
#[macro_export]
macro_rules! ensure {
    ($holds:expr, $($message:tt)+) => {
        // A negation of the condition itself would trip lints at every call with a comparison.
        if $holds {
        } else {
            return Err($crate::Violation::new(format!($($message)+)));
        }
    };
}

/// Ends a law with a [`Violation`](crate::Violation) unless both sides are equal.
///
/// ```
/// # use larder_testkit::{Verdict, ensure_eq};
/// fn sizes_agree(listed: u64, stored: u64) -> Verdict {
///     ensure_eq!(listed, stored, "the listed size is the stored one");
///     Ok(())
/// }
/// assert!(sizes_agree(1, 2).unwrap_err().message().contains("seen 1, promised 2"));
/// ```
#[macro_export]
macro_rules! ensure_eq {
    ($seen:expr, $promised:expr, $($message:tt)+) => {
        match (&$seen, &$promised) {
            (seen, promised) => {
                if *seen != *promised {
                    return Err($crate::Violation::new(format!(
                        "{}: seen {:?}, promised {:?}", format_args!($($message)+), seen, promised
                    )));
                }
            }
        }
    };
}

/// Compares payloads and tells the first difference instead of printing megabytes.
///
/// # Errors
/// A violation that names `what`, both lengths and where the payloads part.
#[track_caller]
pub fn same_bytes(what: &str, seen: &[u8], promised: &[u8]) -> Verdict {
    if seen == promised {
        return Ok(());
    }
    let at = seen.iter().zip(promised).take_while(|(a, b)| a == b).count();
    Err(Violation::new(format!(
        "{what} has to come back byte for byte: seen {} bytes, promised {} bytes, they differ from \
         byte {at} on",
        seen.len(),
        promised.len()
    )))
}
