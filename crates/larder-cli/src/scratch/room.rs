//! Schemas, prefixes and namespaces that are made to be thrown away.

use larder::clock::random_u64;
use larder::error::chain;
use larder::{Failure, OpenError, Tier as _};

/// A schema of PostgreSQL, a prefix of etcd or S3, or a namespace of Redis that nobody else uses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Room {
    pub(super) uri: String,
    name: String,
}

impl Room {
    /// One at `uri`, in place of the schema or namespace that it names, or below its prefix; `None` where there are none.
    pub(super) fn at(uri: &str, scheme: &str, what: &str) -> Option<Self> {
        let name = format!("larder_{what}_{:016x}", random_u64());
        let made = match scheme {
            "postgres" | "postgresql" => replaced(uri, "schema", &name),
            "redis" | "rediss" => replaced(uri, "namespace", &name),
            "etcd" | "etcds" | "s3" => below(uri, &name),
            _ => return None,
        };
        let name = if has_prefix(&made) { prefix(&made).to_owned() } else { name };
        Some(Self { uri: made, name })
    }

    /// Another one beside it.
    pub(super) fn beside(&self, uri: &str, what: &str) -> Option<Self> {
        Self::at(uri, self.scheme(), what)
    }

    pub(super) fn is_namespace(&self) -> bool {
        self.scheme().starts_with("redis")
    }

    /// Removes what is there, as far as something is.
    pub(super) async fn drop(&self) -> Result<(), Trouble> {
        let dropped = match self.scheme() {
            "redis" | "rediss" => {
                let cache =
                    larder::open_cache(&self.uri).await.map_err(|error| Trouble::of(&error))?;
                return cache.clear().await.map_err(|error| Trouble::of(&error));
            }
            "etcd" | "etcds" | "s3" => larder::registry::drop_prefix(&self.uri).await,
            _ => larder::registry::drop_schema(&self.uri).await,
        };
        dropped.map_err(|error: OpenError| Trouble::of(&error))
    }

    /// What is left when these are, and how to remove it by hand.
    pub(super) fn left(rooms: &[Self]) -> String {
        let names: Vec<&str> = rooms.iter().map(|room| room.name.as_str()).collect();
        let (what, how) = match rooms.first().map_or("", Self::scheme) {
            "redis" | "rediss" => {
                ("the namespace", "delete the keys that begin with it and a colon")
            }
            "etcd" | "etcds" => {
                ("below the prefixes", "delete each with etcdctl del --prefix PREFIX/")
            }
            "s3" => ("below the prefixes", "delete the objects there"),
            _ => ("the schemas", "remove each with DROP SCHEMA NAME CASCADE"),
        };
        format!("left behind: {what} {}; {how}", names.join(", "))
    }

    fn scheme(&self) -> &str {
        self.uri.split(':').next().unwrap_or_default()
    }
}

/// Why a room could not be removed.
pub(super) struct Trouble {
    pub(super) why: String,
    /// Whoever is not let in has made nothing either.
    pub(super) passes: bool,
}

impl Trouble {
    fn of(error: &(impl Failure + 'static)) -> Self {
        Self { why: chain(error), passes: error.retry() == larder::Retry::Later }
    }
}

/// The same address with another value of a parameter.
fn replaced(uri: &str, parameter: &str, value: &str) -> String {
    let (place, parameters) = uri.split_once('?').unwrap_or((uri, ""));
    let others = parameters.split('&').filter(|part| !part.is_empty());
    let others = others.filter(|part| part.split('=').next() != Some(parameter));
    let named = format!("{parameter}={value}");
    let all: Vec<&str> = others.chain([named.as_str()]).collect();
    format!("{place}?{}", all.join("&"))
}

/// Whether what is at an address has a prefix.
fn has_prefix(uri: &str) -> bool {
    is_etcd(uri) || uri.starts_with("s3:")
}

fn is_etcd(uri: &str) -> bool {
    uri.starts_with("etcd:") || uri.starts_with("etcds:")
}

/// Hosts or bucket of an address that has a prefix, and what follows. A password may have slashes in it.
fn hosts(place: &str) -> &str {
    let (_, place) = place.split_once("://").unwrap_or(("", place));
    place.rsplit_once('@').map_or(place, |(_, hosts)| hosts)
}

/// The prefix that an address names.
fn prefix(uri: &str) -> &str {
    let place = uri.split('?').next().unwrap_or(uri);
    hosts(place).split_once('/').map_or("", |(_, prefix)| prefix)
}

/// The same address with a prefix below its own; that of etcd has one of which nothing is said.
fn below(uri: &str, name: &str) -> String {
    let (place, parameters) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
    let place = place.trim_end_matches('/');
    let is_said = hosts(place).contains('/') || !is_etcd(uri);
    let prefix = if is_said { "" } else { "/larder" };
    let parameters = parameters.map(|parameters| format!("?{parameters}")).unwrap_or_default();
    format!("{place}{prefix}/{name}{parameters}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_takes_the_place_of_the_given_one() {
        let renamed = |uri| replaced(uri, "namespace", "n");
        assert_eq!(renamed("redis://h/0"), "redis://h/0?namespace=n");
        let uri = renamed("redis://h?timeout=1s&namespace=mine&max_value=1");
        assert_eq!(uri, "redis://h?timeout=1s&max_value=1&namespace=n");
    }

    #[test]
    fn a_prefix_is_made_below_the_given_one() {
        assert_eq!(below("etcd://h", "n"), "etcd://h/larder/n");
        assert_eq!(below("etcd://h,i:7/?timeout=1s", "n"), "etcd://h,i:7/larder/n?timeout=1s");
        assert_eq!(below("etcds://h?ca=a/b", "n"), "etcds://h/larder/n?ca=a/b");
        assert_eq!(below("etcd://me:a/b@h/shop", "n"), "etcd://me:a/b@h/shop/n");
        assert_eq!(below("etcd://me:a/b@h", "n"), "etcd://me:a/b@h/larder/n");
        assert_eq!(below("s3://shelf", "n"), "s3://shelf/n");
        assert_eq!(below("s3://me:a/b@shelf/a/?region=r", "n"), "s3://me:a/b@shelf/a/n?region=r");
    }

    #[test]
    fn what_is_left_is_named_without_a_login() {
        let left = |uri: &str, scheme: &str| Room::left(&[Room::at(uri, scheme, "check").unwrap()]);
        let told = left("postgres://me:hush@h/db?schema=mine", "postgres");
        assert!(told.starts_with("left behind: the schemas larder_check_"), "{told}");
        assert!(told.contains("DROP SCHEMA") && !told.contains("mine"), "{told}");
        let told = left("etcd://me:hu/sh@h/shop", "etcd");
        assert!(told.starts_with("left behind: below the prefixes shop/larder_check_"), "{told}");
        let told = left("s3://me:hu/sh@shelf?region=r", "s3");
        assert!(told.starts_with("left behind: below the prefixes larder_check_"), "{told}");
        let told = left("redis://:hush@h/0", "redis");
        assert!(told.starts_with("left behind: the namespace larder_check_"), "{told}");
        assert_eq!(Room::at("memory:", "memory", "check"), None);
    }
}
