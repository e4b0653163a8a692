//! Which server, and as whom.

use std::fmt;

use crate::address::{Address, AddressError};
use crate::driver::authority::{Authority, number, show};
use crate::driver::trust::Trust;

/// A database of a Redis server, and how to introduce oneself there.
///
/// Shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) db: u32,
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) tls: Option<Trust>,
}

/// The schemes that this build can serve.
const SCHEMES: &[&str] =
    if cfg!(feature = "redis-tls") { &["redis", "rediss"] } else { &["redis"] };

const PORT: u16 = 6379;

impl Endpoint {
    /// The place of `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, and the parameter `ca` of
    /// `rediss:`.
    pub(crate) fn take(address: &mut Address) -> Result<Self, AddressError> {
        let tls = Trust::of_scheme(address, SCHEMES, "place in Redis", None)?;
        Ok(Self { tls, ..Self::of(address)? })
    }

    /// The number of the database.
    pub(crate) const fn db(&self) -> u32 {
        self.db
    }

    fn of(address: &Address) -> Result<Self, AddressError> {
        // Never with the place in it: it may hold a password.
        let bad = |problem| AddressError::BadPlace { scheme: address.scheme().into(), problem };
        let server = "has to name a server, as in redis://127.0.0.1:6379/0";
        let (authority, db) =
            Authority::split(address.place()).map_err(|flaw| bad(flaw.problem(server)))?;
        let db = if db.is_empty() { Ok(0) } else { number(db) };
        let db = db.map_err(|()| bad("has to end in the number of a database, as in /0"))?;
        let Authority { user, password, host, port } = authority;
        if user.is_some() && password.is_none() {
            return Err(bad("has a user without a password: write user:password@"));
        }
        Ok(Self { host, port: port.unwrap_or(PORT), db, user, password, tls: None })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { host, port, db, tls, .. } = self;
        f.write_str(if tls.is_some() { "rediss://" } else { "redis://" })?;
        show(f, host, *port)?;
        write!(f, "/{db}")
    }
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Endpoint({self})")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(text: &str) -> Result<Endpoint, AddressError> {
        Endpoint::take(&mut text.parse::<Address>()?)
    }

    #[test]
    fn every_part_but_the_host_has_a_default() {
        let table = [
            ("redis://h", "redis://h:6379/0", None, None),
            ("redis://h/", "redis://h:6379/0", None, None),
            ("redis://h:1/15", "redis://h:1/15", None, None),
            ("redis://[::1]:7/2", "redis://[::1]:7/2", None, None),
            ("redis://:pw@h", "redis://h:6379/0", None, Some("pw")),
            ("redis://me:p%40w/%3F@h:1", "redis://h:1/0", Some("me"), Some("p@w/?")),
            ("redis://me:a:b@h", "redis://h:6379/0", Some("me"), Some("a:b")),
        ];
        for (text, shown, user, password) in table {
            let endpoint = endpoint(text).unwrap();
            assert_eq!(endpoint.to_string(), shown, "{text}");
            assert_eq!((endpoint.user.as_deref(), endpoint.password.as_deref()), (user, password));
        }
    }

    #[test]
    fn what_is_no_place_is_refused_without_showing_it() {
        let bad = [
            "memory:",
            "redis:",
            "redis:secret",
            "redis://",
            "redis://:secret@",
            "redis://me:secret@/0",
            "redis://me:secret@h:port",
            "redis://me:secret@h:65536",
            "redis://me:secret@h:+1",
            "redis://me:secret@h/zero",
            "redis://me:secret@h/0/1",
            "redis://secret@h",
            "redis://secret:@h",
        ];
        for text in bad {
            let error = endpoint(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
