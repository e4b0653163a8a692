//! Objects in a folder, one file each.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use s3s::crypto::{Checksum as _, Md5};

/// All objects of a bucket, in memory and in files: a file is replaced as a whole before anybody is told.
#[derive(Debug)]
pub(super) struct Objects {
    folder: PathBuf,
    held: Mutex<BTreeMap<String, Object>>,
    puts: AtomicU64,
}

/// One object as it is now.
#[derive(Clone, Debug)]
pub(super) struct Object {
    pub(super) bytes: Bytes,
    pub(super) tag: String,
}

/// What has to be so for a PUT to be carried out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Condition {
    Always,
    /// There is no object.
    Absent,
    /// The object has this ETag.
    Is(String),
}

/// Why a PUT was not carried out.
#[derive(Debug)]
pub(super) enum Unwritten {
    /// The condition does not hold.
    Precondition,
    /// An ETag was named, and there is no object.
    NoSuchKey,
    Disk(io::Error),
}

impl Objects {
    /// The objects in `folder`.
    pub(super) fn open(folder: &Path) -> io::Result<Self> {
        let mut held = BTreeMap::new();
        for entry in std::fs::read_dir(folder)? {
            let path = entry?.path();
            // What is half written has no name yet.
            if path.extension().is_some_and(|extension| extension == "object") {
                let (name, bytes) = split(&std::fs::read(&path)?.into())?;
                held.insert(name, Object::new(bytes));
            }
        }
        let folder = folder.to_owned();
        Ok(Self { folder, held: Mutex::new(held), puts: AtomicU64::new(0) })
    }

    pub(super) fn get(&self, name: &str) -> Option<Object> {
        self.lock().get(name).cloned()
    }

    /// Whether a condition holds at the moment.
    pub(super) fn holds(&self, name: &str, condition: &Condition) -> Result<(), Unwritten> {
        judge(self.lock().get(name), condition)
    }

    /// Replaces an object if the condition holds, in one step; its new ETag.
    pub(super) fn put(
        &self,
        name: &str,
        bytes: Bytes,
        condition: &Condition,
    ) -> Result<String, Unwritten> {
        let mut held = self.lock();
        judge(held.get(name), condition)?;
        self.write(&mut held, name, bytes).map_err(Unwritten::Disk)
    }

    pub(super) fn overwrite(&self, name: &str, bytes: Bytes) -> io::Result<String> {
        self.write(&mut self.lock(), name, bytes)
    }

    pub(super) fn delete(&self, name: &str) -> io::Result<()> {
        if self.lock().remove(name).is_some() {
            std::fs::remove_file(self.path(name))?;
        }
        Ok(())
    }

    /// Up to `limit` objects with a prefix, after a name, and whether there are more.
    pub(super) fn list(
        &self,
        prefix: &str,
        after: &str,
        limit: usize,
    ) -> (Vec<(String, Object)>, bool) {
        let held = self.lock();
        let matching = held.iter().filter(|(name, _)| {
            name.starts_with(prefix) && (after.is_empty() || name.as_str() > after)
        });
        let mut found: Vec<_> = matching
            .take(limit.saturating_add(1))
            .map(|(name, object)| (name.clone(), object.clone()))
            .collect();
        let is_cut = found.len() > limit;
        found.truncate(limit);
        (found, is_cut)
    }

    pub(super) fn names(&self) -> Vec<String> {
        self.lock().keys().cloned().collect()
    }

    pub(super) fn puts(&self) -> u64 {
        self.puts.load(Ordering::SeqCst)
    }

    fn write(
        &self,
        held: &mut BTreeMap<String, Object>,
        name: &str,
        bytes: Bytes,
    ) -> io::Result<String> {
        let path = self.path(name);
        let draft = path.with_extension("draft");
        std::fs::write(&draft, [name.as_bytes(), b"\0", &bytes].concat())?;
        std::fs::rename(&draft, &path)?;
        let object = Object::new(bytes);
        let tag = object.tag.clone();
        held.insert(name.to_owned(), object);
        self.puts.fetch_add(1, Ordering::SeqCst);
        Ok(tag)
    }

    /// Names of objects may be longer than those of files, and have slashes.
    fn path(&self, name: &str) -> PathBuf {
        self.folder.join(format!("{}.object", md5(name.as_bytes())))
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Object>> {
        self.held.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Object {
    fn new(bytes: Bytes) -> Self {
        Self { tag: md5(&bytes), bytes }
    }
}

fn judge(object: Option<&Object>, condition: &Condition) -> Result<(), Unwritten> {
    match (condition, object) {
        (Condition::Always, _) | (Condition::Absent, None) => Ok(()),
        (Condition::Is(tag), Some(object)) if object.tag == *tag => Ok(()),
        (Condition::Is(_), None) => Err(Unwritten::NoSuchKey),
        (Condition::Absent | Condition::Is(_), Some(_)) => Err(Unwritten::Precondition),
    }
}

/// A file: the name, a zero byte, the content.
fn split(file: &Bytes) -> io::Result<(String, Bytes)> {
    let odd = || io::Error::new(io::ErrorKind::InvalidData, "not an object of this endpoint");
    let end = file.iter().position(|byte| *byte == 0).ok_or_else(odd)?;
    let name = String::from_utf8(file[..end].to_vec()).map_err(|_| odd())?;
    Ok((name, file.slice(end + 1..)))
}

fn md5(bytes: &[u8]) -> String {
    let digest = Md5::checksum(bytes);
    let mut text = String::new();
    for byte in digest.as_ref() {
        // A text takes whatever is written to it.
        let _ = write!(text, "{byte:02x}");
    }
    text
}
