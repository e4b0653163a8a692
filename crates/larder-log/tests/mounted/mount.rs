//! A small ext4 in a file.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use rustix::fs::{FallocateFlags, fallocate, statvfs};
use tempfile::TempDir;

const BYTES: u64 = 24 << 20;

/// A mounted file system; unmounted when it is dropped.
pub(crate) struct Mount {
    holder: TempDir,
}

impl Mount {
    /// Makes and mounts one, or says what is in the way.
    pub(crate) fn new() -> Result<Self, String> {
        let holder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let (image, point) = (holder.path().join("image"), holder.path().join("mounted"));
        let made = File::create(&image).and_then(|file| file.set_len(BYTES));
        made.and_then(|()| std::fs::create_dir(&point)).map_err(|error| error.to_string())?;
        let (image, point) = (image.to_str().unwrap(), point.to_str().unwrap());
        // No blocks are kept for root: full is full for everybody.
        run(Command::new("mkfs.ext4").args(["-q", "-F", "-m", "0", image]))?;
        run(privileged("mount").args(["-o", "loop", image, point]))?;
        let mount = Self { holder };
        let owner = rustix::process::getuid().as_raw().to_string();
        run(privileged("chown").args([&owner, point]))?;
        Ok(mount)
    }

    fn point(&self) -> PathBuf {
        self.holder.path().join("mounted")
    }

    /// The folder of the log.
    pub(crate) fn folder(&self) -> PathBuf {
        self.point().join("log")
    }

    /// Takes all room but this. Giving it back: [`Self::free`].
    pub(crate) fn fill(&self, left: u64) {
        let ballast = File::create(self.point().join("ballast")).unwrap();
        let step: u64 = 64 << 10;
        let mut size = 0;
        while self.room() > left + step
            && fallocate(&ballast, FallocateFlags::empty(), size, step).is_ok()
        {
            size += step;
        }
        assert!(self.room() <= left + 2 * step, "{}", self.room());
    }

    /// Takes all room there is.
    pub(crate) fn fill_up(&self) {
        let path = self.point().join("last blocks");
        let ballast = File::options().create(true).append(true).open(path).unwrap();
        let mut step: u64 = 1 << 20;
        while step >= 4096 {
            let size = ballast.metadata().unwrap().len();
            if fallocate(&ballast, FallocateFlags::empty(), size, step).is_err() {
                step /= 2;
            }
        }
        assert!(self.room() < 4096, "{}", self.room());
    }

    pub(crate) fn free(&self) {
        std::fs::remove_file(self.point().join("ballast")).unwrap();
    }

    /// Bytes that are free.
    pub(crate) fn room(&self) -> u64 {
        let stat = statvfs(self.point()).unwrap();
        stat.f_bavail * stat.f_frsize
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        // A test that failed may still have files open; then the system does it later.
        drop(run(privileged("umount").arg("--lazy").arg(self.point())));
    }
}

/// A command that only root may run.
fn privileged(program: &str) -> Command {
    if rustix::process::geteuid().is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("sudo");
    command.args(["-n", program]);
    command
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.stdin(Stdio::null()).output();
    let output = output.map_err(|error| format!("{}: {error}", shown(command)))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", shown(command), String::from_utf8_lossy(&output.stderr).trim()))
}

fn shown(command: &Command) -> String {
    Path::new(command.get_program()).display().to_string()
}
