//! Hearing what is published: a connection that does nothing else.

use bytes::Bytes;
use futures_util::StreamExt as _;
use redis::RedisConnectionInfo;
use redis::aio::{PubSub, PubSubStream};
use tokio::time::timeout;

use super::{Inner, Link, OPEN_MAX, Trouble};

/// What is published on one channel, as long as the connection lives.
pub(crate) struct Listener(PubSubStream);

impl Link {
    /// Opens a connection of its own and listens on `channel` there.
    pub(crate) async fn listen(&self, channel: &str) -> Result<Listener, Trouble> {
        let place = || self.0.endpoint.to_string();
        let late = |_| Trouble::NotConnected { place: place(), limit: OPEN_MAX };
        timeout(OPEN_MAX, self.0.listen(channel)).await.map_err(late)?
    }

    /// That a listener has ended.
    pub(crate) fn listened(&self) -> Trouble {
        Trouble::Lost { place: self.0.endpoint.to_string(), why: String::from("it was closed") }
    }
}

impl Inner {
    async fn listen(&self, channel: &str) -> Result<Listener, Trouble> {
        let refused = |error| Trouble::met(&self.endpoint, &error);
        let mut settings = RedisConnectionInfo::default().set_skip_set_lib_name();
        if let Some(user) = &self.endpoint.user {
            settings = settings.set_username(user);
        }
        if let Some(password) = &self.endpoint.password {
            settings = settings.set_password(password);
        }
        let stream = self.dial().await?;
        let mut listener = PubSub::new(&settings, stream).await.map_err(refused)?;
        listener.subscribe(channel).await.map_err(refused)?;
        Ok(Listener(listener.into_on_message()))
    }
}

impl Listener {
    /// The next message; `None` when the connection has ended.
    pub(crate) async fn next(&mut self) -> Option<Bytes> {
        let message = self.0.next().await?;
        Some(Bytes::copy_from_slice(message.get_payload_bytes()))
    }
}
