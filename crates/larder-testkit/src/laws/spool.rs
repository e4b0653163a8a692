//! The laws of the spool.

use larder_core::SharedSpool;

use crate::Law;

mod care;
mod concurrency;
mod deadline;
mod enumerate;
mod gate;
mod gather;
mod limits;
mod listing;
mod many;
mod model;
mod payload;
mod remove;
mod reopen;
mod shutdown;

pub(super) const THEMES: &[&[Law<SharedSpool>]] = &[
    payload::LAWS,
    remove::LAWS,
    many::LAWS,
    deadline::LAWS,
    limits::LAWS,
    enumerate::LAWS,
    listing::LAWS,
    model::LAWS,
    concurrency::LAWS,
    care::LAWS,
    gate::LAWS,
    reopen::LAWS,
    shutdown::LAWS,
];
