//! Builds with a part of the features: what one of them needs, another one may bring along by chance.

use crate::command::run;
use crate::suite::timed;

/// What an address can lead to, without TLS and, where there is that, with it.
const BACKENDS: &[&[&str]] = &[
    &["log"],
    &["redis", "redis-tls"],
    &["postgres", "postgres-tls"],
    &["etcd", "etcd-tls"],
    &["s3"],
];

/// How data are written down.
const FORMATS: &[&str] = &["json", "postcard", "zstd", "lz4"];

/// Servers without TLS, tests included: the histories of both have parts in common.
const SERVERS: &str = "log,postgres,etcd";

/// A few for each change: nothing, everything alone, and all test programs without TLS.
pub(crate) fn few() -> Result<(), String> {
    alone("")?;
    for feature in BACKENDS.iter().flat_map(|backend| backend.iter()).chain(FORMATS) {
        alone(feature)?;
    }
    lint("larder", SERVERS, &["--all-targets"])?;
    testkit()
}

/// Every set of backends, each without TLS, with it, or not at all.
pub(crate) fn all() -> Result<(), String> {
    for set in sets(BACKENDS) {
        timed(&format!("larder with {set:?}"), || alone(&set))?;
    }
    for feature in FORMATS {
        timed(&format!("larder with {feature:?}"), || alone(feature))?;
    }
    timed("tests without TLS", || lint("larder", SERVERS, &["--all-targets"]))?;
    timed("the test kit", testkit)
}

fn testkit() -> Result<(), String> {
    ["", "s3", "tls"].iter().try_for_each(|set| lint("larder-testkit", set, &[]))
}

/// The library with these features and no others.
fn alone(features: &str) -> Result<(), String> {
    lint("larder", features, &[])
}

fn lint(package: &str, features: &str, more: &[&str]) -> Result<(), String> {
    let words = ["clippy", "-p", package, "--no-default-features", "--quiet", "--locked"];
    let features = ["--features", features];
    let strict = ["--", "-D", "warnings"];
    run("cargo", &[&words[..], &features, more, &strict].concat(), &[])
}

/// All ways to choose one or none of each kind.
fn sets(kinds: &[&[&str]]) -> Vec<String> {
    let mut sets = vec![String::new()];
    for kind in kinds {
        let with = |set: &String, feature: &str| {
            let comma = if set.is_empty() { "" } else { "," };
            format!("{set}{comma}{feature}")
        };
        let more: Vec<String> = sets
            .iter()
            .flat_map(|set| kind.iter().map(move |feature| with(set, feature)))
            .collect();
        sets.extend(more);
    }
    sets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_set_is_there_once() {
        let mut all = sets(&[&["a"], &["b", "b-tls"]]);
        all.sort();
        assert_eq!(all, ["", "a", "a,b", "a,b-tls", "b", "b-tls"]);
        assert_eq!(sets(BACKENDS).len(), 2 * 3 * 3 * 3 * 2);
    }

    /// Nobody is forgotten: the manifest has no feature that is in no list.
    #[test]
    fn every_feature_of_the_library_is_built_alone() {
        let manifest = crate::command::root().join("crates/larder/Cargo.toml");
        let text = std::fs::read_to_string(manifest).unwrap();
        let (_, rest) = text.split_once("[features]").unwrap();
        let (features, _) = rest.split_once("\n[").unwrap();
        let names = features.lines().filter_map(|line| line.split_once(" = "));
        let known: Vec<&str> =
            BACKENDS.iter().flat_map(|backend| backend.iter()).chain(FORMATS).copied().collect();
        for (name, _) in names.filter(|(name, _)| *name != "default" && !name.starts_with('#')) {
            assert!(known.contains(&name), "{name} is in no list");
        }
    }
}
