//! The laws of consensus.

use larder_core::SharedConsensus;

use crate::Law;

mod arguments;
mod changed;
mod concurrency;
mod histories;
mod keys;
mod log;
mod model;
mod reopen;
mod scan;
mod swap;
mod truncate;

pub(super) const THEMES: &[&[Law<SharedConsensus>]] = &[
    swap::LAWS,
    arguments::LAWS,
    scan::LAWS,
    truncate::LAWS,
    keys::LAWS,
    model::LAWS,
    concurrency::LAWS,
    histories::LAWS,
    changed::LAWS,
    reopen::LAWS,
];
