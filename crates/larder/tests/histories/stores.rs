//! The stores of a run.

use std::time::Duration;

use larder::registry::OpenError;
use larder::{Consensus, Failure as _, Retry, SharedConsensus};
use tokio::time::sleep;

/// Two stores of a server, which a busy machine may keep from answering within the limit of a call.
pub(crate) async fn two<C: Consensus + 'static>(
    open: impl AsyncFn() -> Result<C, OpenError>,
) -> Vec<SharedConsensus> {
    vec![
        SharedConsensus::new(in_the_end(&open).await),
        SharedConsensus::new(in_the_end(&open).await),
    ]
}

async fn in_the_end<C>(open: &impl AsyncFn() -> Result<C, OpenError>) -> C {
    for _ in 0..3_000 {
        match open().await {
            Ok(store) => return store,
            Err(error) => assert_eq!(error.retry(), Retry::Later, "{error:?}"),
        }
        sleep(Duration::from_millis(20)).await;
    }
    panic!("the server was not found")
}
