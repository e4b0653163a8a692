//! From an address to a cache in PostgreSQL.

use std::fmt;
use std::time::Duration;

use larder_core::{SharedClock, SystemClock};

use super::{PostgresCache, statement};
use crate::address::{Address, AddressError};
use crate::driver::postgres::{
    Endpoint, Limits, Pool, SERVER_BYTES_MAX, Schema, Tables, Way, parameters,
};
use crate::registry::OpenError;

/// The settings of a [`PostgresCache`].
#[derive(Clone)]
pub struct PostgresCacheBuilder {
    endpoint: Endpoint,
    pub(super) schema: Schema,
    limits: Limits,
    pub(super) value_bytes_max: u64,
    pub(super) label: String,
    pub(super) clock: SharedClock,
}

impl PostgresCacheBuilder {
    /// The schema of an address that names none.
    pub const SCHEMA: &'static str = Schema::DEFAULT;
    /// The time limit of a call, of an address that states none.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    /// The most connections at once, of an address that states none.
    pub const CONNECTIONS: usize = 8;
    /// The largest value, of an address that states none: 65 MiB, which has room for the largest
    /// record of [`Encoded`](crate::cache::Encoded).
    pub const VALUE_BYTES_MAX: u64 = 65 << 20;

    pub(crate) fn of(mut address: Address) -> Result<Self, AddressError> {
        let endpoint = Endpoint::take(&mut address)?;
        let schema = Schema::take(&mut address)?;
        let otherwise = Limits { timeout: Self::TIMEOUT, connections: Self::CONNECTIONS };
        let limits = Limits::take(&mut address, otherwise)?;
        let value_bytes_max = address.take_bytes_max("max_value", SERVER_BYTES_MAX)?;
        let value_bytes_max = value_bytes_max.unwrap_or(Self::VALUE_BYTES_MAX);
        address.finish(&parameters(&["max_value"]))?;
        Ok(Self {
            endpoint,
            schema,
            limits,
            value_bytes_max,
            label: String::from("postgres"),
            clock: SystemClock::shared(),
        })
    }

    /// The time limit of every call.
    pub(crate) const fn call_limit(&self) -> Duration {
        self.limits.timeout
    }

    /// The name in metrics and source paths. Default: `postgres`.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What decides about expiry. Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// Connects, and makes the table unless it is there, so that what is wrong shows now.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`]: no server there, a standby, wrong password, no such database, no right
    /// to make the schema. Its source says whether repeating helps. After at most five seconds.
    /// [`OpenError::Newer`]: another release keeps its entries there in another way.
    ///
    /// # Cancel safety
    /// Dropping the future harms nothing.
    pub async fn open(self) -> Result<PostgresCache, OpenError> {
        let cache = self.attach();
        cache.0.pool.open().await?;
        Ok(cache)
    }

    /// The cache without having connected: the first call does, and until the server is there
    /// every call fails.
    ///
    /// For a second tier, which must not keep a service from starting.
    pub fn attach(self) -> PostgresCache {
        let create = statement::create(&self.schema);
        let schema = self.schema.clone();
        let tables = Some(Tables { schema, what: "cache", layout: statement::LAYOUT, create });
        // What a crash may take anyway is not waited for.
        let settings = "SET synchronous_commit = off";
        let way = Way { endpoint: self.endpoint.clone(), tables, settings, durable: false };
        let pool = Pool::new(way, self.limits.timeout, self.limits.connections);
        PostgresCache::over(pool, self)
    }
}

impl fmt::Debug for PostgresCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PostgresCacheBuilder")
            .field("endpoint", &self.endpoint)
            .field("schema", &self.schema)
            .field("limits", &self.limits)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(text: &str) -> Result<PostgresCacheBuilder, AddressError> {
        PostgresCacheBuilder::of(text.parse()?)
    }

    #[test]
    fn an_address_says_schema_limits_and_size() {
        let text = "postgres://me@h/db?schema=shop_2&timeout=50ms&connections=3&max_value=1MiB";
        let built = builder(text).unwrap();
        let limits = Limits { timeout: Duration::from_millis(50), connections: 3 };
        assert_eq!((built.limits, built.value_bytes_max), (limits, 1 << 20));
        assert_eq!(built.schema.to_string(), "\"shop_2\"");
        let built = builder("postgres://me@h").unwrap();
        let limits = Limits { timeout: Duration::from_secs(1), connections: 8 };
        assert_eq!((built.schema.to_string().as_str(), built.limits), ("\"larder\"", limits));
    }

    #[test]
    fn what_an_address_cannot_say_is_refused() {
        for bad in [
            "schema=",
            "schema=Shop",
            "schema=a\"b",
            "schema=a;b",
            "schema=1a",
            "schema=pg_mine",
            "timeout=0s",
            "timeout=500us",
            "timeout=2h",
            "connections=0",
            "connections=1001",
            "max_value=1GiB",
            "namespace=x",
        ] {
            assert!(builder(&format!("postgres://me@h?{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_printed_builder_has_no_password() {
        let printed = format!("{:?}", builder("postgres://me:secret@h").unwrap());
        assert!(!printed.contains("secret") && !printed.contains("me:"), "{printed}");
    }
}
