//! Under construction.

pub mod compose;
