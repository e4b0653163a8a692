//! What every address of Redis can say.

use std::time::Duration;

use super::Endpoint;
use crate::address::{Address, AddressError};

/// The longest namespace, in bytes.
const NAMESPACE_BYTES_MAX: usize = 128;
const TIMEOUT_MAX: Duration = Duration::from_hours(1);

/// A server, what is ours there, and how long a call may take.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) endpoint: Endpoint,
    pub(crate) namespace: String,
    pub(crate) timeout: Duration,
}

impl Settings {
    /// The namespace of an address that names none.
    pub(crate) const NAMESPACE: &'static str = "larder";
    /// The time limit of a call, of an address that states none.
    pub(crate) const TIMEOUT: Duration = Duration::from_secs(1);

    pub(crate) fn take(address: &mut Address) -> Result<Self, AddressError> {
        let endpoint = Endpoint::take(address)?;
        let namespace = address.take("namespace").unwrap_or_else(|| Self::NAMESPACE.to_owned());
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-_./".contains(&byte);
        if !(1..=NAMESPACE_BYTES_MAX).contains(&namespace.len()) || !namespace.bytes().all(fits) {
            return Err(AddressError::BadValue {
                name: "namespace".into(),
                value: namespace,
                expected: "1 to 128 letters, digits, -, _, . and /",
            });
        }
        let timeout = address.take_duration("timeout")?.unwrap_or(Self::TIMEOUT);
        if timeout.is_zero() || timeout > TIMEOUT_MAX {
            return Err(AddressError::BadValue {
                name: "timeout".into(),
                value: format!("{timeout:?}"),
                expected: "between 1us and 1h",
            });
        }
        Ok(Self { endpoint, namespace, timeout })
    }
}
