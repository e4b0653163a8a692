//! Which bucket, where, and as whom.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use object_store::StaticCredentialProvider;
use object_store::aws::{AwsCredential, AwsCredentialProvider};

use crate::address::{Address, AddressError};
use crate::driver::authority::Authority;

/// A bucket of an object store, a place in it, and how to introduce oneself there.
///
/// Shown without access key and secret.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Endpoint {
    pub(super) bucket: String,
    /// What all names begin with, without a slash at its end; it may be empty.
    prefix: String,
    /// Where the store is, if the environment and Amazon do not say.
    pub(super) url: Option<String>,
    pub(super) region: Option<String>,
    /// A file with the certificates of authorities; `None`: those of this machine.
    pub(super) authorities: Option<PathBuf>,
    /// `None`: as the environment says.
    pub(super) login: Option<Login>,
}

/// An access key and its secret.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Login {
    pub(super) access_key: String,
    pub(super) secret_key: String,
}

impl Login {
    pub(super) fn provider(&self) -> AwsCredentialProvider {
        Arc::new(StaticCredentialProvider::new(AwsCredential {
            key_id: self.access_key.clone(),
            secret_key: self.secret_key.clone(),
            token: None,
        }))
    }
}

/// The longest prefix: names of objects have at most 1,024 bytes.
const PREFIX_MAX: usize = 512;

impl Endpoint {
    /// The place of `s3://[KEY:SECRET@]BUCKET[/PREFIX]`, and the parameters `endpoint`, `region` and `ca`.
    pub(crate) fn take(address: &mut Address) -> Result<Self, AddressError> {
        // Never with the place in it: it may hold a secret.
        let bad = |problem| AddressError::BadPlace { scheme: "s3".into(), problem };
        let named = "has to name a bucket, as in s3://bucket/prefix";
        let (authority, prefix) =
            Authority::split(address.place()).map_err(|flaw| bad(flaw.problem(named)))?;
        let Authority { user, password, host: bucket, port } = authority;
        if port.is_some() {
            return Err(bad("has a bucket and no port: name the server with endpoint="));
        }
        if !is_bucket(&bucket) {
            return Err(bad("has a bucket that is none: 3 to 63 of a-z, 0-9, - and ."));
        }
        let prefix = prefix.strip_suffix('/').unwrap_or(prefix);
        if !is_prefix(prefix) {
            return Err(bad(
                "has a prefix that is none: words of A-Z, a-z, 0-9, -, _ and . between slashes",
            ));
        }
        let login = match (user, password) {
            (None, None) => None,
            (Some(access_key), Some(secret_key)) => Some(Login { access_key, secret_key }),
            _ => return Err(bad("has one of access key and secret: write KEY:SECRET@")),
        };
        let prefix = prefix.to_owned();
        let url = address.take("endpoint").map(url).transpose()?;
        let region = address.take("region").map(region).transpose()?;
        let authorities = address.take("ca").map(PathBuf::from);
        Ok(Self { bucket, prefix, url, region, authorities, login })
    }

    /// Whether it is a place in the bucket, and not all of it.
    pub(crate) const fn has_prefix(&self) -> bool {
        !self.prefix.is_empty()
    }

    /// The name of an object below the prefix.
    pub(crate) fn name(&self, within: &str) -> String {
        if self.prefix.is_empty() { within.to_owned() } else { format!("{}/{within}", self.prefix) }
    }
}

fn is_bucket(text: &str) -> bool {
    let fits = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.');
    (3..=63).contains(&text.len()) && text.bytes().all(fits) && !text.contains("..")
}

fn is_prefix(text: &str) -> bool {
    let is_word = |word: &str| {
        let fits = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'_' | b'.');
        !word.is_empty() && word != "." && word != ".." && word.bytes().all(fits)
    };
    text.is_empty() || (text.len() <= PREFIX_MAX && text.split('/').all(is_word))
}

