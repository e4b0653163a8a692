//! A law: one clause of a contract as something that can be run.

use std::fmt;
use std::future::Future;
use std::pin::Pin;

use crate::{Stage, Verdict};

/// The future of one run of a law.
pub type LawRun = Pin<Box<dyn Future<Output = Verdict> + Send + 'static>>;

/// One clause of a contract, under a name that is a sentence.
///
/// A law judges by the public contract alone, so it holds for every backend and wrapper, and it
/// keeps to ids and keys of its own, so it can run on a place that others use as well unless it
/// says [`Need::Exclusive`].
pub struct Law<S: 'static> {
    /// The name: a sentence in snake case, unique in its contract.
    pub name: &'static str,
    /// The theme it belongs to, such as `enumerate`.
    pub theme: &'static str,
    /// The promise in full.
    pub clause: &'static str,
    /// What the place has to offer for the law to be run.
    pub needs: &'static [Need],
    /// Runs the law.
    pub run: fn(Stage<S>) -> LawRun,
}

/// What a law needs from the place it is run on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Need {
    /// The store can be closed and opened again at the same place, and finds what it held.
    Reopen,
    /// The place is empty before the law and nobody else uses it meanwhile.
    Exclusive,
    /// A manual clock moves the time of the store.
    Clock,
    /// Opening the place a second time while it is open has to fail.
    SecondOpen,
    /// The largest payload that the store takes is known.
    PayloadLimit,
    /// A place with tight bounds can be made.
    TightPlace,
    /// The place can be opened with its gate closed, and with it open again.
    Gate,
    /// What the place holds can be damaged while it is closed.
    Damage,
    /// An outage can come over a part of the store that others share, while another part serves on.
    Outage,
}

impl Need {
    /// The need in the words of `docs/laws.md` and of the reports.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Reopen => "reopen",
            Self::Exclusive => "exclusive",
            Self::Clock => "clock",
            Self::SecondOpen => "second-open",
            Self::PayloadLimit => "payload-limit",
            Self::TightPlace => "tight-place",
            Self::Gate => "gate",
            Self::Damage => "damage",
            Self::Outage => "outage",
        }
    }

    /// What a place has to be able to do to meet the need.
    pub const fn meaning(self) -> &'static str {
        match self {
            Self::Reopen => "the store can be closed and opened again where it was",
            Self::Exclusive => "the place is empty at the start and nobody else uses it",
            Self::Clock => "the test moves the clock of the store",
            Self::SecondOpen => "the place admits one opened store at a time",
            Self::PayloadLimit => "the largest payload that is taken is known",
            Self::TightPlace => "a place with small bounds can be made",
            Self::Gate => {
                "the place can be opened with its gate closed, such as by a limit that cannot be met"
            }
            Self::Damage => "what the place holds can be damaged while it is closed",
            Self::Outage => {
                "a part that others share can be made to fail while another part serves on"
            }
        }
    }

    /// Every need.
    pub const ALL: &'static [Self] = &[
        Self::Reopen,
        Self::Exclusive,
        Self::Clock,
        Self::SecondOpen,
        Self::PayloadLimit,
        Self::TightPlace,
        Self::Gate,
        Self::Damage,
        Self::Outage,
    ];
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl<S> Clone for Law<S> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<S> Copy for Law<S> {}

impl<S> fmt::Debug for Law<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Law")
            .field("name", &self.name)
            .field("needs", &self.needs)
            .finish_non_exhaustive()
    }
}

/// Lists the laws of one theme: a promise in words, then the function that tries it.
macro_rules! laws {
    ($store:ty, $theme:literal;
        $( $(#[doc = $clause:literal])+ $name:ident $([$($need:ident),+])?; )+
    ) => {
        pub(super) const LAWS: &[$crate::Law<$store>] = &[$($crate::Law {
            name: stringify!($name),
            theme: $theme,
            clause: concat!($($clause),+),
            needs: &[$($($crate::Need::$need),+)?],
            run: |stage| Box::pin(async move { $name(&stage).await }),
        }),+];
    };
}
pub(crate) use laws;

/// How many laws there are in all themes.
pub(crate) const fn count<S>(themes: &[&[Law<S>]]) -> usize {
    let (mut sum, mut theme) = (0, 0);
    while theme < themes.len() {
        sum += themes[theme].len();
        theme += 1;
    }
    sum
}

/// The laws of all themes in one array, at compile time.
pub(crate) const fn join<S: 'static, const N: usize>(themes: &[&[Law<S>]]) -> [Law<S>; N] {
    let mut all = [themes[0][0]; N];
    let (mut theme, mut at) = (0, 0);
    while theme < themes.len() {
        let mut law = 0;
        while law < themes[theme].len() {
            all[at] = themes[theme][law];
            (at, law) = (at + 1, law + 1);
        }
        theme += 1;
    }
    all
}
