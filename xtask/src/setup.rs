//! What the tests need from the machine, and how to get it.

use crate::command::{exists, run};

/// Something that has to be on the machine.
struct Need {
    name: &'static str,
    /// Succeeds when it is there.
    probe: (&'static str, &'static [&'static str]),
    source: Source,
}

enum Source {
    /// A Debian package.
    Debian(&'static str),
    /// A component of the Rust toolchain.
    Rustup(&'static str),
}

const NEEDS: &[Need] = &[
    Need { name: "a C linker", probe: ("cc", &["--version"]), source: Source::Debian("gcc") },
    Need {
        name: "mkfs.ext4, for a small file system that fills up",
        probe: ("mkfs.ext4", &["-V"]),
        source: Source::Debian("e2fsprogs"),
    },
    Need {
        name: "mount, for the same",
        probe: ("mount", &["--version"]),
        source: Source::Debian("mount"),
    },
    Need {
        name: "redis-server, as a cache tier",
        probe: ("redis-server", &["--version"]),
        source: Source::Debian("redis-server"),
    },
    Need {
        name: "postgres and initdb, as a cache tier and a consensus store",
        probe: ("sh", &["-c", "command -v initdb || ls /usr/lib/postgresql/*/bin/initdb"]),
        source: Source::Debian("postgresql"),
    },
    Need {
        name: "etcd, as a consensus store",
        probe: ("etcd", &["--version"]),
        source: Source::Debian("etcd-server"),
    },
    Need {
        name: "rustfmt",
        probe: ("cargo", &["fmt", "--version"]),
        source: Source::Rustup("rustfmt"),
    },
    Need {
        name: "clippy",
        probe: ("cargo", &["clippy", "--version"]),
        source: Source::Rustup("clippy"),
    },
];

impl Need {
    fn is_missing(&self) -> bool {
        !exists(self.probe.0, self.probe.1)
    }

    fn remedy(&self) -> String {
        match self.source {
            Source::Debian(package) => {
                format!("apt-get install -y --no-install-recommends {package}")
            }
            Source::Rustup(component) => format!("rustup component add {component}"),
        }
    }
}

/// Stops with a list when something is missing.
pub(crate) fn require() -> Result<(), String> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| need.is_missing()).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let lines = missing.iter().map(|need| format!("  {}: {}\n", need.name, need.remedy()));
    Err(format!(
        "missing, install it with `cargo xtask setup` or by hand:\n{}",
        lines.collect::<String>()
    ))
}

/// Installs what is missing, saying what it does.
pub(crate) fn install() -> Result<(), String> {
    let missing: Vec<&Need> = NEEDS.iter().filter(|need| need.is_missing()).collect();
    if missing.iter().any(|need| matches!(need.source, Source::Debian(_))) {
        privileged("apt-get", &["update", "-q"])?;
    }
    for need in missing {
        crate::print(&format!("missing: {}", need.name));
        match need.source {
            Source::Debian(package) => {
                privileged(
                    "apt-get",
                    &["install", "-y", "-q", "--no-install-recommends", package],
                )?;
            }
            Source::Rustup(component) => run("rustup", &["component", "add", component], &[])?,
        }
        if need.is_missing() {
            return Err(format!("{} is still missing after: {}", need.name, need.remedy()));
        }
    }
    Ok(())
}

/// Runs `program` as root: directly when this is root, else through sudo without a question.
fn privileged(program: &str, arguments: &[&str]) -> Result<(), String> {
    let quiet = [("DEBIAN_FRONTEND", "noninteractive")];
    let is_root = exists("sh", &["-c", "test \"$(id -u)\" = 0"]);
    if is_root {
        return run(program, arguments, &quiet);
    }
    let with_sudo: Vec<&str> =
        ["-n", program].into_iter().chain(arguments.iter().copied()).collect();
    run("sudo", &with_sudo, &quiet)
        .map_err(|problem| format!("{problem}; run it as root, or install by hand"))
}
