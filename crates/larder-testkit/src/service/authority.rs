//! Certificates for services.

use std::path::{Path, PathBuf};

use larder_core::clock::random_u64;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};

use super::Identity;

/// An authority of this process that certifies services, to be trusted by nobody else.
///
/// ```no_run
/// use larder_testkit::service::{Authority, PostgresServer};
///
/// let authority = Authority::new()?;
/// let server = PostgresServer::start_with_tls(&authority.certify("localhost")?, &[])?;
/// let (port, ca) = (server.port(), authority.file().display());
/// let uri = format!("postgres://larder@localhost:{port}/postgres?sslmode=verify-full&ca={ca}");
/// # Ok::<_, String>(())
/// ```
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    file: PathBuf,
}

impl Authority {
    /// A new one, whose own certificate is in a file as long as it lives.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn new() -> Result<Self, String> {
        let failed = |error: rcgen::Error| format!("no authority: {error}");
        let mut params = CertificateParams::new(Vec::new()).map_err(failed)?;
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        // Two authorities are two, by their names as well.
        let name = format!("larder {:016x}", random_u64());
        params.distinguished_name.push(DnType::CommonName, name);
        let key = KeyPair::generate().map_err(failed)?;
        let issuer = CertifiedIssuer::self_signed(params, key).map_err(failed)?;
        let name = format!("larder-ca-{}-{:016x}.pem", std::process::id(), random_u64());
        let file = std::env::temp_dir().join(name);
        std::fs::write(&file, issuer.pem())
            .map_err(|error| format!("cannot write {}: {error}", file.display()))?;
        Ok(Self { issuer, file })
    }

    /// The file with its certificate, for who trusts it.
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// A new key, and a certificate that it is that of `host`: the name or address of a server, or the name of a user.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn certify(&self, host: &str) -> Result<Identity, String> {
        let failed = |error: rcgen::Error| format!("no certificate for {host}: {error}");
        let key = KeyPair::generate().map_err(failed)?;
        let mut params = CertificateParams::new([host.to_owned()]).map_err(failed)?;
        // Where servers look for a user.
        params.distinguished_name.push(DnType::CommonName, host);
        let certificate = params.signed_by(&key, &self.issuer).map_err(failed)?;
        Ok(Identity { certificate: certificate.pem(), key: key.serialize_pem() })
    }
}

impl Drop for Authority {
    fn drop(&mut self) {
        // A file that cannot be removed harms nobody.
        let _ = std::fs::remove_file(&self.file);
    }
}
