//! The examples of docs/consensus.md, run as they are, on stores that fail.

use std::collections::HashSet;

use futures_util::future::join_all;
use larder::{MemoryConsensus, SharedConsensus};
use larder_testkit::Unreliable;

#[path = "../examples/command_log.rs"]
#[expect(dead_code, unreachable_pub, reason = "its main is not run")]
mod command_log;
#[path = "../examples/sequence.rs"]
#[expect(dead_code, unreachable_pub, reason = "its main is not run")]
mod sequence;

use command_log::{Command, Replica};
use sequence::Sequence;

/// A store of which every fourth call fails.
fn unreliable(seed: u64) -> SharedConsensus {
    SharedConsensus::new(Unreliable::new(MemoryConsensus::default(), seed, 25))
}

#[tokio::test(start_paused = true)]
async fn no_number_is_handed_out_twice() {
    for seed in 0..50 {
        let store = unreliable(seed);
        let client = async |_: usize| {
            let mut sequence = Sequence::new(store.clone(), "s", 7);
            let mut numbers = Vec::new();
            while numbers.len() < 40 {
                numbers.extend(sequence.next().await.ok());
            }
            assert!(numbers.is_sorted(), "one process gets them in order");
            numbers
        };
        let numbers: Vec<u64> = join_all((0..4).map(client)).await.into_iter().flatten().collect();
        let distinct: HashSet<u64> = numbers.iter().copied().collect();
        assert_eq!(distinct.len(), numbers.len(), "seed {seed}");
    }
}

#[tokio::test(start_paused = true)]
async fn all_copies_come_to_the_same_state_and_each_command_is_in_it_once() {
    for seed in 0..50 {
        let store = unreliable(seed);
        let client = async |client: usize| {
            let mut replica = Replica::new(store.clone(), "state");
            for turn in 0..20 {
                let command = Command::set(format!("{client}.{}", turn % 3), turn.to_string());
                while replica.submit(&command).await.is_err() {}
                if turn % 6 == client {
                    while replica.take_snapshot().await.is_err() {}
                }
                // What was acknowledged is in one's own copy.
                let value = &replica.state()[&command.name];
                assert_eq!(*value, turn.to_string(), "seed {seed}");
            }
            replica
        };
        let mut replicas = join_all((0..4).map(client)).await;
        // One that begins now has to go by a snapshot.
        replicas.push(Replica::new(store.clone(), "state"));
        for replica in &mut replicas {
            while replica.catch_up().await.is_err() {}
        }
        let last = replicas.pop().unwrap();
        assert_eq!(last.state().len(), 12);
        for replica in replicas {
            assert_eq!(replica.state(), last.state(), "seed {seed}");
        }
    }
}

/// Whatever is in names and values, and at their ends.
#[tokio::test]
async fn a_snapshot_holds_what_the_log_held() {
    let store = SharedConsensus::new(MemoryConsensus::default());
    let mut replica = Replica::new(store.clone(), "state");
    for (name, value) in
        [("a\nb", "c\n\nd"), ("", "e\r"), ("1:2", "3:4:"), ("\u{e9}", ""), ("z", "")]
    {
        replica.submit(&Command::set(name, value)).await.unwrap();
        assert_eq!(replica.state()[name], value);
    }
    replica.take_snapshot().await.unwrap();
    let mut late = Replica::new(store, "state");
    late.catch_up().await.unwrap();
    assert_eq!((late.state(), late.state().len()), (replica.state(), 5));
}
