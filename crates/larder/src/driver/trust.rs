//! Whom to believe that a server is the one it says, as an address tells it.

use std::path::PathBuf;

use crate::address::Address;

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
}
