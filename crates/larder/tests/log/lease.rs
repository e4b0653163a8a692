//! Leases in the embedded engine.

use larder::{SharedConsensus, open_consensus};

#[path = "../support/lease.rs"]
mod laws;

async fn store() -> (tempfile::TempDir, SharedConsensus) {
    let folder = tempfile::tempdir().unwrap();
    let store = open_consensus(&format!("log:{}/c", folder.path().display())).await.unwrap();
    (folder, store)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_holds_a_lease_at_a_time() {
    let (_folder, store) = store().await;
    laws::one_at_a_time(&store).await;
    laws::contested(&store).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn processes_that_share_a_tier_load_a_key_once() {
    let (_folder, store) = store().await;
    laws::loads_once(&store).await;
}
