//! Whom to believe that a server is the one it says, and what to show it, as an address tells it.

use std::path::PathBuf;

use crate::address::{Address, AddressError};

/// What a server has to show over TLS: a certificate for its host, from an authority that is trusted; and what we
/// show to it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Trust {
    /// A file with the certificates of authorities; `None`: those of this machine.
    pub(super) authorities: Option<PathBuf>,
    /// Who we are; `None`: that is not shown.
    pub(super) identity: Option<Identity>,
}

/// A certificate of ours and its key: a PEM file each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Identity {
    pub(super) certificate: PathBuf,
    pub(super) key: PathBuf,
    /// The parameters that name them.
    pub(super) names: [&'static str; 2],
}

impl Trust {
    /// Takes the parameter `ca` out of an address, and those that `names` a certificate of ours and its key, where
    /// there are such.
    pub(super) fn take(
        address: &mut Address,
        names: Option<[&'static str; 2]>,
    ) -> Result<Self, AddressError> {
        let authorities = address.take("ca").map(PathBuf::from);
        let identity = match names {
            Some(names) => Identity::take(address, names)?,
            None => None,
        };
        Ok(Self { authorities, identity })
    }

    /// What the scheme of an address asks for. Of `schemes`, those that this build can serve, the first is plain and
    /// the second over TLS; `place` says what they are for, and `names` is as for [`Trust::take`].
    #[cfg(any(feature = "etcd", feature = "redis"))]
    pub(super) fn of_scheme(
        address: &mut Address,
        schemes: &[&str],
        place: &'static str,
        names: Option<[&'static str; 2]>,
    ) -> Result<Option<Self>, AddressError> {
        match schemes.iter().position(|known| *known == address.scheme()) {
            Some(0) => Ok(None),
            Some(_) => Self::take(address, names).map(Some),
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

impl Identity {
    /// One is of no use without the other.
    fn take(address: &mut Address, names: [&'static str; 2]) -> Result<Option<Self>, AddressError> {
        let expected = "of use alone: name the certificate and its key";
        match names.map(|name| address.take(name)) {
            [None, None] => Ok(None),
            [Some(certificate), Some(key)] => {
                Ok(Some(Self { certificate: certificate.into(), key: key.into(), names }))
            }
            [Some(value), None] => {
                Err(AddressError::BadValue { name: names[0].into(), value, expected })
            }
            [None, Some(value)] => {
                Err(AddressError::BadValue { name: names[1].into(), value, expected })
            }
        }
    }
}
