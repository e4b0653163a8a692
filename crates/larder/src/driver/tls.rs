//! TLS: a server has to show who it is.

use std::path::Path;
use std::sync::Arc;

use tokio_rustls::rustls::client::WantsClientCert;
use tokio_rustls::rustls::pki_types::CertificateDer;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::{self, ClientConfig, ConfigBuilder, RootCertStore};

#[cfg(any(feature = "etcd-tls", feature = "postgres-tls", feature = "redis-tls"))]
mod handshake;
#[cfg(any(feature = "etcd-tls", feature = "postgres-tls", feature = "redis-tls"))]
mod identity;

#[cfg(any(feature = "etcd-tls", feature = "postgres-tls", feature = "redis-tls"))]
pub(super) use handshake::NoTls;
#[cfg(any(feature = "etcd-tls", feature = "redis-tls"))]
pub(super) use handshake::connect;
#[cfg(feature = "postgres-tls")]
pub(super) use handshake::read;

/// The settings of who shows nothing of himself. Reads files.
#[cfg(feature = "s3")]
pub(super) fn settings(authorities: Option<&Path>) -> Result<ClientConfig, String> {
    Ok(judging(authorities)?.with_no_client_auth())
}

/// How to judge a server: by the authorities in a file, or by those of this machine. Reads files.
fn judging(
    authorities: Option<&Path>,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let mut trusted = RootCertStore::empty();
    if let Some(file) = authorities {
        let failed = |error| format!("cannot read ca={}: {error}", file.display());
        for certificate in CertificateDer::pem_file_iter(file).map_err(failed)? {
            let added = trusted.add(certificate.map_err(failed)?);
            added.map_err(|error| format!("ca={}: {error}", file.display()))?;
        }
    } else {
        // One that is odd is no reason to distrust the others.
        trusted.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    }
    if trusted.is_empty() {
        return Err("there is no certificate of an authority: name a file with ca=FILE".to_owned());
    }
    trusting(trusted)
}

/// For connections without TLS: nobody is believed.
#[cfg(feature = "s3")]
pub(super) fn trusting_nobody() -> Result<ClientConfig, String> {
    Ok(trusting(RootCertStore::empty())?.with_no_client_auth())
}

fn trusting(
    trusted: RootCertStore,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, String> {
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| error.to_string())?;
    Ok(versions.with_root_certificates(trusted))
}
