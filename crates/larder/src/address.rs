//! Addresses: the one text that names a backend, in the library, the config and on the command
//! line.
//!
//! `memory:?capacity=256MiB`, `log:./data/spool?sync_interval=50ms`: a scheme, a place, and
//! parameters. A `?` or `%` inside a place is written `%3F` or `%25`. Whatever is not understood is
//! an error, so a misspelt parameter cannot be passed over in silence.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use percent_encoding::percent_decode_str;

/// A parsed address.
#[derive(Clone, PartialEq, Eq)]
pub struct Address {
    scheme: String,
    place: String,
    parameters: BTreeMap<String, String>,
}

/// Why a text is not an address of something that exists.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// There is no `scheme:` in front.
    #[error("{text:?} is not an address: it has to begin with a scheme, as in log:./data")]
    NoScheme {
        /// The text, shortened.
        text: String,
    },
    /// No backend has this scheme for this contract.
    #[error("unknown scheme {scheme:?} for a {contract}: use one of {known}")]
    UnknownScheme {
        /// The scheme.
        scheme: String,
        /// What was to be opened.
        contract: &'static str,
        /// The schemes that exist.
        known: String,
    },
    /// The backend has no such parameter.
    #[error("unknown parameter {name:?} in a {scheme}: address; it takes {known}")]
    UnknownParameter {
        /// The scheme.
        scheme: String,
        /// The parameter.
        name: String,
        /// The parameters that exist.
        known: String,
    },
    /// A parameter has a value that it cannot have.
    #[error("the parameter {name}={value:?} is not {expected}")]
    BadValue {
        /// The parameter.
        name: String,
        /// Its value.
        value: String,
        /// What was expected.
        expected: &'static str,
    },
    /// The place is missing or has no business there.
    #[error("a {scheme}: address {problem}")]
    BadPlace {
        /// The scheme.
        scheme: String,
        /// What is wrong, as the rest of a sentence.
        problem: &'static str,
    },
    /// The text is cut off or doubled somewhere.
    #[error("the address has a malformed part {part:?}: {problem}")]
    Malformed {
        /// The part.
        part: String,
        /// What is wrong with it.
        problem: &'static str,
    },
}

impl Address {
    /// The scheme, such as `log`.
    pub fn scheme(&self) -> &str {
        &self.scheme
    }

    /// What stands between the scheme and the parameters, decoded.
    pub fn place(&self) -> &str {
        &self.place
    }

    /// Takes the parameter `name` out, so that [`Address::finish`] can name those left over.
    pub(crate) fn take(&mut self, name: &str) -> Option<String> {
        self.parameters.remove(name)
    }

    /// Takes a size such as `64KiB`, `256MiB`, `1GB` or `4096`.
    pub(crate) fn take_bytes(&mut self, name: &str) -> Result<Option<u64>, AddressError> {
        let expected = "a size such as 4096, 64KiB or 1GiB";
        self.take_as(name, expected, parse_bytes)
    }

