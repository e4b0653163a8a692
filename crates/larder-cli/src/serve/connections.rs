//! Connections: bounded in number, timed, and drained at the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::config::Limits;
use super::stall::Stalling;

/// All connections of the daemon.
#[derive(Debug)]
pub(crate) struct Connections {
    limits: Limits,
    slots: Arc<Semaphore>,
    closing: CancellationToken,
}

impl Connections {
    pub(crate) fn new(limits: &Limits) -> Self {
        let slots = Arc::new(Semaphore::new(limits.connections as usize));
        Self { limits: limits.clone(), slots, closing: CancellationToken::new() }
    }

    /// Accepts until it is dropped. At the bound further clients wait in the system's queue.
    pub(crate) async fn accept(&self, listener: TcpListener, router: Router) {
        loop {
            let Ok(slot) = Arc::clone(&self.slots).acquire_owned().await else { return };
            match listener.accept().await {
                Ok((stream, _)) => self.serve(stream, router.clone(), slot),
                Err(error) if is_of_one_client(&error) => debug!(%error, "a client left"),
                Err(error) => {
                    // Out of file descriptors or memory: trying at once would only burn a core.
                    warn!(%error, "cannot accept connections at the moment");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }

    /// Ends idle connections, waits for busy ones; false when some were still busy at the limit.
    pub(crate) async fn drain(&self, limit: Duration) -> bool {
        self.closing.cancel();
        let all = self.slots.acquire_many(self.limits.connections);
        tokio::time::timeout(limit, all).await.is_ok()
    }

    fn serve(&self, stream: TcpStream, router: Router, slot: OwnedSemaphorePermit) {
        // Answers are small and whole: waiting for more to send only adds latency.
        if let Err(error) = stream.set_nodelay(true) {
            debug!(%error, "cannot switch off delayed sending");
        }
        let io = TokioIo::new(Stalling::new(stream, self.limits.idle_timeout));
        let connection = http1::Builder::new()
            .timer(TokioTimer::new())
            .header_read_timeout(self.limits.head_timeout)
            .max_buf_size(64 << 10)
            .serve_connection(io, TowerToHyperService::new(router));
        let closing = self.closing.clone();
        tokio::spawn(async move {
            let mut connection = std::pin::pin!(connection);
            let ended = tokio::select! {
                ended = connection.as_mut() => ended,
                () = closing.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = ended {
                debug!(%error, "a connection ended early");
            }
            drop(slot);
        });
    }
}

fn is_of_one_client(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::ConnectionAborted
            | io::ErrorKind::ConnectionReset
            | io::ErrorKind::ConnectionRefused
    )
}
