//! TLS: a server has to show who it is.

use std::io;
use std::path::Path;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{self, ClientConfig, RootCertStore};

use super::endpoint::{Endpoint, Trust};
use super::trouble::Trouble;

/// Goes on over TLS on `stream`, if the certificate is for the host and from somebody trusted.
pub(super) async fn connect(
    endpoint: &Endpoint,
    trust: &Trust,
    stream: TcpStream,
) -> Result<TlsStream<TcpStream>, Trouble> {
    let distrusted = |why| Trouble::Distrusted { place: endpoint.to_string(), why };
    let name = ServerName::try_from(endpoint.host.clone());
    let name = name.map_err(|error| distrusted(error.to_string()))?;
    let authorities = trust.authorities.clone();
    // Files are read anew for each connection, because authorities are renewed.
    let read = tokio::task::spawn_blocking(move || settings(authorities.as_deref())).await;
    let settings = read.unwrap_or_else(|panicked| Err(panicked.to_string())).map_err(distrusted)?;
    let secured = TlsConnector::from(Arc::new(settings)).connect(name, stream).await;
    secured.map_err(|error| {
        // What the other end said or showed was wrong; otherwise the connection was.
        if error.kind() == io::ErrorKind::InvalidData {
            distrusted(error.to_string())
        } else {
            Trouble::unreachable(endpoint, &error)
        }
    })
}

/// How to judge a server: by the authorities in a file, or by those of this machine.
fn settings(authorities: Option<&Path>) -> Result<ClientConfig, String> {
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
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let versions = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let versions = versions.map_err(|error| error.to_string())?;
    Ok(versions.with_root_certificates(trusted).with_no_client_auth())
}
