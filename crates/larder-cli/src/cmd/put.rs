//! `larder spool put`: files, folders and stdin into a spool.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use futures_util::{Stream, StreamExt, stream};
use indicatif::ProgressBar;
use larder::{SharedSpool, Spool, SpoolId, SystemClock};
use serde_json::json;
use tokio::sync::{Semaphore, mpsc};
use walkdir::WalkDir;

use crate::args::SpoolWrite;
use crate::exit::{Exit, say};
use crate::output::Output;
use crate::{payload, progress, stores};

/// Stores that are on their way at a time: they share one sync of the disk.
const IN_FLIGHT: usize = 64;
/// The memory for payloads on their way, in KiB; a larger one travels alone.
const MEMORY_KIB: u32 = 256 << 10;

pub(crate) async fn run(
    uri: &str,
    sources: Vec<PathBuf>,
    write: &SpoolWrite,
    output: &mut Output,
) -> Result<(), Exit> {
    for source in &sources {
        if source != Path::new("-") {
            std::fs::metadata(source).map_err(|error| Exit::file(source, &error))?;
        }
    }
    let single = match sources.as_slice() {
        // Pipes and the like are read, too: as in `spool put URI <(command)`.
        [source] if !source.is_dir() => Some(source.clone()),
        _ => None,
    };
    if let Some(source) = single {
        // Read before the spool is opened: a slow producer should not hold its lock.
        let data = payload::read(&source).await?;
        return stores::with_new_spool(uri, async |spool| {
            let id = SpoolId::new(&SystemClock);
            spool.store(id, data, write.force_sync(), write.deadline_from_now()).await?;
            output.line(&json!({ "id": id.to_string() }), &id.to_string())
        })
        .await;
    }
    stores::with_new_spool(uri, async |spool| put_files(spool, sources, write, output).await).await
}

/// Stores every file below `sources` and prints each id as soon as it is acknowledged.
async fn put_files(
    spool: &SharedSpool,
    sources: Vec<PathBuf>,
    write: &SpoolWrite,
    output: &mut Output,
) -> Result<(), Exit> {
    let bar = progress::count("storing");
    count_ahead(&bar, &sources);
    let memory = Arc::new(Semaphore::new(MEMORY_KIB as usize));
    let stored = walk(sources).map(|file| {
        let memory = Arc::clone(&memory);
        async move {
            match file {
                Ok(path) => (put_file(spool, &path, write, memory).await, path),
                Err((path, exit)) => (Err(exit), path),
            }
        }
    });
    let mut stored = std::pin::pin!(stored.buffer_unordered(IN_FLIGHT));
    let (mut count, mut failed) = (0_u64, 0_u64);
    while let Some((result, path)) = stored.next().await {
        match result {
            Ok(id) => {
                count += 1;
                print_stored(id, &path, output)?;
            }
            Err(exit) => {
                failed += 1;
                let line = exit.at(&path.display().to_string()).line(output.json());
                bar.suspend(|| say(&line));
            }
        }
        advance(&bar, output)?;
    }
    bar.finish_and_clear();
    if failed == 0 {
        return Ok(());
    }
    output.flush()?;
    Err(Exit::failed(format!("{failed} of {} files were not stored", count + failed)))
}

fn print_stored(id: SpoolId, path: &Path, output: &mut Output) -> Result<(), Exit> {
    if output.json() {
        let path = path.to_string_lossy();
        return output.object(&json!({ "id": id.to_string(), "path": path }));
    }
    output.bytes(id.to_string().as_bytes())?;
    output.bytes(b" ")?;
    output.bytes(path.as_os_str().as_bytes())?;
    output.bytes(b"\n")?;
    // What is acknowledged is told at once: a crash must not take the ids with it.
    output.flush()
}

fn advance(bar: &ProgressBar, output: &mut Output) -> Result<(), Exit> {
    bar.inc(1);
    output.flush()
}

async fn put_file(
    spool: &SharedSpool,
    path: &Path,
    write: &SpoolWrite,
    memory: Arc<Semaphore>,
) -> Result<SpoolId, Exit> {
    let about = std::fs::metadata(path).map_err(|error| Exit::file(path, &error))?;
    let share = match u32::try_from(about.len().div_ceil(1024)) {
        Ok(kib) if about.is_file() => kib.clamp(1, MEMORY_KIB),
        // A large one, or one whose size shows only at its end.
        _ => MEMORY_KIB,
    };
    let permit = memory.acquire_many_owned(share).await;
    let _share = permit.map_err(|_| Exit::failed("the memory for payloads is gone"))?;
    let file = path.to_owned();
    let data = payload::in_background(move || payload::read_file(&file)).await?;
    let id = SpoolId::new(&SystemClock);
    spool.store(id, data, write.force_sync(), write.deadline_from_now()).await?;
    Ok(id)
}

/// Counts the files while they are being stored, for people who watch.
fn count_ahead(bar: &ProgressBar, sources: &[PathBuf]) {
    if bar.is_hidden() {
        return;
    }
    let (bar, sources) = (bar.clone(), sources.to_vec());
    tokio::task::spawn_blocking(move || {
        let mut length = 0;
        for entry in sources.iter().flat_map(WalkDir::new).flatten() {
            if bar.is_finished() {
                return;
            }
            length += u64::from(entry.file_type().is_file());
        }
        progress::set_length(&bar, length);
    });
}

type Found = Result<PathBuf, (PathBuf, Exit)>;

/// The files below `sources`, found by a thread that never runs far ahead.
fn walk(sources: Vec<PathBuf>) -> impl Stream<Item = Found> {
    let (sender, receiver) = mpsc::channel(IN_FLIGHT);
    tokio::task::spawn_blocking(move || {
        for entry in sources.iter().flat_map(WalkDir::new) {
            let found = match entry {
                Ok(entry) if entry.file_type().is_file() => Ok(entry.into_path()),
                // A source that was named was meant, whether a link or a pipe; further down what is
                // not a file is left out.
                Ok(entry) if entry.depth() == 0 && !entry.path().is_dir() => Ok(entry.into_path()),
                Ok(_) => continue,
                Err(error) => {
                    let path = error.path().map(Path::to_owned).unwrap_or_default();
                    Err((path, Exit::failed(format!("cannot read the folder: {error}"))))
                }
            };
            if sender.blocking_send(found).is_err() {
                return;
            }
        }
    });
    stream::unfold(receiver, async |mut receiver: mpsc::Receiver<Found>| {
        receiver.recv().await.map(|found| (found, receiver))
    })
}
