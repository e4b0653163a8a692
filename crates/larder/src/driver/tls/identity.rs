//! Who we are, for servers that want to know.

use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::pki_types::pem::{Error, PemObject as _};
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio_rustls::rustls::{self, ClientConfig, ConfigBuilder};

use crate::driver::trust::Identity;

/// The settings of who shows this certificate. Reads files.
pub(super) fn shown(
    identity: &Identity,
    judging: ConfigBuilder<ClientConfig, WantsClientCert>,
) -> Result<ClientConfig, String> {
    let [certificate, key] = [&identity.certificate, &identity.key].map(|file| file.display());
    let [certificate_is, key_is] = identity.names;
    let chain = CertificateDer::pem_file_iter(&identity.certificate);
    let chain = chain.and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain =
        chain.map_err(|error| format!("cannot read {certificate_is}={certificate}: {error}"))?;
    if chain.is_empty() {
        return Err(format!("there is no certificate in {certificate_is}={certificate}"));
    }
    let own = PrivateKeyDer::from_pem_file(&identity.key).map_err(|error| match error {
        Error::NoItemsFound => {
            format!("there is no private key in {key_is}={key}; one with a password is not read")
        }
        error => format!("cannot read {key_is}={key}: {error}"),
    })?;
    judging.with_client_auth_cert(chain, own).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => {
            format!("{key_is}={key} is not the key of {certificate_is}={certificate}")
        }
        error => format!("{certificate_is}={certificate} with {key_is}={key}: {error}"),
    })
}
