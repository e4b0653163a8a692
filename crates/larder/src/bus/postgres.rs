//! A PostgreSQL server as a bus: its LISTEN and NOTIFY.

use std::fmt;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use larder_core::bus::{Bus, BusError, Feed, Subscription, Topic};
use larder_core::{BackendError, Effect, Retry};

use crate::address::{Address, AddressError};
use crate::driver::postgres::{Endpoint, Limits, Listener, Pool, Schema, Way, parameters};
use crate::registry::OpenError;

/// A PostgreSQL server as a bus.
///
/// Nothing is made there and nothing is kept: who is not connected misses what is published. Publishing shares
/// up to `connections` connections, each subscription has one of its own. The server hands out one
/// notification after the other, in the order of commits over all its databases' writers, and holds up all of
/// them while its queue is full: for messages, not for data.
///
/// Frames travel in base64 on a channel whose name is a hash of schema and topic; both stand in front of
/// the frame, so that topics whose hashes are the same do not meet. Any user of the database may listen.
///
/// A connection that is cut without a word is noticed when the system of this machine does, after minutes:
/// until then the subscription is silent.
///
/// ```no_run
/// use larder::bus::PostgresBus;
/// use larder::{Bus, Topic};
///
/// # async fn demo() -> Result<(), Box<dyn std::error::Error>> {
/// let bus = PostgresBus::attach("postgres://shop@127.0.0.1/shop?schema=cache")?;
/// let mut subscription = bus.subscribe(&Topic::new("news")?).await?;
/// # Ok(()) }
/// ```
pub struct PostgresBus {
    endpoint: Endpoint,
    schema: Schema,
    timeout: Duration,
    pool: Pool,
}

const NOTIFY: &str = "SELECT pg_notify($1::text, $2::text)";

impl PostgresBus {
    /// The time limit of a call, of an address that states none.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// The most connections to publish on, of an address that states none.
    pub const CONNECTIONS: usize = 2;

    /// The bus at `postgres://USER[:PASSWORD]@HOST[:PORT][/DATABASE]`, without having connected: until the
    /// server is there its calls fail. Parameters: `schema` (larder; a name that keeps buses apart),
    /// `timeout` (1s), `connections` (2), and `sslmode`, `ca`, `sslcert` and `sslkey` for
    /// TLS (feature `postgres-tls`).
    ///
    /// # Errors
    /// [`OpenError::Address`] when the address makes no sense.
    pub fn attach(uri: &str) -> Result<Self, OpenError> {
        Ok(Self::at(uri.parse()?)?)
    }

    pub(crate) fn at(mut address: Address) -> Result<Self, AddressError> {
        let endpoint = Endpoint::take(&mut address)?;
        let schema = Schema::take(&mut address)?;
        let otherwise = Limits { timeout: Self::TIMEOUT, connections: Self::CONNECTIONS };
        let Limits { timeout, connections } = Limits::take(&mut address, otherwise)?;
        address.finish(&parameters(&[]))?;
        // Nothing is written, so there is no commit to wait for.
        let settings = "SET synchronous_commit = off";
        let way = Way { endpoint: endpoint.clone(), tables: None, settings, durable: false };
        Ok(Self { endpoint, schema, timeout, pool: Pool::new(way, timeout, connections) })
    }

    /// What stands in front of every frame of a topic.
    fn prefix(&self, topic: &Topic) -> String {
        format!("{}/{topic} ", self.schema)
    }
}

/// The channel for frames with this prefix. The server takes 63 bytes, which a topic may exceed.
fn channel(prefix: &str) -> String {
    // FNV-1a: every process has to come to the same name, of whatever release it is.
    let hash = prefix.bytes().fold(0xCBF2_9CE4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3)
    });
    format!("larder_{hash:016x}")
}

impl Bus for PostgresBus {
    async fn publish(&self, topic: &Topic, frame: Bytes) -> Result<(), BusError> {
        BusError::check(&frame)?;
        let prefix = self.prefix(topic);
        let channel = channel(&prefix);
        let mut payload = prefix;
        STANDARD.encode_string(&frame, &mut payload);
        let sent = self.pool.query(NOTIFY, &[&channel, &payload]).await;
        Ok(sent.map(drop).map_err(|trouble| trouble.in_write("publish"))?)
    }

    async fn subscribe(&self, topic: &Topic) -> Result<Subscription, BusError> {
        let prefix = self.prefix(topic);
        let channel = channel(&prefix);
        let (feed, subscription) = Subscription::fed();
        let mut feeding = Feeding { feed: Some(feed), place: self.endpoint.to_string() };
        let heard = move |payload: &str| match payload.strip_prefix(prefix.as_str()) {
            Some(frame) => feeding.take(frame),
            // Another topic with the same hash.
            None => true,
        };
        let listener = Listener::open(&self.endpoint, &channel, self.timeout, heard).await;
        let listener = listener.map_err(|trouble| trouble.in_read("subscribe"))?;
        Ok(subscription.keeping(listener))
    }

    fn label(&self) -> &'static str {
        "postgres"
    }
}

/// Feeds a subscription, and ends it with a reason when the connection does.
struct Feeding {
    feed: Option<Feed>,
    place: String,
}

impl Feeding {
    /// Hands a frame on; `false` when nobody wants more.
    fn take(&mut self, frame: &str) -> bool {
        let Some(feed) = &mut self.feed else { return false };
        if let Ok(frame) = STANDARD.decode(frame) {
            return feed.push(Bytes::from(frame));
        }
        self.end("somebody else notifies on its channel");
        false
    }

    fn end(&mut self, why: &str) {
        let Some(feed) = self.feed.take() else { return };
        let words = format!("the connection to {} ended: {why}", self.place);
        let error = BackendError::new("postgres", "listen", words);
        feed.end(error.effect_is(Effect::Unknown).retry_is(Retry::Later).into());
    }
}

impl Drop for Feeding {
    fn drop(&mut self) {
        self.end("something may have been missed");
    }
}

impl fmt::Debug for PostgresBus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresBus")
            .field("endpoint", &self.endpoint)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_channel_is_the_same_for_ever() {
        assert_eq!(channel("\"larder\"/news "), channel("\"larder\"/news "));
        assert_ne!(channel("\"larder\"/news "), channel("\"larder\"/new "));
        // As published: the hash of nothing is its basis.
        assert_eq!(channel(""), "larder_cbf29ce484222325");
    }

    #[test]
    fn what_an_address_cannot_say_is_refused() {
        assert!(PostgresBus::attach("postgres://me@h?schema=shop&timeout=50ms").is_ok());
        for bad in ["max_value=1MiB", "schema=A", "connections=0"] {
            assert!(PostgresBus::attach(&format!("postgres://me@h?{bad}")).is_err(), "{bad}");
        }
    }
}
