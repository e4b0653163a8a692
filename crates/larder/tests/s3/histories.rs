//! Many clients of one key while everything fails that can: one order explains what they were told, and whatever
//! nobody could tell at first is found out.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use larder::clock::random_u64;
use larder::consensus::ObjectConsensus;
use larder::{CaSResult, SeqNo};
use larder_testkit::Proxy;
use larder_testkit::history::Recorder;
use larder_testkit::service::{S3Process, S3Quirk, S3Server};

#[path = "../support/clients.rs"]
mod clients;

use clients::{CLIENTS, Resolved, judge, live, patiently};

/// What became of a history.
#[derive(Debug, Default)]
struct Tally {
    committed: usize,
    unknown: usize,
}

/// A history on a key of its own at `uri`, while `disturb` runs; then `calm` ends what is under way.
async fn history(
    uri: &str,
    disturb: impl Future<Output = ()>,
    calm: impl Future<Output = ()>,
) -> Result<Tally, larder_testkit::Violation> {
    let key = format!("k{:016x}", random_u64());
    // Half of the clients are another process, as far as the store knows.
    let stores =
        [ObjectConsensus::open(uri).await.unwrap(), ObjectConsensus::open(uri).await.unwrap()];
    let recorder = Recorder::new(key.as_str());
    let enough = AtomicBool::new(false);
    let clients = (0..CLIENTS).map(|client| live(&stores[client % 2], &recorder, client, &enough));
    let disturbing = async {
        disturb.await;
        enough.store(true, Ordering::SeqCst);
        calm.await;
    };
    let (resolved, ()) = tokio::join!(join_all(clients), disturbing);
    let resolved: Vec<Resolved> = resolved.into_iter().flatten().collect();
    let left = patiently(async || recorder.scan(&stores[0], SeqNo::MIN, usize::MAX).await).await;
    let history = recorder.history();
    history.check()?;
    judge(&resolved, &left);
    let committed = larder_testkit::history::Answer::Swapped(CaSResult::Committed);
    let committed = history.events.iter().filter(|event| event.answer == committed).count();
    Ok(Tally { committed, unknown: resolved.len() })
}

fn uri(server: &S3Server, timeout: &str) -> String {
    format!("{}&timeout={timeout}", server.uri("histories"))
}

/// How many histories of a kind: more on demand.
fn rounds(otherwise: usize) -> usize {
    std::env::var("LARDER_S3_HISTORIES")
        .ok()
        .and_then(|count| count.parse().ok())
        .unwrap_or(otherwise)
}

async fn for_a_while() {
    tokio::time::sleep(Duration::from_millis(500)).await;
}

pub(crate) async fn faults_of_every_kind_leave_one_order() {
    let server = S3Server::start().unwrap();
    let mut committed = 0;
    for round in 0..rounds(6) {
        let seed = random_u64();
        let disturb = async {
            server.disturb(if round % 2 == 0 { 20 } else { 50 }, seed);
            for_a_while().await;
        };
        let calm = async {
            server.let_late_ones_come().await;
            server.calm();
        };
        let tally = history(&uri(&server, "600ms"), disturb, calm).await;
        committed += tally.unwrap_or_else(|violation| panic!("seed {seed}: {violation}")).committed;
    }
    assert!(committed > 20 && server.failed() > 100, "{committed} {}", server.failed());
}

/// Calls give up soon, and what they have sent comes when they have.
pub(crate) async fn late_puts_leave_one_order() {
    let server = S3Server::start().unwrap();
    let (mut unknown, mut came) = (0, Vec::new());
    for _ in 0..rounds(6) {
        let disturb = async {
            server.disturb(60, random_u64());
            for _ in 0..25 {
                tokio::time::sleep(Duration::from_millis(20)).await;
                came.extend(server.let_late_ones_come().await);
            }
        };
        let calm = async { server.calm() };
        let tally = history(&uri(&server, "60ms"), disturb, calm).await.unwrap();
        unknown += tally.unknown;
    }
    assert!(unknown > 0, "no call was left without an answer");
    assert!(came.contains(&200) && came.contains(&412), "{came:?}");
}

pub(crate) async fn an_endpoint_that_is_killed_leaves_one_order() {
    let server = Arc::new(S3Server::start().unwrap());
    for _ in 0..rounds(3) {
        let disturb = async {
            for _ in 0..6 {
                tokio::time::sleep(Duration::from_millis(50 + random_u64() % 50)).await;
                let server = Arc::clone(&server);
                tokio::task::spawn_blocking(move || server.restart()).await.unwrap().unwrap();
            }
        };
        let tally = history(&uri(&server, "500ms"), disturb, async {}).await.unwrap();
        assert!(tally.committed > 5, "{tally:?}");
    }
}

pub(crate) async fn a_process_that_is_killed_leaves_one_order() {
    let server = Arc::new(S3Process::start().unwrap());
    for _ in 0..rounds(3) {
        let disturb = async {
            for _ in 0..5 {
                tokio::time::sleep(Duration::from_millis(50 + random_u64() % 50)).await;
                let server = Arc::clone(&server);
                let restarting = tokio::task::spawn_blocking(move || {
                    server.kill();
                    server.restart()
                });
                restarting.await.unwrap().unwrap();
            }
        };
        let uri = format!("{}&timeout=500ms", server.uri("histories"));
        let tally = history(&uri, disturb, async {}).await.unwrap();
        assert!(tally.committed > 5, "{tally:?}");
    }
}

pub(crate) async fn cut_connections_leave_one_order() {
    let server = S3Server::start().unwrap();
    let proxy = Proxy::to_port(server.port()).unwrap();
    let (from, to) = (format!(":{}", server.port()), format!(":{}", proxy.address().port()));
    let uri = uri(&server, "500ms").replace(&from, &to);
    for _ in 0..rounds(3) {
        let disturb = async {
            for turn in 0..12 {
                tokio::time::sleep(Duration::from_millis(20 + random_u64() % 40)).await;
                match turn % 4 {
                    0 => proxy.kill(),
                    1 => proxy.kill_after(larder_testkit::Direction::Answer, 0),
                    2 => proxy.kill_after(larder_testkit::Direction::Request, 300),
                    _ => proxy.hang(),
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
                proxy.restore();
            }
        };
        let tally = history(&uri, disturb, async {}).await.unwrap();
        assert!(tally.committed > 5, "{tally:?}");
    }
}

/// The control: stores that would be refused, had they shown what they are when they were opened.
pub(crate) async fn a_store_that_forgets_conditions_is_found_out() {
    for quirk in [S3Quirk::IgnoresIfMatch, S3Quirk::LooksThenWrites] {
        let server = S3Server::start().unwrap();
        let mut caught = false;
        for _ in 0..10 {
            server.behave_as(None);
            let disturb = async {
                server.behave_as(Some(quirk));
                for_a_while().await;
            };
            caught |= history(&uri(&server, "2s"), disturb, async {}).await.is_err();
            if caught {
                break;
            }
        }
        assert!(caught, "{quirk:?} went unnoticed");
    }
}
