//! The benchmarks, also on a file system that keeps a journal.

use std::fs;

use crate::command::{output, root, run};

/// Large enough for the full run.
const IMAGE_BYTES: &str = "8G";

/// Runs `larder-bench` with `arguments`, but for those that are for the build and the place. The first
/// one may say what is measured; without any it is everything.
pub(crate) fn run_with(arguments: &[&str]) -> Result<(), String> {
    match arguments {
        [] => measure_spool(&[]).and_then(|()| cache(&[])).and_then(|()| consensus(&[])),
        ["cache", rest @ ..] => cache(rest),
        ["consensus", rest @ ..] => consensus(rest),
        ["spool", rest @ ..] | rest => measure_spool(rest),
    }
}

/// The cache beside all its peers, partly over a Redis server that is started for it.
fn cache(arguments: &[&str]) -> Result<(), String> {
    let build = ["run", "--release", "--locked", "-p", "larder-bench", "--features", "cache-peers"];
    run("cargo", &[&build[..], &["--", "cache"], arguments].concat(), &[])
}

/// Consensus beside a statement or a transaction for each call, over servers that are started for it.
fn consensus(arguments: &[&str]) -> Result<(), String> {
    let build = ["run", "--release", "--locked", "-p", "larder-bench", "--", "consensus"];
    run("cargo", &[&build[..], arguments].concat(), &[])
}

fn measure_spool(arguments: &[&str]) -> Result<(), String> {
    let given = |flag: &str| arguments.contains(&flag);
    let ours = ["--ext4", "--rocksdb"];
    let theirs: Vec<&str> = arguments.iter().copied().filter(|word| !ours.contains(word)).collect();
    let peers: &[&str] = if given("--rocksdb") { &["--features", "rocksdb"] } else { &[] };
    if given("--ext4") { on_ext4(peers, &theirs) } else { spool(peers, &theirs) }
}

fn spool(peers: &[&str], arguments: &[&str]) -> Result<(), String> {
    let build = ["run", "--release", "--locked", "-p", "larder-bench"];
    run("cargo", &[&build[..], peers, &["--", "spool"], arguments].concat(), &[])
}

/// The same on a new ext4 with a journal, in a file beside the build: needs root and 8 GiB.
///
/// The loop device passes reads and writes on without a second page cache.
fn on_ext4(peers: &[&str], arguments: &[&str]) -> Result<(), String> {
    let folder = root().join("target/bench-ext4");
    let (image, mount) = (folder.join("image"), folder.join("mount"));
    let (image, mount) = (image.display().to_string(), mount.display().to_string());
    let failed = |error: std::io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(&mount).map_err(failed)?;
    let done = prepare(&image, &mount).and_then(|device| {
        let done = spool(peers, &[&["--dir", &mount], arguments].concat());
        // Whatever went wrong before is what has to be told.
        let _ = run("umount", &[&mount], &[]);
        let _ = run("losetup", &["--detach", &device], &[]);
        done
    });
    fs::remove_file(&image).map_err(failed)?;
    done
}

/// Makes the file system and mounts it; answers its loop device.
fn prepare(image: &str, mount: &str) -> Result<String, String> {
    run("fallocate", &["--length", IMAGE_BYTES, image], &[])?;
    // Nothing is left to be initialised while it is measured.
    let eager = "lazy_itable_init=0,lazy_journal_init=0";
    run("mkfs.ext4", &["-q", "-F", "-E", eager, image], &[])?;
    let device = output("losetup", &["--direct-io=on", "--find", "--show", image])?;
    let device = String::from_utf8_lossy(&device).trim().to_owned();
    run("mount", &[&device, mount], &[]).inspect_err(|_| {
        let _ = run("losetup", &["--detach", &device], &[]);
    })?;
    Ok(device)
}
