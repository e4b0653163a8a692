use larder::SharedBus;
use larder::registry::attach_bus;
use larder_testkit::{Place, Subject, subjects};

use crate::Candidate;

pub(crate) fn all() -> Vec<Candidate<SharedBus>> {
    let by_uri = || std::future::ready(attach_bus("memory:"));
    vec![
        subjects::memory_bus().into(),
        Subject::new("memory-uri", move || Ok(Place::new(by_uri))).into(),
    ]
}
