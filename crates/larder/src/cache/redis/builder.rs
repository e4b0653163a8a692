//! From an address to a cache in Redis.

use std::fmt;
use std::time::Duration;

use larder_core::{SharedClock, SystemClock};

use super::RedisCache;
use crate::address::{Address, AddressError};
use crate::driver::redis::{Endpoint, Link, Settings};
use crate::registry::OpenError;

/// The settings of a [`RedisCache`].
#[derive(Clone)]
pub struct RedisCacheBuilder {
    endpoint: Endpoint,
    namespace: String,
    timeout: Duration,
    pub(super) value_bytes_max: u64,
    pub(super) label: String,
    pub(super) clock: SharedClock,
}

/// What an address may say besides the server.
const PARAMETERS: [&str; 4] = ["namespace", "timeout", "max_value", "ca (with rediss)"];

impl RedisCacheBuilder {
    /// The namespace of an address that names none.
    pub const NAMESPACE: &'static str = Settings::NAMESPACE;
    /// The time limit of a call, of an address that states none.
    pub const TIMEOUT: Duration = Settings::TIMEOUT;
    /// The largest value, of an address that states none: 65 MiB, which has room for the largest
    /// record of [`Encoded`](crate::cache::Encoded).
    pub const VALUE_BYTES_MAX: u64 = 65 << 20;
    /// What the server itself takes, less what stands in front of a value.
    const SERVER_BYTES_MAX: (u64, &'static str) =
        ((512 << 20) - 1024, "a size below 512MiB, which is what Redis takes");

    pub(crate) fn of(mut address: Address) -> Result<Self, AddressError> {
        let Settings { endpoint, namespace, timeout } = Settings::take(&mut address)?;
        let value_bytes_max = address.take_bytes_max("max_value", Self::SERVER_BYTES_MAX)?;
        let value_bytes_max = value_bytes_max.unwrap_or(Self::VALUE_BYTES_MAX);
        address.finish(&PARAMETERS)?;
        Ok(Self {
            endpoint,
            namespace,
            timeout,
            value_bytes_max,
            label: String::from("redis"),
            clock: SystemClock::shared(),
        })
    }

    /// The time limit of every call.
    pub(crate) const fn call_limit(&self) -> Duration {
        self.timeout
    }

    /// The name in metrics and source paths. Default: `redis`.
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

    /// Connects, so that what is wrong shows now.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`]: no server there, wrong password, no such database, a server that
    /// is still loading. Its source says whether repeating helps. After at most three seconds.
    ///
    /// # Cancel safety
    /// Dropping the future harms nothing.
    pub async fn open(self) -> Result<RedisCache, OpenError> {
        let cache = self.attach();
        cache.link.open().await?;
        Ok(cache)
    }

    /// The cache without having connected: the first call does, and until the server is there
    /// every call fails.
    ///
    /// For a second tier, which must not keep a service from starting.
    pub fn attach(self) -> RedisCache {
        let link = Link::new(self.endpoint.clone(), self.timeout);
        let prefix = format!("{}:", self.namespace);
        RedisCache::over(link, prefix, self)
    }
}

impl fmt::Debug for RedisCacheBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCacheBuilder")
            .field("endpoint", &self.endpoint)
            .field("namespace", &self.namespace)
            .field("timeout", &self.timeout)
            .field("label", &self.label)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(text: &str) -> Result<RedisCacheBuilder, AddressError> {
        RedisCacheBuilder::of(text.parse()?)
    }

    #[test]
    fn an_address_says_namespace_limit_and_size() {
        let built = builder("redis://h/1?namespace=shop.v2&timeout=50ms&max_value=1MiB").unwrap();
        let limits = (built.timeout, built.value_bytes_max);
        assert_eq!(limits, (Duration::from_millis(50), 1 << 20));
        assert_eq!(built.namespace, "shop.v2");
        let built = builder("redis://h").unwrap();
        assert_eq!((built.namespace.as_str(), built.timeout), ("larder", Duration::from_secs(1)));
    }

    #[test]
    fn what_an_address_cannot_say_is_refused() {
        for bad in [
            "namespace=",
            "namespace=a:b",
            "namespace=a*",
            "timeout=0s",
            "timeout=2h",
            "timeout=5",
            "max_value=1GiB",
            "prefix=x",
            "ca=x",
        ] {
            assert!(builder(&format!("redis://h?{bad}")).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_printed_builder_has_no_password() {
        let printed = format!("{:?}", builder("redis://me:secret@h").unwrap());
        assert!(!printed.contains("secret") && !printed.contains("me:"), "{printed}");
    }
}
