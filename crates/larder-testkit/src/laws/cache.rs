//! The laws of the cache tier.

use bytes::Bytes;
use larder_core::SharedTier;

use crate::Law;

mod conditions;
mod entry;
mod forget;
mod life;
mod many;
mod model;
mod outage;
mod pressure;
mod reopen;
mod value;

pub(super) const THEMES: &[&[Law<SharedTier<Bytes>>]] = &[
    value::LAWS,
    life::LAWS,
    conditions::LAWS,
    many::LAWS,
    forget::LAWS,
    model::LAWS,
    pressure::LAWS,
    reopen::LAWS,
    outage::LAWS,
];
