//! The programs of PostgreSQL, and new clusters without waiting for `initdb`.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use larder_core::clock::random_u64;

use super::owner::Owner;
use super::run;

/// The folder with `postgres` and `initdb`: the newest of Debian's, or one on the path.
///
/// # Errors
/// What to do when there is none.
pub(super) fn folder() -> Result<PathBuf, String> {
    let installed = std::fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let mut releases: Vec<(u32, PathBuf)> = installed
        .filter_map(|entry| {
            let release = entry.file_name().to_str()?.parse().ok()?;
            Some((release, entry.path().join("bin")))
        })
        .collect();
    releases.sort();
    let path = std::env::var_os("PATH").unwrap_or_default();
    let candidates = releases.into_iter().rev().map(|(_, folder)| folder);
    let mut candidates = candidates.chain(std::env::split_paths(&path));
    let complete =
        |folder: &PathBuf| ["postgres", "initdb"].iter().all(|name| folder.join(name).is_file());
    candidates
        .find(complete)
        .ok_or_else(|| "postgres is not installed: run `cargo xtask test --setup`".to_owned())
}

/// Makes an empty cluster at `data`: a copy of one that was initialised once for all test processes.
pub(super) fn new_cluster(data: &Path, owner: Owner) -> Result<(), String> {
    let template = template()?;
    if !template.is_dir() {
        initialise(&template, data, owner)?;
    }
    copy(&template, data)
}

/// Where the template is: beside the running program, so that it goes with the build.
fn template() -> Result<PathBuf, String> {
    let version = version()?;
    let program = std::env::current_exe().map_err(|error| format!("no program: {error}"))?;
    let beside = program.parent().unwrap_or(Path::new("/")).to_owned();
    Ok(beside.join(format!("larder-postgres-{version}")))
}

/// Such as `15.18`.
fn version() -> Result<String, String> {
    let mut postgres = Command::new(folder()?.join("postgres"));
    let output = postgres.arg("--version").stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("cannot run postgres: {error}"))?;
    let words = String::from_utf8_lossy(&output.stdout).into_owned();
    let version = words.split(' ').nth(2).unwrap_or_default().trim().to_owned();
    if version.is_empty() { Err(format!("postgres answers {words:?}")) } else { Ok(version) }
}

/// Initialises a cluster at `data`, where its owner may write, and moves it to `template`.
fn initialise(template: &Path, data: &Path, owner: Owner) -> Result<(), String> {
    let place = data.display().to_string();
    let initdb = folder()?.join("initdb").display().to_string();
    // Small files, so that copies are quick; no locale, so that it is the same on every machine.
    let words = [
        initdb.as_str(),
        "--pgdata",
        &place,
        "--username=larder",
        "--auth=trust",
        "--encoding=UTF8",
        "--locale=C",
        "--wal-segsize=1",
        "--no-sync",
        "--no-instructions",
    ];
    run(&owner.run_as(words.iter().map(|word| (*word).to_owned()).collect()))?;
    let half = template.with_extension(format!("{:016x}", random_u64()));
    copy(data, &half)?;
    if std::fs::rename(&half, template).is_err() {
        // Somebody else was first.
        let _ = std::fs::remove_dir_all(&half);
    }
    std::fs::remove_dir_all(data).map_err(|error| format!("cannot remove {place}: {error}"))
}

/// Copies a folder with its owner and permissions.
fn copy(from: &Path, to: &Path) -> Result<(), String> {
    let [from, to] = [from, to].map(|path| path.display().to_string());
    run(&["cp".to_owned(), "-a".to_owned(), "--reflink=auto".to_owned(), from, to])
}
