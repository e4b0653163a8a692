//! The messages of servers that speak gRPC, as Rust: made here and kept in the repository, so that
//! whoever builds larder needs neither `protoc` nor a build script.

use std::fs;
use std::io::Write as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use prost_build::{Config, Module};

use crate::command::root;

/// What the generated file says first.
const HEAD: &str = "\
//! The messages to and from etcd. Made by `cargo xtask proto` of proto/etcd.proto: do not edit.

";

/// Writes the file anew.
pub(crate) fn write() -> Result<(), String> {
    let path = path();
    fs::write(&path, generate()?).map_err(|error| format!("{}: {error}", path.display()))
}

fn path() -> PathBuf {
    root().join("crates/larder/src/driver/etcd/proto.rs")
}

fn generate() -> Result<String, String> {
    let folder = root().join("crates/larder/proto");
    let files = protox::compile([folder.join("etcd.proto")], [&folder]);
    let files = files.map_err(|error| error.to_string())?.file;
    let requests =
        files.into_iter().map(|file| (Module::from_protobuf_package_name(file.package()), file));
    // Payloads are shared with what was received, never copied.
    let made = Config::new().bytes(["."]).generate(requests.collect());
    let made = made.map_err(|error| error.to_string())?;
    formatted(&made.into_values().fold(HEAD.to_owned(), |all, part| all + &part))
}

/// As `cargo fmt` leaves it.
fn formatted(code: &str) -> Result<String, String> {
    let failed = |error| format!("cannot run rustfmt: {error}");
    let mut rustfmt = Command::new("rustfmt")
        .args(["--edition", "2024", "--config-path"])
        .arg(root())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .map_err(failed)?;
    // Closed at the end of the statement, so that rustfmt begins.
    rustfmt
        .stdin
        .take()
        .map_or(Ok(()), |mut input| input.write_all(code.as_bytes()))
        .map_err(failed)?;
    let output = rustfmt.wait_with_output().map_err(failed)?;
    String::from_utf8(output.stdout).map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_made_of_the_messages_is_current() {
        let kept = fs::read_to_string(path()).unwrap();
        assert!(kept == generate().unwrap(), "run `cargo xtask proto`");
    }
}
