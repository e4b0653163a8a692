//! Which members of which cluster, and as whom.

use std::fmt;

use crate::address::{Address, AddressError};
use crate::driver::authority::{Authority, show};
use crate::driver::trust::Trust;

/// The members of a cluster that may be asked, and how to introduce oneself there.
///
/// Shown without user and password.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    servers: Vec<Server>,
    pub(super) login: Option<Login>,
    /// What each server has to show over TLS; `None`: nothing, and there is none.
    pub(super) tls: Option<Trust>,
    /// What the keys of this store begin with.
    prefix: String,
}

/// One member.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Server {
    pub(super) host: String,
    pub(super) port: u16,
}

/// A user and its password.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) user: String,
    pub(super) password: String,
}

/// The schemes that this build can serve.
const SCHEMES: &[&str] = if cfg!(feature = "etcd-tls") { &["etcd", "etcds"] } else { &["etcd"] };

const PORT: u16 = 2379;
/// The prefix of an address that names none.
const PREFIX: &str = "larder";
/// The longest prefix, in bytes.
const PREFIX_BYTES_MAX: usize = 128;

impl Endpoint {
    /// The place of `etcd://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/PREFIX]`, and the parameters `ca`, `cert`
    /// and `key` of `etcds:`.
    pub(crate) fn take(address: &mut Address) -> Result<Self, AddressError> {
        let tls = Trust::of_scheme(address, SCHEMES, "place in etcd", Some(["cert", "key"]))?;
        Ok(Self { tls, ..Self::of(address)? })
    }

    fn of(address: &Address) -> Result<Self, AddressError> {
        // Never with the place in it: it may hold a password.
        let bad = |problem| AddressError::BadPlace { scheme: address.scheme().into(), problem };
        let server = "has to name servers, as in etcd://10.0.0.1:2379,10.0.0.2:2379/larder";
        let rest = address.place().strip_prefix("//").ok_or_else(|| bad(server))?;
        let (login, rest) =
            rest.rsplit_once('@').map_or((None, rest), |(login, rest)| (Some(login), rest));
        let login = match login.map(|login| login.split_once(':')) {
            None => None,
            Some(Some((user, password))) if !user.is_empty() => {
                Some(Login { user: user.into(), password: password.into() })
            }
            Some(_) => return Err(bad("has a user without a password: write user:password@")),
        };
        let (hosts, prefix) = rest.split_once('/').unwrap_or((rest, ""));
        let prefix = if prefix.is_empty() { PREFIX } else { prefix };
        if !fits(prefix) {
            let words = "has to end in a prefix of at most 128 letters, digits, - _ . with single \
                         slashes in between, as in /prod/larder";
            return Err(bad(words));
        }
        let one = |host: &str| {
            let (authority, _) = Authority::split(&format!("//{host}"))?;
            Ok(Server { host: authority.host, port: authority.port.unwrap_or(PORT) })
        };
        let servers = hosts.split(',').map(one).collect::<Result<_, _>>();
        let servers =
            servers.map_err(|flaw: crate::driver::authority::Flaw| bad(flaw.problem(server)))?;
        Ok(Self { servers, login, tls: None, prefix: prefix.to_owned() })
    }

    /// One of the servers, as an address.
    pub(super) fn place(&self, server: &Server) -> String {
        format!("{}://{server}", self.scheme())
    }

    const fn scheme(&self) -> &'static str {
        if self.tls.is_some() { "etcds" } else { "etcd" }
    }

    pub(crate) fn prefix(&self) -> &str {
        &self.prefix
    }

    pub(super) fn servers(&self) -> &[Server] {
        &self.servers
    }
}

/// Whether a prefix can be told from the keys below it, and from every other prefix.
fn fits(prefix: &str) -> bool {
    let known = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
    prefix.len() <= PREFIX_BYTES_MAX
        && prefix.split('/').all(|part| !part.is_empty() && part.bytes().all(known))
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        show(f, &self.host, self.port)
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}://", self.scheme())?;
        for (at, server) in self.servers.iter().enumerate() {
            write!(f, "{}{server}", if at == 0 { "" } else { "," })?;
        }
        write!(f, "/{}", self.prefix)
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
            ("etcd://h", "etcd://h:2379/larder"),
            ("etcd://h:1/", "etcd://h:1/larder"),
            ("etcd://h:1,i,[::1]:7/prod/shop", "etcd://h:1,i:2379,[::1]:7/prod/shop"),
            ("etcd://me:p:a@ss@h,i/x", "etcd://h:2379,i:2379/x"),
        ];
        for (text, shown) in table {
            assert_eq!(endpoint(text).unwrap().to_string(), shown, "{text}");
        }
    }

    #[test]
    fn a_password_may_hold_anything_and_is_not_shown() {
        let endpoint = endpoint("etcd://me:p:a/s@s%3F%25@h/x").unwrap();
        let login = endpoint.login.as_ref().unwrap();
        assert_eq!((login.user.as_str(), login.password.as_str()), ("me", "p:a/s@s?%"));
        assert!(!format!("{endpoint} {endpoint:?}").contains("a/s"));
    }

    #[test]
    fn what_is_no_place_is_refused_without_showing_it() {
        for text in [
            "memory:",
            "postgres://me:secret@h",
            "etcd:",
            "etcd:secret",
            "etcd://",
            "etcd://h,,i",
            "etcd://h,/x",
            "etcd://secret@h",
            "etcd://:secret@h",
            "etcd://me:secret@",
            "etcd://me:secret@h:port",
            "etcd://me:secret@h,i:65536",
            "etcd://me:secret@h//x",
            "etcd://me:secret@h/x/",
            "etcd://me:secret@h/a b",
        ] {
            let error = endpoint(text).unwrap_err().to_string();
            assert!(!error.contains("secret"), "{error}");
        }
    }
}
