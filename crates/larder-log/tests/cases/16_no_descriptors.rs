//! A process that has run out of file descriptors. On a simulated disk: `tests/scarce`.

use larder_log::{Batch, Durability, Log, Outcome};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::child::{Process, options, payload, slot, tell};

/// In the child: takes all descriptors away, stores until one is needed, and gives them back.
pub(crate) fn starve(log: &Log) {
    let store = |n: u64| {
        let mut batch = Batch::new();
        batch.put(slot(n), payload(n).into());
        let done = log.submit(batch, Durability::Power).map(|ticket| ticket.wait(None));
        matches!(done, Ok(Some(Outcome::Done { .. })))
    };
    let whole = getrlimit(Resource::Nofile);
    assert!(store(0));
    // All those above the three standard ones: what is open stays open.
    setrlimit(Resource::Nofile, Rlimit { current: Some(3), ..whole }).unwrap();
    let stored: Vec<u64> = (1..200).filter(|n| store(*n)).collect();
    assert!(stored.len() < 199, "no descriptor was ever needed");
    assert_eq!(log.get(slot(0)).unwrap().unwrap(), payload(0), "reading needs none");
    setrlimit(Resource::Nofile, whole).unwrap();
    for n in stored {
        tell("stored", n);
    }
    // It goes on by itself.
    let again = (1000..1100).filter(|n| store(*n)).count();
    assert!(again > 90, "{again}: {:?}", log.unhealthy_reason());
    for n in 1050..1100 {
        assert_eq!(log.get(slot(n)).unwrap().unwrap(), payload(n));
    }
    tell("done", 0);
}

#[test]
fn process_without_descriptors_loses_nothing_and_goes_on_when_it_has_some() {
    let folder = tempfile::tempdir().unwrap();
    let process = Process::start("starve", folder.path());
    let (well, told) = process.end();
    assert!(well && told.contains("done 0"), "{told}");
    let log = Log::open(folder.path(), options()).unwrap();
    assert_eq!(log.damaged(1), vec![]);
    for line in told.lines() {
        if let Some(n) = line.strip_prefix("stored ") {
            let n: u64 = n.parse().unwrap();
            assert_eq!(log.get(slot(n)).unwrap().unwrap(), payload(n));
        }
    }
}
