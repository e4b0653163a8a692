//! A word in config that names no policy.

/// A text that names no policy: config is wrong. Nothing was done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no {what} {given:?}: use one of {known}")]
pub struct UnknownPolicy {
    what: &'static str,
    given: String,
    known: &'static str,
}

impl UnknownPolicy {
    pub(super) fn new(what: &'static str, given: &str, known: &'static str) -> Self {
        Self { what, given: given.to_owned(), known }
    }
}

impl larder_core::Failure for UnknownPolicy {
    fn effect(&self) -> larder_core::Effect {
        larder_core::Effect::NotApplied
    }

    fn retry(&self) -> larder_core::Retry {
        larder_core::Retry::Never
    }
}
