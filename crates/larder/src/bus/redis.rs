//! A Redis server as a bus: its publish and subscribe.

use std::fmt;

use bytes::Bytes;
use larder_core::bus::{Bus, BusError, Subscription, Topic};

use crate::address::{Address, AddressError};
use crate::driver::redis::{Link, Settings};
use crate::registry::OpenError;

/// A Redis server as a bus.
///
/// The server keeps nothing: who is not connected misses what is published. It forgets a listener
/// that is too slow by its own limits (`client-output-buffer-limit pubsub`), which ends the
/// subscription here. One connection publishes for all, and each subscription has one of its own.
///
/// Frames travel on the channel `NAMESPACE:DB:bus:TOPIC`. A user of the server's access control
/// needs leave for `PUBLISH`, `SUBSCRIBE` and `PING`, and for the channels `NAMESPACE:*`.
///
/// ```no_run
/// use larder::bus::RedisBus;
/// use larder::{Bus, Topic};
///
/// # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = RedisBus::attach("redis://127.0.0.1:6379/0?namespace=shop")?;
/// let mut subscription = bus.subscribe(&Topic::new("news")?).await?;
/// # Ok(()) }
/// ```
pub struct RedisBus {
    link: Link,
    prefix: String,
}

/// What an address may say besides the server.
const PARAMETERS: [&str; 3] = ["namespace", "timeout", "ca (with rediss)"];

impl RedisBus {
    /// The bus at `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, without having connected: until the
    /// server is there its calls fail. Parameters: `namespace` (larder), `timeout` (1s), and `ca`
    /// with `rediss:`.
    ///
    /// # Errors
    /// [`OpenError::Address`] when the address makes no sense.
    pub fn attach(uri: &str) -> Result<Self, OpenError> {
        let address: Address = uri.parse()?;
        Ok(Self::at(address)?)
    }

    fn at(mut address: Address) -> Result<Self, AddressError> {
        let Settings { endpoint, namespace, timeout } = Settings::take(&mut address)?;
        address.finish(&PARAMETERS)?;
        let prefix = format!("{namespace}:{}:bus:", endpoint.db());
        Ok(Self { link: Link::new(endpoint, timeout), prefix })
    }

    fn channel(&self, topic: &Topic) -> String {
        format!("{}{topic}", self.prefix)
    }
}

impl Bus for RedisBus {
    async fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), BusError> {
        BusError::check(&frame)?;
        let mut command = redis::cmd("PUBLISH");
        command.arg(self.channel(topic)).arg(&frame[..]);
        let sent = self.link.call(&command).await;
        Ok(sent.map(drop).map_err(|trouble| trouble.in_write("publish"))?)
    }

    async fn subscribe(&self, topic: &Topic) -> Result<Subscription, BusError> {
        let listener = self.link.listen(&self.channel(topic)).await;
        let mut listener = listener.map_err(|trouble| trouble.in_read("subscribe"))?;
        let (mut feed, subscription) = Subscription::fed();
        let link = self.link.clone();
        let task = tokio::spawn(async move {
            while let Some(frame) = listener.next().await {
                if !feed.push(frame) {
                    return;
                }
            }
            feed.end(link.listened().in_read("listen").into());
        });
        Ok(subscription.keeping(Listening(task)))
    }

    fn label(&self) -> &'static str {
        "redis"
    }
}

/// The task behind a subscription; it ends with it, and takes its connection along.
struct Listening(tokio::task::JoinHandle<()>);

impl Drop for Listening {
    fn drop(&mut self) {
        self.0.abort();
    }
}

impl fmt::Debug for RedisBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisBus")
            .field("endpoint", self.link.endpoint())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
