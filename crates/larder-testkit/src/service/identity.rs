//! Who a service is over TLS.

use std::fmt;
use std::path::Path;

/// A certificate and its key, in PEM.
#[derive(Clone)]
pub struct Identity {
    /// The certificate, and those between it and an authority.
    pub certificate: String,
    /// The private key.
    pub key: String,
}

impl Identity {
    /// Writes `cert.pem` and `key.pem` into a folder; the key for its owner only.
    ///
    /// # Errors
    /// A sentence that says why not.
    pub fn write_to(&self, folder: &Path) -> Result<(), String> {
        use std::io::Write as _;
        use std::os::unix::fs::OpenOptionsExt as _;
        for (name, text, mode) in
            [("cert.pem", &self.certificate, 0o644), ("key.pem", &self.key, 0o600)]
        {
            let file = folder.join(name);
            let failed = |error| format!("cannot write {}: {error}", file.display());
            let mut options = std::fs::OpenOptions::new();
            let opened = options.write(true).create(true).truncate(true).mode(mode).open(&file);
            let written = opened.and_then(|mut opened| opened.write_all(text.as_bytes()));
            written.map_err(failed)?;
        }
        Ok(())
    }
}

impl fmt::Debug for Identity {
    /// Without the key.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("certificate", &self.certificate).finish_non_exhaustive()
    }
}
