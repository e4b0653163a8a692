//! The suite: what has to hold before a change lands.

use std::fs;
use std::time::Instant;

use crate::command::{exists, output, root, run};
use crate::{features, print, tidy};

/// Every step is required; a law or service that cannot run fails instead of being passed over.
const STRICT: &[(&str, &str)] = &[("LARDER_TEST_REQUIRE", "all"), ("RUSTDOCFLAGS", "-D warnings")];

/// The whole house with all features, but for the benchmarks: one of their features is a database in
/// C++, and nobody else needs their dependencies.
const ALL: &[&str] = &["--workspace", "--exclude", "larder-bench", "--all-features", "--locked"];

/// Everything that has to hold before a change lands, cheap checks first.
pub(crate) fn test() -> Result<(), String> {
    let started = now();
    timed("tidy", tidy::check)?;
    timed("format", || run("cargo", &["fmt", "--all", "--check"], &[]))?;
    timed("lints", || {
        let strict = ["--", "-D", "warnings"];
        run("cargo", &[&["clippy", "--all-targets"][..], ALL, &strict].concat(), &[])?;
        let benchmarks = ["clippy", "-p", "larder-bench", "--all-targets", "--locked"];
        run("cargo", &[&benchmarks[..], &strict[..]].concat(), &[])?;
        features::few()
    })?;
    timed("tests", || tests(ALL))?;
    timed("benchmarks", || tests(&["-p", "larder-bench", "--locked"]))?;
    timed("examples in the documentation", || {
        run("cargo", &[&["test", "--doc"][..], ALL].concat(), STRICT)
    })?;
    timed("documentation", || {
        run("cargo", &[&["doc", "--no-deps", "--quiet"][..], ALL].concat(), STRICT)
    })?;
    print(&format!("\neverything holds, in {} s", started.elapsed().as_secs()));
    Ok(())
}

/// Writes docs/laws.md anew.
pub(crate) fn write_laws() -> Result<(), String> {
    let page = output("cargo", &["run", "--quiet", "-p", "larder-testkit", "--example", "laws"])?;
    let path = root().join("docs/laws.md");
    fs::write(&path, page).map_err(|error| format!("cannot write {}: {error}", path.display()))
}

/// Runs the tests with nextest where it is installed: it runs them side by side across crates.
fn tests(which: &[&str]) -> Result<(), String> {
    let runner: &[&str] = if exists("cargo", &["nextest", "--version"]) {
        &["nextest", "run", "--no-fail-fast"]
    } else {
        &["test", "--no-fail-fast", "--lib", "--bins", "--tests", "--examples"]
    };
    run("cargo", &[runner, which].concat(), STRICT)
}

/// Runs a step and says how long it took.
pub(crate) fn timed(name: &str, step: impl FnOnce() -> Result<(), String>) -> Result<(), String> {
    let started = now();
    let done = step();
    let verdict = if done.is_ok() { "ok" } else { "FAILED" };
    print(&format!("<== {name}: {verdict}, {:.1} s", started.elapsed().as_secs_f32()));
    done
}

#[expect(clippy::disallowed_methods, reason = "no test moves the time of a chore")]
fn now() -> Instant {
    Instant::now()
}