fn url(value: String) -> Result<String, AddressError> {
    let host = ["http://", "https://"].iter().find_map(|scheme| value.strip_prefix(scheme));
    let is_host = |host: &str| {
        let fits =
            |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'-' | b'.' | b':' | b'[' | b']');
        !host.is_empty() && host.bytes().all(fits)
    };
    if host.is_some_and(|host| is_host(host.trim_end_matches('/'))) {
        return Ok(value);
    }
    // It may hold a secret.
    let (name, value) = ("endpoint".to_owned(), "..".to_owned());
    Err(AddressError::BadValue { name, value, expected: "as http://HOST:PORT or https://HOST" })
}

fn region(value: String) -> Result<String, AddressError> {
    let fits = |b: u8| b.is_ascii_alphanumeric() || b == b'-';
    if !value.is_empty() && value.len() <= 64 && value.bytes().all(fits) {
        return Ok(value);
    }
    let name = "region".to_owned();
    Err(AddressError::BadValue { name, value, expected: "a region such as eu-central-1" })
}

/// Why a client cannot be made, without what was given to it.
pub(super) fn told(error: &object_store::Error) -> String {
    match error {
        object_store::Error::UnknownConfigurationKey { key, .. } => {
            format!("the environment has an odd setting: {key}")
        }
        _ => "the AWS_* variables of the environment make no sense together".to_owned(),
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "s3://{}", self.bucket)?;
        if !self.prefix.is_empty() {
            write!(f, "/{}", self.prefix)?;
        }
        match &self.url {
            Some(url) => write!(f, " at {url}"),
            None => Ok(()),
        }
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
    fn a_place_has_a_bucket_a_prefix_and_a_server() {
        let table = [
            ("s3://shelf", "s3://shelf", "x"),
            ("s3://shelf/", "s3://shelf", "x"),
            ("s3://shelf/a/b.c", "s3://shelf/a/b.c", "a/b.c/x"),
            ("s3://shelf/a/?region=eu-central-1", "s3://shelf/a", "a/x"),
            (
                "s3://me:s@shelf/a?endpoint=http://127.0.0.1:9",
                "s3://shelf/a at http://127.0.0.1:9",
                "a/x",
            ),
        ];
        for (text, shown, name) in table {
            let endpoint = endpoint(text).unwrap();
            assert_eq!((endpoint.to_string().as_str(), endpoint.name("x").as_str()), (shown, name));
        }
    }

    #[test]
    fn a_secret_may_hold_what_secrets_hold_and_is_not_shown() {
        let endpoint = endpoint("s3://KEY:hu/sh+h=%3F:@shelf/a").unwrap();
        let login = endpoint.login.as_ref().unwrap();
        assert_eq!((&*login.access_key, &*login.secret_key), ("KEY", "hu/sh+h=?:"));
        let shown = format!("{endpoint} {endpoint:?}");
        assert!(!shown.contains("hu/sh") && !shown.contains("KEY"), "{shown}");
    }

    #[test]
    fn what_is_no_place_is_refused_without_showing_it() {
        let long = format!("s3://shelf/{}", "hush".repeat(200));
        for text in [
            "s3:",
            "s3:hush",
            "s3://",
            "s3://hu",
            "s3://Hush",
            "s3://hush_",
            "s3://hush..hush",
            "s3://shelf:80/hush",
            "s3://KEY@shelf",
            "s3://:hush@shelf",
            "s3://shelf//hush",
            "s3://shelf/../hush",
            "s3://shelf/hush hush",
            "s3://shelf/h@hush",
            long.as_str(),
            "s3://shelf?endpoint=hush",
            "s3://shelf?endpoint=http://",
            "s3://shelf?endpoint=ftp://hush",
            "s3://shelf?endpoint=http://me:hush@h",
            "s3://shelf?endpoint=http://h/hush",
            "s3://shelf?region=",
            "s3://shelf?region=a b",
        ] {
            let error = endpoint(text).unwrap_err().to_string();
            assert!(!error.contains("hush"), "{error}");
        }
    }
}
