//! The laws of the bus.

use larder_core::SharedBus;

use crate::Law;

mod bounds;
mod frames;

pub(super) const THEMES: &[&[Law<SharedBus>]] = &[frames::LAWS, bounds::LAWS];
