//! Fresh folders for commands that fill a store: nobody's data is ever touched.

use std::path::{Path, PathBuf};

use larder::Address;
use larder::clock::random_u64;

use crate::exit::Exit;
use crate::stores::log_uri;

/// A place for throw-away stores at an address.
///
/// `log:PATH` gets a new folder inside PATH, so that it lies on the device that was meant, or beside
/// it when PATH holds files; it is removed at the end. Other addresses are used as they are.
#[derive(Debug)]
pub(crate) struct Scratch {
    uri: String,
    folder: Option<Folder>,
}

#[derive(Debug)]
struct Folder {
    path: PathBuf,
    /// The folders above it that were made for it, the deepest first.
    made: Vec<PathBuf>,
    parameters: Option<String>,
}

impl Scratch {
    /// Makes a place at `uri` for the purpose of `what`.
    pub(crate) fn at(uri: &str, what: &str) -> Result<Self, Exit> {
        let address: Address = uri.parse()?;
        if address.scheme() != "log" || address.place().is_empty() {
            return Ok(Self { uri: uri.to_owned(), folder: None });
        }
        let place = Path::new(address.place());
        let name = format!("larder-{what}-{:016x}", random_u64());
        let path = if holds_files(place) {
            place.parent().unwrap_or(place).join(name)
        } else {
            place.join(name)
        };
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = path.ancestors().skip(1).take_while(missing).map(Path::to_owned).collect();
        std::fs::create_dir_all(&path).map_err(|error| Exit::file(&path, &error))?;
        let parameters = uri.split_once('?').map(|(_, parameters)| parameters.to_owned());
        Ok(Self { uri: uri.to_owned(), folder: Some(Folder { path, made, parameters }) })
    }

    /// The address of the place's one store.
    pub(crate) fn uri(&self) -> Result<String, Exit> {
        let Some(folder) = &self.folder else { return Ok(self.uri.clone()) };
        store_uri(&folder.path.join("store"), folder.parameters.as_deref())
    }

    /// A new address for a store of its own, with these parameters in place of the given ones;
    /// `None` when the address has no room for several stores.
    pub(crate) fn another(&self, parameters: Option<&str>) -> Option<Result<String, Exit>> {
        let folder = self.folder.as_ref()?;
        let path = folder.path.join(format!("{:016x}", random_u64()));
        Some(store_uri(&path, parameters.or(folder.parameters.as_deref())))
    }

    /// The folder, when there is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.folder.as_ref().map(|folder| folder.path.as_path())
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        // A folder that cannot be removed harms nobody, and there is no caller left to tell.
        let _ = std::fs::remove_dir_all(&self.path);
        for path in &self.made {
            let _ = std::fs::remove_dir(path);
        }
    }
}

fn store_uri(path: &Path, parameters: Option<&str>) -> Result<String, Exit> {
    let uri = log_uri(path)?;
    Ok(match parameters {
        Some(parameters) => format!("{uri}?{parameters}"),
        None => uri,
    })
}

fn holds_files(place: &Path) -> bool {
    let Ok(entries) = std::fs::read_dir(place) else { return false };
    entries.flatten().any(|entry| entry.file_type().is_ok_and(|kind| !kind.is_dir()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_is_left_and_nothing_else_is_touched() {
        let outer = tempfile::tempdir().unwrap();
        let place = outer.path().join("a").join("b");
        let uri = format!("log:{}?max_payload=1MiB", place.display());
        let scratch = Scratch::at(&uri, "test").unwrap();
        assert!(scratch.uri().unwrap().ends_with("/store?max_payload=1MiB"));
        assert!(scratch.folder().unwrap().starts_with(&place));
        drop(scratch);
        assert!(!outer.path().join("a").exists());

        std::fs::create_dir_all(&place).unwrap();
        std::fs::write(place.join("file"), "kept").unwrap();
        let scratch = Scratch::at(&uri, "test").unwrap();
        assert!(!scratch.folder().unwrap().starts_with(&place));
        drop(scratch);
        assert_eq!(std::fs::read(place.join("file")).unwrap(), b"kept");
    }
}
