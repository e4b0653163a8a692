//! The cache: tiers, records, two tiers as one, and the face that a service uses.

#![allow(clippy::unwrap_used, reason = "a step that fails fails the test")]

mod batch;
mod coherence;
mod compression;
mod debts;
mod encoded;
mod face;
mod guarded;
mod ledger;
mod load;
mod memory;
mod model;
mod order;
mod promises;
mod scripted;
mod stats;
mod tiered;
