//! Fresh folders and namespaces for commands that fill a store: nobody's data is ever touched.

mod room;

use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use larder::Address;
use larder::clock::random_u64;

use crate::exit::{Code, Exit};
use crate::signals::Signals;
use crate::stores::log_uri;
use room::Room;

/// How long all that was made may take to be removed.
const CLEAR_MAX: Duration = Duration::from_mins(1);
/// How long what is still under way is waited for.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// A place for throw-away stores at an address.
///
/// `log:PATH` gets a new folder inside PATH, so that it lies on the device that was meant, or beside
/// it when PATH holds files; it is removed at the end. `redis:` gets a namespace, `postgres:` a schema,
/// `etcd:` and `s3:` a prefix of their own, which [`Scratch::spend`] removes. Other addresses are used as they are.
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
    /// The first one is that of the address.
    Rooms(Mutex<Vec<Room>>),
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
        if let Some(room) = Room::at(&uri, address.scheme(), what) {
            return Ok(Self { uri: room.uri.clone(), own: Own::Rooms(Mutex::new(vec![room])) });
        }
        match address.scheme() {
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
                let mut rooms = self.rooms()?;
                let first = rooms.first().filter(|room| !room.is_namespace())?;
                let room = first.beside(&self.uri, "law")?;
                let uri = room.uri.clone();
                rooms.push(room);
                Some(Ok(uri))
            }
            Own::Nothing => None,
        }
    }

    /// Does `work` here and then removes what was made for it, however that ends; a signal ends it early, and a
    /// second one the removing.
    ///
    /// # Errors
    /// Those of `work`, `Interrupted`, and what could not be removed, with how to do that by hand.
    pub(crate) async fn spend<T>(
        &self,
        work: impl Future<Output = Result<T, Exit>>,
    ) -> Result<T, Exit> {
        let mut signals = Signals::listen()?;
        let (done, is_cut) = tokio::select! {
            done = work => (done, false),
            () = signals.next() => (Err(Exit::new(Code::Interrupted, "interrupted")), true),
        };
        let made = self.rooms().map_or_else(Vec::new, |rooms| rooms.clone());
        let clearing = async {
            if is_cut {
                settle().await;
                // A server may be about to carry out what it was sent: what the first look misses the second one finds.
                self.clear(&made).await;
            }
            self.clear(&made).await
        };
        let problem = tokio::select! {
            problem = clearing => problem,
            () = signals.next() => Some("interrupted again".to_owned()),
        };
        match (done, problem.and_then(|problem| self.left(&problem))) {
            (done, None) => done,
            (Ok(_), Some(left)) => Err(Exit::unavailable(left)),
            (Err(exit), Some(left)) => Err(exit.and(&left)),
        }
    }

    /// Removes these rooms, which are all; why some are left, if they are.
    async fn clear(&self, rooms: &[Room]) -> Option<String> {
        let mut left = Vec::new();
        let mut problem = None;
        let clearing = async {
            for room in rooms {
                match room.drop().await {
                    Ok(()) => {}
                    // Whoever was never let in has made nothing.
                    Err(trouble) if !trouble.passes && rooms.len() == 1 => {}
                    Err(trouble) => {
                        problem = Some(trouble.why);
                        left.push(room.clone());
                    }
                }
            }
        };
        if tokio::time::timeout(CLEAR_MAX, clearing).await.is_err() {
            return Some(format!("not removed within {CLEAR_MAX:?}"));
        }
        self.rooms().into_iter().for_each(|mut rooms| rooms.clone_from(&left));
        problem
    }

    /// What is left behind because of a problem.
    fn left(&self, problem: &str) -> Option<String> {
        let rooms = self.rooms()?;
        (!rooms.is_empty()).then(|| format!("{} ({problem})", Room::left(&rooms)))
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

    /// Which rooms are there, where there can be any.
    fn rooms(&self) -> Option<MutexGuard<'_, Vec<Room>>> {
        match &self.own {
            Own::Rooms(rooms) => Some(rooms.lock().unwrap_or_else(PoisonError::into_inner)),
            Own::Nothing | Own::Folder(_) => None,
        }
    }
}

/// Waits until tasks that outlive those who began them have ended, such as one that makes a schema.
async fn settle() {
    let began = tokio::time::Instant::now();
    let tasks = || tokio::runtime::Handle::current().metrics().num_alive_tasks();
    while tasks() > 0 && began.elapsed() < SETTLE_MAX {
        tokio::time::sleep(Duration::from_millis(5)).await;
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
