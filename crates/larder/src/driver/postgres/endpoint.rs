//! Which server, which database, and as whom.

use std::fmt;

use crate::address::{Address, AddressError};
use crate::driver::authority::{Authority, show};
use crate::driver::trust::Trust;

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
    /// What the server has to show over TLS; `None`: nothing, and there is none.
    pub(super) tls: Option<Trust>,
}

const PORT: u16 = 5432;

impl Endpoint {
    /// The place of `postgres://USER[:PASSWORD]@HOST[:PORT][/DATABASE]`, and the parameters `sslmode`, `ca`,
    /// `sslcert` and `sslkey`.
    pub(crate) fn take(address: &mut Address) -> Result<Self, AddressError> {
        let tls = protection(address)?;
        Ok(Self { tls, ..Self::of(address)? })
    }

    fn of(address: &Address) -> Result<Self, AddressError> {
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
        Ok(Self { host, port: port.unwrap_or(PORT), database, user, password, tls: None })
    }
}

/// Takes `sslmode`, `sslcert` and `sslkey`, in the words of PostgreSQL's own clients, and `ca` out of an address.
///
/// None of the words stands for less than it promises there. `require` says nothing about who the server is, and
/// is held as `verify-full`: protection from listeners alone ends where somebody answers in the server's place. Words
/// that ask for less than that, or only if the other end likes, are refused.
fn protection(address: &mut Address) -> Result<Option<Trust>, AddressError> {
    let Some(word) = address.take("sslmode") else {
        let given = ["ca", "sslcert", "sslkey"].into_iter().find_map(|name| {
            let value = address.take(name)?;
            let expected = "of use without sslmode=verify-full";
            Some(AddressError::BadValue { name: name.into(), value, expected })
        });
        return given.map_or(Ok(None), Err);
    };
    let expected = match word.as_str() {
        "disable" => return Ok(None),
        "require" | "verify-full" if cfg!(feature = "postgres-tls") => {
            return Trust::take(address, Some(["sslcert", "sslkey"])).map(Some);
        }
        "require" | "verify-full" => "possible in this build: it lacks the feature postgres-tls",
        "verify-ca" => {
            "enough: any server that the authority knows would do. Write verify-full, with the host \
             that the certificate names"
        }
        "allow" | "prefer" => {
            "safe: whoever is in between says that there is no TLS. Write verify-full or disable"
        }
        _ => "one of disable, require and verify-full",
    };
    Err(AddressError::BadValue { name: "sslmode".into(), value: word, expected })
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
        Endpoint::take(&mut text.parse::<Address>()?)
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

    #[test]
    fn only_words_that_keep_their_promise_are_taken() {
        let tls = |parameters: &str| {
            let taken = endpoint(&format!("postgres://me@h?{parameters}"));
            taken.map(|endpoint| endpoint.tls).map_err(|error| error.to_string())
        };
        assert_eq!(tls("schema=x"), Ok(None));
        assert_eq!(tls("sslmode=disable"), Ok(None));
        for (word, told) in [
            ("prefer", "not safe"),
            ("allow", "not safe"),
            ("verify-ca", "verify-full"),
            ("VERIFY-FULL", "one of disable, require and verify-full"),
            ("", "one of disable, require and verify-full"),
        ] {
            let error = tls(&format!("sslmode={word}")).unwrap_err();
            assert!(error.contains(told), "{error}");
        }
        // Who names authorities believes that they are asked.
        for name in ["ca", "sslcert", "sslkey"] {
            let error = tls(&format!("{name}=/it.pem")).unwrap_err();
            assert!(error.contains(name) && error.contains("sslmode=verify-full"), "{error}");
        }
    }

    #[test]
    #[cfg(feature = "postgres-tls")]
    fn authorities_are_those_of_the_machine_or_of_a_file() {
        let tls =
            |parameters: &str| endpoint(&format!("postgres://me@h?{parameters}")).unwrap().tls;
        for word in ["require", "verify-full"] {
            let machine = Trust::default();
            assert_eq!(tls(&format!("sslmode={word}")), Some(machine));
            let file = Trust { authorities: Some("/ca.pem".into()), identity: None };
            assert_eq!(tls(&format!("sslmode={word}&ca=/ca.pem")), Some(file));
            let ours = tls(&format!("sslmode={word}&sslcert=/c.pem&sslkey=/k.pem"));
            let ours = ours.unwrap().identity.unwrap();
            assert_eq!(ours.certificate.display().to_string(), "/c.pem");
            assert_eq!(ours.key.display().to_string(), "/k.pem");
        }
        for half in ["sslcert", "sslkey"] {
            let error = endpoint(&format!("postgres://me@h?sslmode=require&{half}=/x.pem"));
            let error = error.unwrap_err().to_string();
            assert!(error.contains(half) && error.contains("alone"), "{error}");
        }
    }

    #[test]
    #[cfg(not(feature = "postgres-tls"))]
    fn a_build_without_tls_says_so() {
        for word in ["require", "verify-full"] {
            let error = endpoint(&format!("postgres://me@h?sslmode={word}")).unwrap_err();
            assert!(error.to_string().contains("postgres-tls"), "{error}");
        }
    }
}
