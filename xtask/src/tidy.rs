//! The invariants of the house that no compiler checks.
//!
//! Directions: core imports no crate of ours; log and testkit only core; inside `larder` the three
//! contracts never import one another, `compose` sees core only, and nobody but the registry's
//! users names the registry. Sizes: no file above 800 lines. Tests and tables are exempt.

use std::fs;
use std::path::{Path, PathBuf};

use crate::command::root;
use crate::print;

/// The longest a source file may be.
const LINES_MAX: usize = 800;
/// What a file should aim at not to exceed.
const LINES_EXPLAIN: usize = 500;

/// Which crates of ours each crate may depend on, outside of its tests.
const CRATES: &[(&str, &[&str])] = &[
    ("larder-core", &[]),
    ("larder-log", &["larder-core"]),
    ("larder-testkit", &["larder-core"]),
    ("larder", &["larder-core", "larder-log"]),
    ("larder-cli", &["larder", "larder-core", "larder-log", "larder-testkit"]),
    ("larder-bench", &["larder", "larder-log", "larder-testkit"]),
];

/// Which paths the files of a room of `larder` must not name.
const ROOMS: &[(&str, &[&str])] = &[
    (
        "compose",
        &[
            "crate::bus",
            "crate::cache",
            "crate::spool",
            "crate::consensus",
            "crate::registry",
            "crate::driver",
            "larder_log",
        ],
    ),
    ("bus", &["crate::cache", "crate::spool", "crate::consensus"]),
    ("cache", &["crate::bus", "crate::spool", "crate::consensus"]),
    ("spool", &["crate::bus", "crate::cache", "crate::consensus"]),
    ("consensus", &["crate::bus", "crate::cache", "crate::spool"]),
    (
        "recipes",
        &[
            "crate::bus",
            "crate::cache",
            "crate::spool",
            "crate::consensus",
            "crate::registry",
            "crate::driver",
            "larder_log",
        ],
    ),
    (
        "driver",
        &[
            "crate::bus",
            "crate::cache",
            "crate::spool",
            "crate::consensus",
            "larder_core::Bus",
            "larder_core::Spool",
            "larder_core::Consensus",
            "larder_core::Tier",
        ],
    ),
];

/// Words that have no place in a published repository.
const UNFINISHED: &[&str] = &["TODO", "FIXME", "XXX", "HACK"];

/// Checks every invariant and lists all that is broken.
pub(crate) fn check() -> Result<(), String> {
    let mut broken = Vec::new();
    check_crates(&mut broken)?;
    check_rooms(&mut broken)?;
    for file in sources(&root())? {
        check_file(&file, &mut broken)?;
    }
    if broken.is_empty() {
        print("tidy: the house is in order");
        return Ok(());
    }
    Err(format!("the house is not in order:\n  {}", broken.join("\n  ")))
}

fn check_crates(broken: &mut Vec<String>) -> Result<(), String> {
    for (name, allowed) in CRATES {
        let manifest = read(&root().join("crates").join(name).join("Cargo.toml"))?;
        let dependencies = section(&manifest, "[dependencies]");
        let ours = dependencies.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
        for dependency in ours.filter(|word| word.starts_with("larder")) {
            if !allowed.contains(&dependency) {
                broken.push(format!("{name} must not depend on {dependency}"));
            }
        }
    }
    Ok(())
}

fn check_rooms(broken: &mut Vec<String>) -> Result<(), String> {
    let library = root().join("crates/larder/src");
    for (room, forbidden) in ROOMS {
        let mut files = sources(&library.join(room)).unwrap_or_default();
        files.push(library.join(format!("{room}.rs")));
        for file in files.into_iter().filter(|file| file.is_file()) {
            for (number, line) in read(&file)?.lines().enumerate() {
                let code = line.split("//").next().unwrap_or(line);
                for path in forbidden.iter().filter(|path| names(code, path)) {
                    broken.push(format!("{} names {path}", place(&file, number)));
                }
            }
        }
    }
    Ok(())
}

fn check_file(file: &Path, broken: &mut Vec<String>) -> Result<(), String> {
    let text = read(file)?;
    let exempt = file.iter().any(|part| part == "tests" || part == "tests.rs");
    let lines = text.lines().count();
    if lines > LINES_MAX && !exempt {
        broken.push(format!("{} has {lines} lines: at most {LINES_MAX}", shown(file)));
    } else if lines > LINES_EXPLAIN && !exempt {
        print(&format!("tidy: {} has {lines} lines: is it still one noun?", shown(file)));
    }
    if file.ends_with("tidy.rs") {
        return Ok(());
    }
    for (number, line) in text.lines().enumerate() {
        for word in UNFINISHED.iter().filter(|word| names(line, word)) {
            broken
                .push(format!("{} says {word}: finish it or write an issue", place(file, number)));
        }
    }
    Ok(())
}

/// The source files below `folder`.
fn sources(folder: &Path) -> Result<Vec<PathBuf>, String> {
    let listed = fs::read_dir(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    let mut files = Vec::new();
    for entry in listed.flatten() {
        let path = entry.path();
        let name = entry.file_name();
        if path.is_dir() {
            if name != "target" && !name.to_string_lossy().starts_with('.') {
                files.extend(sources(&path)?);
            }
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The lines of a manifest below `heading`, up to the next heading.
fn section<'a>(manifest: &'a str, heading: &str) -> &'a str {
    let Some((_, below)) = manifest.split_once(&format!("\n{heading}\n")) else { return "" };
    below.split("\n[").next().unwrap_or(below)
}

/// Whether `text` has `word` with nothing of a name on either side.
fn names(text: &str, word: &str) -> bool {
    let part_of_name = |c: char| c.is_alphanumeric() || c == '_';
    text.match_indices(word).any(|(at, _)| {
        let (before, after) = (&text[..at], &text[at + word.len()..]);
        !before.ends_with(part_of_name) && !after.starts_with(part_of_name)
    })
}

fn read(path: &Path) -> Result<String, String> {
    fs::read_to_string(path).map_err(|error| format!("cannot read {}: {error}", path.display()))
}

fn shown(file: &Path) -> String {
    file.strip_prefix(root()).unwrap_or(file).display().to_string()
}

fn place(file: &Path, line: usize) -> String {
    format!("{}:{}", shown(file), line + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_word_is_found_only_as_a_word() {
        assert!(names("use crate::cache::X;", "crate::cache"));
        assert!(!names("use crate::cached;", "crate::cache"));
        assert!(names("a TODO: x", UNFINISHED[0]));
        assert!(!names("TODOS", UNFINISHED[0]));
    }

    #[test]
    fn a_section_ends_at_the_next_heading() {
        let manifest = "[package]\nname = \"x\"\n\n[dependencies]\na.workspace = true\n\n[dev-dependencies]\nb = 1\n";
        assert_eq!(section(manifest, "[dependencies]").trim(), "a.workspace = true");
    }

    #[test]
    fn the_house_is_in_order() {
        assert_eq!(check(), Ok(()));
    }
}
