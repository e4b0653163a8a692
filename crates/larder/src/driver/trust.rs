//! Whom to believe that a server is the one it says, as an address tells it.

use std::path::PathBuf;

use crate::address::Address;
#[cfg(any(feature = "etcd", feature = "redis"))]
use crate::address::AddressError;

/// What a server has to show over TLS: a certificate for its host, from an authority that is trusted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// A file with the certificates of authorities; `None`: those of this machine.
    pub(super) authorities: Option<PathBuf>,
}

impl Trust {
    /// Takes the parameter `ca` out of an address.
    pub(super) fn take(address: &mut Address) -> Self {
        Self { authorities: address.take("ca").map(PathBuf::from) }
    }

    /// What the scheme of an address asks for. Of `schemes`, those that this build can serve, the first is plain and
    /// the second over TLS; `place` says what they are for.
    #[cfg(any(feature = "etcd", feature = "redis"))]
    pub(super) fn of_scheme(
        address: &mut Address,
        schemes: &[&str],
        place: &'static str,
    ) -> Result<Option<Self>, AddressError> {
        match schemes.iter().position(|known| *known == address.scheme()) {
            Some(0) => Ok(None),
            Some(_) => Ok(Some(Self::take(address))),
            None => {
                let known = schemes.iter().map(|scheme| format!("{scheme}:"));
                Err(AddressError::UnknownScheme {
                    scheme: address.scheme().to_owned(),
                    contract: place,
                    known: known.collect::<Vec<_>>().join(", "),
                })
            }
        }
    }
}
