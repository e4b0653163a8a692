//! From the first signal to the end.

use std::sync::Arc;

use tokio::net::TcpListener;
use tracing::{info, warn};

use super::connections::Connections;
use super::http;
use super::state::App;
use crate::exit::Exit;
use crate::signals::Signals;

/// Serves until a signal comes, then drains; a second signal ends the process at once.
pub(crate) async fn until_told(
    mut signals: Signals,
    app: &Arc<App>,
    listener: TcpListener,
) -> Result<(), Exit> {
    let connections = Connections::new(&app.limits);
    let router = http::router(Arc::clone(app));
    tokio::select! {
        () = connections.accept(listener, router) => {}
        () = signals.next() => {}
    }
    info!("shutting down: a second signal ends at once");
    app.begin_to_close();
    tokio::spawn(async move {
        signals.next().await;
        warn!("ended by a second signal");
        std::process::exit(1);
    });
    if !connections.drain(app.limits.drain).await {
        warn!(limit = ?app.limits.drain, "requests were cut off: they did not end in time");
    }
    Ok(())
}
