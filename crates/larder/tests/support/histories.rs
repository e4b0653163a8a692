//! Many clients of one key while the server dies, hangs and loses connections: one order explains what
//! they were told, and whatever nobody could tell at first is found out.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures_util::future::join_all;
use larder::clock::random_u64;
use larder::{Consensus, SeqNo};
use larder_testkit::history::Recorder;

#[path = "clients.rs"]
mod clients;

use clients::{CLIENTS, Resolved, judge, live, patiently};

/// How often the server is disturbed in one history.
const TURNS: usize = 6;

/// A history while `disturb`, which may block, is done again and again; how many calls were resolved.
async fn history(
    store: &impl Consensus,
    disturb: impl Fn() -> Result<(), String> + Clone + Send + 'static,
) -> usize {
    let recorder = Recorder::new(format!("k{:016x}", random_u64()).as_str());
    let enough = AtomicBool::new(false);
    let clients = join_all((0..CLIENTS).map(|client| live(store, &recorder, client, &enough)));
    let disturbing = async {
        for _ in 0..TURNS {
            tokio::time::sleep(Duration::from_millis(40 + random_u64() % 40)).await;
            tokio::task::spawn_blocking(disturb.clone()).await.unwrap().unwrap();
        }
        enough.store(true, Ordering::SeqCst);
    };
    let (resolved, ()) = tokio::join!(clients, disturbing);
    let resolved: Vec<Resolved> = resolved.into_iter().flatten().collect();
    let left = patiently(async || recorder.scan(store, SeqNo::MIN, usize::MAX).await).await;
    recorder.history().check().unwrap();
    assert!(left.len() > 5, "hardly anything was committed");
    judge(&resolved, &left);
    resolved.len()
}

/// Histories until something that was done to the server was in the way of a call.
pub(crate) async fn until_some_were_resolved<C: Consensus>(
    open: impl AsyncFn() -> C,
    disturb: impl Fn() -> Result<(), String> + Clone + Send + 'static,
) {
    let mut resolved = 0;
    for round in 0..10 {
        resolved += history(&open().await, disturb.clone()).await;
        if round >= 1 && resolved > 0 {
            return;
        }
    }
    panic!("no call was ever in the way of what was done to the server");
}
