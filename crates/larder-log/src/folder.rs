//! The folder of a log, before anything in it is read: is it ours, and ours alone?

use std::path::Path;

use crate::io::{Io, Lock, PathKind};
use crate::lock::LockError;
use crate::manifest::{self, Manifest};
use crate::recover;
use crate::{LogOptions, OpenError};

/// Makes sure that the folder is there, is or may become a log, and is ours alone.
pub(crate) fn prepare(
    io: &dyn Io,
    path: &Path,
    options: &LogOptions,
) -> Result<Box<dyn Lock>, OpenError> {
    match io.kind(path).map_err(|error| OpenError::io("look at", path, error))? {
        PathKind::Folder => {}
        PathKind::Other => return Err(OpenError::NotAFolder { path: path.to_path_buf() }),
        PathKind::Missing if !options.create_missing => {
            return Err(OpenError::NotFound { path: path.to_path_buf() });
        }
        PathKind::Missing => {
            io.create_dir(path).map_err(|error| OpenError::io("create", path, error))?;
        }
    }
    let names = io.list(path).map_err(|error| OpenError::io("read", path, error))?;
    let is_log = names.iter().any(|entry| recover::is_ours(&entry.name));
    if !is_log {
        if let Some(stranger) = names.iter().find(|entry| !recover::is_harmless(&entry.name)) {
            return Err(OpenError::Foreign {
                path: path.to_path_buf(),
                name: stranger.name.clone(),
            });
        }
        if !options.create_missing {
            return Err(OpenError::NotFound { path: path.to_path_buf() });
        }
    }
    // A log of a later format is left as it is, down to its lock file.
    if names.iter().any(|entry| entry.name == manifest::NAME)
        && let Err(fault) = Manifest::load(io, path)
        && let Some(error) = recover::refuse_manifest(fault, path)
    {
        return Err(error);
    }
    let lock_path = path.join(recover::LOCK);
    io.lock(&lock_path).map_err(|error| match error {
        LockError::Held(pid) => OpenError::Locked { path: path.to_path_buf(), pid },
        LockError::Io(error) => OpenError::io("lock", path, error),
    })
}