    /// Takes the largest size of something, at most `most`: otherwise the error says what is `expected`.
    #[cfg(any(feature = "etcd", feature = "postgres", feature = "redis", feature = "s3"))]
    pub(crate) fn take_bytes_max(
        &mut self,
        name: &str,
        (most, expected): (u64, &'static str),
    ) -> Result<Option<u64>, AddressError> {
        let bytes = self.take_bytes(name)?;
        match bytes.filter(|bytes| *bytes > most) {
            None => Ok(bytes),
            Some(bytes) => {
                let (name, value) = (name.to_owned(), bytes.to_string());
                Err(AddressError::BadValue { name, value, expected })
            }
        }
    }

    /// Takes a whole number above zero.
    pub(crate) fn take_count(&mut self, name: &str) -> Result<Option<u64>, AddressError> {
        let parse = |text: &str| text.parse().ok().filter(|count| *count > 0);
        self.take_as(name, "a whole number above zero", parse)
    }

    /// Takes what has to stay free: a size or a share such as `10%`.
    #[cfg(feature = "log")]
    pub(crate) fn take_free_space(
        &mut self,
        name: &str,
    ) -> Result<Option<larder_log::FreeLimit>, AddressError> {
        let expected = "a size such as 5GiB, a share such as 10%, or 0";
        self.take_as(name, expected, |text| free_limit(text, parse_bytes))
    }

    /// Takes how many have to stay free: a number or a share such as `10%`.
    #[cfg(feature = "log")]
    pub(crate) fn take_free_count(
        &mut self,
        name: &str,
    ) -> Result<Option<larder_log::FreeLimit>, AddressError> {
        let expected = "a number such as 100000, a share such as 10%, or 0";
        self.take_as(name, expected, |text| free_limit(text, |text| text.parse().ok()))
    }

    /// Takes a duration such as `250ms`, `30s` or `5min`.
    #[cfg(any(
        feature = "etcd",
        feature = "log",
        feature = "postgres",
        feature = "redis",
        feature = "s3",
        test
    ))]
    pub(crate) fn take_duration(&mut self, name: &str) -> Result<Option<Duration>, AddressError> {
        self.take_as(name, "a duration such as 250ms, 30s or 5min", parse_duration)
    }

    /// Takes `timeout`, the time limit of a call: from a millisecond to an hour.
    #[cfg(any(feature = "etcd", feature = "postgres"))]
    pub(crate) fn take_timeout(&mut self, otherwise: Duration) -> Result<Duration, AddressError> {
        let timeout = self.take_duration("timeout")?.unwrap_or(otherwise);
        if (Duration::from_millis(1)..=Duration::from_hours(1)).contains(&timeout) {
            return Ok(timeout);
        }
        let (name, value) = ("timeout".to_owned(), format!("{timeout:?}"));
        Err(AddressError::BadValue { name, value, expected: "between 1ms and 1h" })
    }

    /// Checks that every parameter was taken.
    pub(crate) fn finish(self, known: &[&str]) -> Result<(), AddressError> {
        match self.parameters.into_keys().next() {
            None => Ok(()),
            Some(name) => {
                let known = if known.is_empty() { "none".into() } else { known.join(", ") };
                Err(AddressError::UnknownParameter { scheme: self.scheme, name, known })
            }
        }
    }

    fn take_as<T>(
        &mut self,
        name: &str,
        expected: &'static str,
        parse: impl FnOnce(&str) -> Option<T>,
    ) -> Result<Option<T>, AddressError> {
        let Some(value) = self.take(name) else { return Ok(None) };
        match parse(&value) {
            Some(parsed) => Ok(Some(parsed)),
            None => Err(AddressError::BadValue { name: name.into(), value, expected }),
        }
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let no_scheme = || AddressError::NoScheme { text: hidden(text).chars().take(60).collect() };
        let (scheme, rest) = text.split_once(':').ok_or_else(no_scheme)?;
        if scheme.is_empty() || !scheme.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
            return Err(no_scheme());
        }
        let (place, query) = match rest.split_once('?') {
            Some((place, query)) => (place, Some(query)),
            None => (rest, None),
        };
        let mut parameters = BTreeMap::new();
        for part in query.into_iter().flat_map(|query| query.split('&')) {
            let malformed = |problem| AddressError::Malformed { part: hidden(part), problem };
            let (name, value) =
                part.split_once('=').ok_or_else(|| malformed("expected name=value"))?;
            let twice = parameters.insert(name.to_owned(), decode_value(value)?).is_some();
            if twice {
                return Err(malformed("the parameter is given twice"));
            }
        }
        Ok(Self { scheme: scheme.to_ascii_lowercase(), place: decode(place)?, parameters })
    }
}

impl fmt::Display for Address {
    /// The scheme and the place, without user names, passwords and parameters: fit for logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let place = match (self.place.strip_prefix("//"), self.place.rsplit_once('@')) {
            (Some(_), Some((_, host))) => format!("//{host}"),
            _ => self.place.clone(),
        };
        write!(f, "{}:{place}", self.scheme)
    }
}

impl fmt::Debug for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Address({self})")
    }
}

/// Reads a size: digits and, if any, a unit (`KiB`, `MiB`, `GiB`, `TiB` or `kB`, `MB`, `GB`, `TB`).
pub fn parse_bytes(text: &str) -> Option<u64> {
    let digits = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(digits);
    let factor = match unit.trim().to_ascii_lowercase().as_str() {
        "" | "b" => 1,
        "kib" => 1 << 10,
        "mib" => 1 << 20,
        "gib" => 1 << 30,
        "tib" => 1 << 40,
        "kb" => 1_000,
        "mb" => 1_000_000,
        "gb" => 1_000_000_000,
        "tb" => 1_000_000_000_000,
        _ => return None,
    };
    number.parse::<u64>().ok()?.checked_mul(factor)
}

/// Reads a duration: digits and a unit (`us`, `ms`, `s`, `min`, `h` or `d`).
pub fn parse_duration(text: &str) -> Option<Duration> {
    let digits = text.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = text.split_at(digits);
    let number: u64 = number.parse().ok()?;
    let seconds = |factor: u64| number.checked_mul(factor).map(Duration::from_secs);
    match unit.trim() {
        "us" => Some(Duration::from_micros(number)),
        "ms" => Some(Duration::from_millis(number)),
        "s" => seconds(1),
        "min" | "m" => seconds(60),
        "h" => seconds(3_600),
        "d" => seconds(86_400),
        _ => None,
    }
}

/// What has to stay free: a share in percent, or an amount; zero of either is nothing.
#[cfg(feature = "log")]
fn free_limit(
    text: &str,
    amount: impl FnOnce(&str) -> Option<u64>,
) -> Option<larder_log::FreeLimit> {
    use larder_log::FreeLimit::{Amount, Off, Percent};
    let limit = match text.strip_suffix('%') {
        Some(percent) => Percent(percent.parse().ok().filter(|percent| *percent <= 100)?),
        None => Amount(amount(text)?),
    };
    Some(if matches!(limit, Percent(0) | Amount(0)) { Off } else { limit })
}

