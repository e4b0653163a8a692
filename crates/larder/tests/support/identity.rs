//! A certificate of ours, and files that are none.

use std::path::Path;

use larder_testkit::service::Authority;
use tempfile::TempDir;

/// Files with a certificate for `name` and its key, as the parameters of an address that are named so.
pub(crate) struct Ours {
    folder: TempDir,
    names: [&'static str; 2],
}

impl Ours {
    pub(crate) fn named(name: &str, authority: &Authority, names: [&'static str; 2]) -> Self {
        let ours = Self { folder: tempfile::tempdir().unwrap(), names };
        ours.replace(name, authority);
        ours
    }

    /// Puts others in their place.
    pub(crate) fn replace(&self, name: &str, authority: &Authority) {
        authority.certify(name).unwrap().write_to(self.folder.path()).unwrap();
    }

    pub(crate) fn parameters(&self) -> String {
        self.with(&self.folder.path().join("cert.pem"), &self.folder.path().join("key.pem"))
    }

    fn with(&self, certificate: &Path, key: &Path) -> String {
        let [certificate_is, key_is] = self.names;
        format!("{certificate_is}={}&{key_is}={}", certificate.display(), key.display())
    }

    /// Parameters that name what is of no use, and what has to be said of it. `other` is somebody else's.
    pub(crate) fn useless(&self, other: &Self) -> Vec<(String, String)> {
        let [certificate_is, key_is] = self.names;
        let folder = self.folder.path();
        let [certificate, key, empty] =
            ["cert.pem", "key.pem", "empty.pem"].map(|name| folder.join(name));
        std::fs::write(&empty, "").unwrap();
        let nowhere = Path::new("/nowhere/it.pem");
        vec![
            (self.with(nowhere, &key), format!("cannot read {certificate_is}=/nowhere/it.pem")),
            (self.with(&certificate, nowhere), format!("cannot read {key_is}=/nowhere/it.pem")),
            (self.with(folder, &key), format!("cannot read {certificate_is}=")),
            (self.with(&empty, &key), format!("no certificate in {certificate_is}=")),
            (self.with(&certificate, &empty), format!("no private key in {key_is}=")),
            (self.with(&certificate, &certificate), format!("no private key in {key_is}=")),
            (
                self.with(&certificate, &other.folder.path().join("key.pem")),
                format!("is not the key of {certificate_is}="),
            ),
        ]
    }
}
