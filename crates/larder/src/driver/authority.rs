//! Who, and on which server: the part of an address that is the same for every technology.

#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis"))]
use std::fmt;

/// `[USER[:PASSWORD]@]HOST[:PORT]`, taken apart.
///
/// The place of an address is decoded already, so that a user's name cannot have a colon; a password can
/// have anything.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Authority {
    pub(super) user: Option<String>,
    pub(super) password: Option<String>,
    pub(super) host: String,
    pub(super) port: Option<u16>,
}

/// What is wrong with one. Never with the place in it: it may hold a password.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flaw {
    /// There is no host, or something that is none.
    Host,
    /// The port is no number below 65536.
    Port,
}

impl Flaw {
    /// The rest of a sentence; `host` says how it is meant.
    pub(super) const fn problem(self, host: &'static str) -> &'static str {
        match self {
            Self::Host => host,
            Self::Port => "has a port that is not a number below 65536",
        }
    }
}

impl Authority {
    /// Takes `//AUTHORITY[/REST]` apart, into the authority and the rest.
    pub(super) fn split(place: &str) -> Result<(Self, &str), Flaw> {
        let rest = place.strip_prefix("//").ok_or(Flaw::Host)?;
        let (login, rest) = rest.rsplit_once('@').map_or(("", rest), |(login, rest)| (login, rest));
        let (at, rest) = rest.split_once('/').unwrap_or((rest, ""));
        let (host, port) = split_port(at);
        let port = port.map(number).transpose().map_err(|()| Flaw::Port)?;
        if host.is_empty() || host.contains(['/', '@']) || rest.contains('@') {
            return Err(Flaw::Host);
        }
        let (user, password) = login.split_once(':').unwrap_or((login, ""));
        let [user, password] = [user, password].map(given);
        Ok((Self { user, password, host: host.to_owned(), port }, rest))
    }
}

/// A number in digits only: no sign, no blanks.
pub(super) fn number<T: std::str::FromStr>(text: &str) -> Result<T, ()> {
    let digits = text.bytes().all(|byte| byte.is_ascii_digit());
    text.parse().ok().filter(|_| digits).ok_or(())
}

/// Writes host and port, without the user.
#[cfg(any(feature = "etcd", feature = "postgres", feature = "redis"))]
pub(super) fn show(f: &mut fmt::Formatter<'_>, host: &str, port: u16) -> fmt::Result {
    if host.contains(':') { write!(f, "[{host}]:{port}") } else { write!(f, "{host}:{port}") }
}

fn given(text: &str) -> Option<String> {
    (!text.is_empty()).then(|| text.to_owned())
}

/// Host and port; the host may be an address of IPv6 in brackets.
fn split_port(at: &str) -> (&str, Option<&str>) {
    if let Some((host, rest)) = at.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        return (host, rest.strip_prefix(':'));
    }
    match at.rsplit_once(':') {
        Some((host, port)) => (host, Some(port)),
        None => (at, None),
    }
}
