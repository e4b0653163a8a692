//! Fresh folders and namespaces for commands that fill a store: nobody's data is ever touched.

use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use larder::clock::random_u64;
use larder::{Address, Tier as _};

use crate::exit::Exit;
use crate::stores::{self, log_uri};

/// A place for throw-away stores at an address.
///
/// `log:PATH` gets a new folder inside PATH, so that it lies on the device that was meant, or beside
/// it when PATH holds files; it is removed at the end. `redis:` gets a namespace, `postgres:` a schema,
/// `etcd:` and `s3:` a prefix of their own, to be removed with [`Scratch::clear`]. Other addresses are used as they are.
#[derive(Debug)]
pub(crate) struct Scratch {
    uri: String,
    own: Own,
}

/// What is nobody else's.
#[derive(Debug)]
enum Own {
    Nothing,
    Folder(Folder),
    /// A namespace, which is the one of the address.
    Namespace,
    /// The addresses of the schemas or prefixes that were made.
    Rooms(Mutex<Vec<String>>),
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
        let name = format!("larder-{what}-{:016x}", random_u64());
        let uri = uri.to_owned();
        match address.scheme() {
            "redis" | "rediss" => {
                Ok(Self { uri: replaced(&uri, "namespace", &name), own: Own::Namespace })
            }
            "postgres" | "postgresql" => Ok(Self::room(replaced(&uri, "schema", &room(what)))),
            "etcd" | "s3" => Ok(Self::room(below(&uri, &room(what)))),
            "log" if !address.place().is_empty() => {
                let place = Path::new(address.place());
                Ok(Self { own: Own::Folder(Folder::in_place(place, &uri, &name)?), uri })
            }
            _ => Ok(Self { uri, own: Own::Nothing }),
        }
    }

    /// The address of the place's one store.
    pub(crate) fn uri(&self) -> Result<String, Exit> {
        let Some(folder) = self.own_folder() else { return Ok(self.uri.clone()) };
        store_uri(&folder.path.join("store"), folder.parameters.as_deref())
    }

    /// A new address for a store of its own, with these parameters in place of the given ones;
    /// `None` when the address has no room for several stores.
    pub(crate) fn another(&self, parameters: Option<&str>) -> Option<Result<String, Exit>> {
        match &self.own {
            Own::Folder(folder) => {
                let path = folder.path.join(format!("{:016x}", random_u64()));
                Some(store_uri(&path, parameters.or(folder.parameters.as_deref())))
            }
            Own::Rooms(_) => {
                let uri = if has_prefix(&self.uri) {
                    below(&self.uri, &room("law"))
                } else {
                    replaced(&self.uri, "schema", &room("law"))
                };
                self.remember(&uri);
                Some(Ok(uri))
            }
            Own::Nothing | Own::Namespace => None,
        }
    }

    /// Removes what is in the namespace or in the rooms that were made, when there are any.
    pub(crate) async fn clear(&self) -> Result<(), Exit> {
        match &self.own {
            Own::Nothing | Own::Folder(_) => Ok(()),
            Own::Namespace => {
                let cleared = stores::open_cache(&self.uri).await?.clear().await;
                cleared.map_err(|error| Exit::from(error).at(&self.uri))
            }
            Own::Rooms(made) => {
                let made = made.lock().unwrap_or_else(PoisonError::into_inner).clone();
                for uri in made {
                    if has_prefix(&uri) {
                        larder::registry::drop_prefix(&uri).await?;
                    } else {
                        larder::registry::drop_schema(&uri).await?;
                    }
                }
                Ok(())
            }
        }
    }

    /// Whether nobody else uses the place.
    pub(crate) const fn is_own(&self) -> bool {
        !matches!(self.own, Own::Nothing)
    }

    /// The folder, when there is one.
    pub(crate) fn folder(&self) -> Option<&Path> {
        self.own_folder().map(|folder| folder.path.as_path())
    }

    const fn own_folder(&self) -> Option<&Folder> {
        if let Own::Folder(folder) = &self.own { Some(folder) } else { None }
    }

    fn room(uri: String) -> Self {
        let made = Mutex::new(vec![uri.clone()]);
        Self { uri, own: Own::Rooms(made) }
    }

    fn remember(&self, uri: &str) {
        if let Own::Rooms(made) = &self.own {
            made.lock().unwrap_or_else(PoisonError::into_inner).push(uri.to_owned());
        }
    }
}

impl Folder {
    fn in_place(place: &Path, uri: &str, name: &str) -> Result<Self, Exit> {
        let path = if holds_files(place) {
            place.parent().unwrap_or(place).join(name)
        } else {
            place.join(name)
        };
        let missing = |path: &&Path| !path.as_os_str().is_empty() && !path.exists();
        let made = path.ancestors().skip(1).take_while(missing).map(Path::to_owned).collect();
        std::fs::create_dir_all(&path).map_err(|error| Exit::file(&path, &error))?;
        let parameters = uri.split_once('?').map(|(_, parameters)| parameters.to_owned());
        Ok(Self { path, made, parameters })
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

/// The same address with another value of a parameter.
fn replaced(uri: &str, parameter: &str, value: &str) -> String {
    let (place, parameters) = uri.split_once('?').unwrap_or((uri, ""));
    let others = parameters.split('&').filter(|part| !part.is_empty());
    let others = others.filter(|part| part.split('=').next() != Some(parameter));
    let named = format!("{parameter}={value}");
    let all: Vec<&str> = others.chain([named.as_str()]).collect();
    format!("{place}?{}", all.join("&"))
}

/// Whether what is at an address has a prefix.
fn has_prefix(uri: &str) -> bool {
    uri.starts_with("etcd:") || uri.starts_with("s3:")
}

/// The same address with a prefix below its own; that of etcd has one of which nothing is said.
fn below(uri: &str, name: &str) -> String {
    let (place, parameters) = uri.split_once('?').map_or((uri, None), |(p, q)| (p, Some(q)));
    let place = place.trim_end_matches('/');
    // A password may have slashes in it.
    let hosts =
        place.rsplit_once('@').map_or_else(|| place.trim_start_matches("etcd://"), |(_, h)| h);
    let is_said = hosts.contains('/') || !uri.starts_with("etcd:");
    let prefix = if is_said { "" } else { "/larder" };
    let parameters = parameters.map(|parameters| format!("?{parameters}")).unwrap_or_default();
    format!("{place}{prefix}/{name}{parameters}")
}

/// A name for a schema or a prefix that nobody else has.
fn room(what: &str) -> String {
    format!("larder_{what}_{:016x}", random_u64())
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
        let renamed = |uri| replaced(uri, "namespace", "n");
        assert_eq!(renamed("redis://h/0"), "redis://h/0?namespace=n");
        let uri = renamed("redis://h?timeout=1s&namespace=mine&max_value=1");
        assert_eq!(uri, "redis://h?timeout=1s&max_value=1&namespace=n");
    }

    #[test]
    fn a_prefix_is_made_below_the_given_one() {
        assert_eq!(below("etcd://h", "n"), "etcd://h/larder/n");
        assert_eq!(below("etcd://h,i:7/?timeout=1s", "n"), "etcd://h,i:7/larder/n?timeout=1s");
        assert_eq!(below("etcd://me:a/b@h/shop", "n"), "etcd://me:a/b@h/shop/n");
        assert_eq!(below("etcd://me:a/b@h", "n"), "etcd://me:a/b@h/larder/n");
        assert_eq!(below("s3://shelf", "n"), "s3://shelf/n");
        assert_eq!(below("s3://me:a/b@shelf/a/?region=r", "n"), "s3://me:a/b@shelf/a/n?region=r");
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