/// A text without what is in front of its last `@`, which may be a user name and a password.
fn hidden(text: &str) -> String {
    text.rsplit_once('@').map_or_else(|| text.to_owned(), |(_, rest)| format!("..@{rest}"))
}

/// Decodes a value. A % at its very end can only be meant as one: `10%`.
fn decode_value(text: &str) -> Result<String, AddressError> {
    match text.strip_suffix('%') {
        Some(number) => Ok(decode(number)? + "%"),
        None => decode(text),
    }
}

fn decode(text: &str) -> Result<String, AddressError> {
    let malformed = |problem| AddressError::Malformed { part: hidden(text), problem };
    let mut rest = text;
    while let Some(at) = rest.find('%') {
        let digits =
            rest.get(at + 1..at + 3).filter(|two| two.bytes().all(|byte| byte.is_ascii_hexdigit()));
        if digits.is_none() {
            return Err(malformed("a % has to be followed by two hexadecimal digits"));
        }
        rest = &rest[at + 3..];
    }
    let decoded = percent_decode_str(text).decode_utf8();
    let decoded = decoded.map_err(|_| malformed("it does not decode to UTF-8"))?;
    if decoded.contains('\0') {
        return Err(malformed("it has a NUL character"));
    }
    Ok(decoded.into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_and_its_parameters_are_read_and_decoded() {
        let mut address: Address = "log:./a%3Fb c?sync_interval=50ms&x=1%26".parse().unwrap();
        assert_eq!((address.scheme(), address.place()), ("log", "./a?b c"));
        let interval = address.take_duration("sync_interval").unwrap();
        assert_eq!(interval, Some(Duration::from_millis(50)));
        assert_eq!(address.take("x").as_deref(), Some("1&"));
        assert!(address.finish(&[]).is_ok());
    }

    #[test]
    fn what_is_left_over_is_named() {
        let address: Address = "memory:?capcity=1".parse().unwrap();
        let error = address.finish(&["capacity"]).unwrap_err().to_string();
        assert_eq!(error, "unknown parameter \"capcity\" in a memory: address; it takes capacity");
    }

    #[test]
    fn malformed_addresses_are_refused() {
        let bad = ["", "nothing", ":x", "lo g:x", "log:%4", "log:%zz", "log:%00", "log:%ff"];
        for text in bad.into_iter().chain(["memory:?", "memory:?a", "memory:?a=1&a=2", "é:"]) {
            assert!(text.parse::<Address>().is_err(), "{text}");
        }
    }

    #[test]
    fn sizes_and_durations_have_units_and_do_not_overflow() {
        assert_eq!(parse_bytes("64KiB"), Some(65_536));
        assert_eq!(parse_bytes("1 GB"), Some(1_000_000_000));
        assert_eq!(parse_bytes("4096"), Some(4_096));
        assert_eq!(parse_duration("5min"), Some(Duration::from_mins(5)));
        for bad in ["", "KiB", "1.5GiB", "-1", "99999999999TiB", "1 parsec"] {
            assert_eq!(parse_bytes(bad), None, "{bad}");
        }
        for bad in ["", "5", "s", "-1s", "99999999999999999999s", "18446744073709551615d"] {
            assert_eq!(parse_duration(bad), None, "{bad}");
        }
    }

    #[cfg(feature = "log")]
    #[test]
    fn what_has_to_stay_free_is_a_share_or_an_amount() {
        use larder_log::FreeLimit;
        let text = "log:x?a=10%&b=10%25&c=5GiB&d=0&e=0%&f=101%&g=5GiB&h=100&i=-1%";
        let mut address: Address = text.parse().unwrap();
        let mut space = |name: &str| address.take_free_space(name).unwrap();
        assert_eq!(space("a"), Some(FreeLimit::Percent(10)));
        assert_eq!(space("b"), Some(FreeLimit::Percent(10)));
        assert_eq!(space("c"), Some(FreeLimit::Amount(5 << 30)));
        assert_eq!((space("d"), space("e")), (Some(FreeLimit::Off), Some(FreeLimit::Off)));
        assert!(address.take_free_space("f").is_err());
        assert!(address.take_free_count("g").is_err());
        assert_eq!(address.take_free_count("h").unwrap(), Some(FreeLimit::Amount(100)));
        assert!(address.take_free_count("i").is_err());
    }

    #[test]
    fn a_password_is_never_shown() {
        let address: Address = "redis://user:secret@host:6379/0?password=hidden".parse().unwrap();
        let shown = format!("{address} {address:?}");
        assert!(!shown.contains("secret") && !shown.contains("hidden"), "{shown}");
    }

    #[test]
    fn a_password_is_not_in_what_is_wrong_with_its_address() {
        for text in [
            "redis//user:secret@host/0",
            "redis://user:secret%@host/0",
            "redis://user:sec%00ret@host/0",
            "redis://user:x?secret@host/0",
            "redis://user:x?secret@host",
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(!error.contains("sec") && !error.contains("user"), "{error}");
        }
    }
}
