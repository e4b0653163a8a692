//! A connection that is told what others notify.

use tokio_postgres::AsyncMessage;

use super::{Endpoint, Trouble, Wire, timeout};

/// A connection that listens on one channel; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Listener {
    _wire: Wire,
}

impl Listener {
    /// Connects and listens: `heard` gets what is notified on `channel` after this has returned, until it
    /// answers `false`; then, or when the connection has ended, it is dropped.
    ///
    /// `channel` is a name that can stand in a statement.
    pub(crate) async fn open(
        endpoint: &Endpoint,
        channel: &str,
        limit: std::time::Duration,
        mut heard: impl FnMut(&str) -> bool + Send + 'static,
    ) -> Result<Self, Trouble> {
        let opened = timeout(limit, async {
            let wire = Wire::connect_with(endpoint, move |message| match message {
                AsyncMessage::Notification(told) => heard(told.payload()),
                _ => true,
            });
            let wire = wire.await?;
            let listening = wire.client().batch_execute(&format!("LISTEN \"{channel}\"")).await;
            listening.map_err(|error| Trouble::of(endpoint, &error, false))?;
            Ok(Self { _wire: wire })
        });
        let late = |_| Err(Trouble::NotConnected { place: endpoint.to_string(), limit });
        opened.await.unwrap_or_else(late)
    }
}
