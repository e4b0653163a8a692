//! Which server, which database, and as whom.

use std::fmt;

use crate::address::{Address, AddressError};
use crate::driver::authority::{Authority, show};

/// A database of a PostgreSQL server, and how to introduce oneself there.
///
/// Shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(super) host: String,
    pub(super) port: u16,
    pub(super) database: String,
    pub(super) user: String,
    pub(super) password: Option<String>,
}

const PORT: u16 = 5432;

impl Endpoint {
    /// The place of `postgres://USER[:PASSWORD]@HOST[:PORT][/DATABASE]`.
    pub(crate) fn of(address: &Address) -> Result<Self, AddressError> {
        // Never with the place in it: it may hold a password.
        let bad = |problem| AddressError::BadPlace { scheme: address.scheme().into(), problem };
        let server = "has to name a server, as in postgres://user@127.0.0.1:5432/database";
        let (authority, database) =
            Authority::split(address.place()).map_err(|flaw| bad(flaw.problem(server)))?;
        let Authority { user, password, host, port } = authority;
        let user = user.ok_or_else(|| bad("has to name a user, as in postgres://user@host"))?;
        if database.contains('/') {
            return Err(bad("has to end in the name of a database, as in /shop"));
        }
        // As everybody else does.
        let database = if database.is_empty() { user.clone() } else { database.to_owned() };
        Ok(Self { host, port: port.unwrap_or(PORT), database, user, password })
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("postgres://")?;
        show(f, &self.host, self.port)?;
        write!(f, "/{}", self.database)
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
        Endpoint::of(&text.parse::<Address>()?)
    }

    #[test]
    fn what_is_not_said_is_as_everywhere() {
        let table = [
            ("postgres://me@h", "postgres://h:5432/me"),
            ("postgres://me@h:1/shop", "postgres://h:1/shop"),
            ("postgresql://me:pass@h/", "postgres://h:5432/me"),
            ("postgres://me:p:a@ss@[::1]:7/db", "postgres://[::1]:7/db"),
        ];
        for (text, shown) in table {
            assert_eq!(endpoint(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_password_may_hold_anything_and_is_not_shown() {
        let endpoint = endpoint("postgres://me:p:a/s@s%3F%25@h/db").unwrap();
        assert_eq!(endpoint.password.as_deref(), Some("p:a/s@s?%"));
        assert_eq!((endpoint.user.as_str(), endpoint.host.as_str()), ("me", "h"));
        assert!(!format!("{endpoint} {endpoint:?}").contains("a/s"));
    }

    #[test]
    fn what_is_no_place_is_refused_without_showing_it() {
        for text in [
            "postgres:",
            "postgres:secret",
            "postgres://",
            "postgres://h",
            "postgres://:secret@h",
            "postgres://me:secret@",
            "postgres://me:secret@/db",
            "postgres://me:secret@h:port/db",
            "postgres://me:secret@h:65536",
            "postgres://me:secret@h/db/more",
        ] {
            let error = endpoint(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
