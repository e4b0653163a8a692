//! Fresh folders and namespaces for commands that fill a store: nobody's data is ever touched.

use std::path::{Path, PathBuf};

use larder::clock::random_u64;
use larder::{Address, Tier as _};

use crate::exit::Exit;
use crate::stores::{self, log_uri};

/// A place for throw-away stores at an address.
///
/// `log:PATH` gets a new folder inside PATH, so that it lies on the device that was meant, or beside
/// it when PATH holds files; it is removed at the end. `redis:` gets a namespace of its own, to be
/// cleared with [`Scratch::clear`]. Other addresses are used as they are.
#[derive(Debug)]
pub(crate) struct Scratch {
    uri: String,
    folder: Option<Folder>,
    namespace: bool,
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
        if matches!(address.scheme(), "redis" | "rediss") {
            let name = format!("larder-{what}-{:016x}", random_u64());
            return Ok(Self { uri: renamed(uri, &name), folder: None, namespace: true });
        }
        if address.scheme() != "log" || address.place().is_empty() {
            return Ok(Self { uri: uri.to_owned(), folder: None, namespace: false });
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
        let folder = Some(Folder { path, made, parameters });
        Ok(Self { uri: uri.to_owned(), folder, namespace: false })
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

    /// Removes what is in the namespace, when there is one.
    pub(crate) async fn clear(&self) -> Result<(), Exit> {
        if !self.namespace {
            return Ok(());
        }
        let cleared = stores::open_cache(&self.uri).await?.clear().await;
        cleared.map_err(|error| Exit::from(error).at(&self.uri))
    }

    /// Whether nobody else uses the place.
    pub(crate) const fn is_own(&self) -> bool {
        self.namespace || self.folder.is_some()
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

/// The same address with another namespace.
fn renamed(uri: &str, namespace: &str) -> String {
    let (place, parameters) = uri.split_once('?').unwrap_or((uri, ""));
    let others = parameters.split('&').filter(|part| !part.is_empty());
    let others = others.filter(|part| !part.starts_with("namespace="));
    let named = format!("namespace={namespace}");
    let all: Vec<&str> = others.chain([named.as_str()]).collect();
    format!("{place}?{}", all.join("&"))
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
    fn a_namespace_takes_the_place_of_the_given_one() {
        let renamed = |uri| renamed(uri, "n");
        assert_eq!(renamed("redis://h/0"), "redis://h/0?namespace=n");
        let uri = renamed("redis://h?timeout=1s&namespace=mine&max_value=1");
        assert_eq!(uri, "redis://h?timeout=1s&max_value=1&namespace=n");
    }

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
