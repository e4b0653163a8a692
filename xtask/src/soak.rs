//! The long suites: crash schedules by the million, daemons killed by the thousand, histories under faults,
//! fuzzing.

use crate::command::{exists, run};
use crate::suite::timed;

/// What a soak is asked to do.
#[derive(Debug, Default, PartialEq, Eq)]
struct Request {
    /// Settings of the crash schedules.
    schedules: Vec<(&'static str, String)>,
    /// Seconds for each fuzz target.
    fuzz: Option<String>,
    /// Histories of consensus stores, for each engine.
    histories: Option<String>,
}

impl Request {
    fn parse(words: &[&str]) -> Result<Self, String> {
        let mut request = Self::default();
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().ok_or_else(|| format!("{word} needs a value"));
            let setting = match *word {
                "--schedules" => ("LARDER_SOAK_SCHEDULES", number(word, value()?)?),
                "--seconds" => ("LARDER_SOAK_SECONDS", number(word, value()?)?),
                "--seed" => ("LARDER_SOAK_SEED", number(word, value()?)?),
                "--replay" => ("LARDER_CRASH_REPLAY", (*value()?).to_owned()),
                "--histories" => {
                    request.histories = Some(number(word, value()?)?);
                    continue;
                }
                "--fuzz" => {
                    request.fuzz = Some(number(word, value()?)?);
                    continue;
                }
                _ => return Err(format!("unknown argument of soak: {word}")),
            };
            request.schedules.push(setting);
        }
        Ok(request)
    }
}

/// Runs the long suites that `words` ask for; all but the fuzz targets if they name none.
pub(crate) fn soak(words: &[&str]) -> Result<(), String> {
    let request = Request::parse(words)?;
    if let Some(seconds) = &request.fuzz {
        return fuzz(seconds);
    }
    if let Some(count) = &request.histories {
        let seed = request.schedules.iter().find(|(name, _)| *name == "LARDER_SOAK_SEED");
        return histories(count, seed.map(|(_, seed)| seed.as_str()));
    }
    let settings: Vec<(&str, &str)> =
        request.schedules.iter().map(|(name, value)| (*name, value.as_str())).collect();
    timed("crash schedules", || {
        let test = ["test", "--release", "-p", "larder-log", "--locked", "--test", "crash", "--"];
        let only = ["--ignored", "--exact", "soak", "--nocapture"];
        run("cargo", &[&test[..], &only[..]].concat(), &settings)
    })?;
    if !settings.is_empty() {
        return Ok(());
    }
    timed("kill -9", || {
        let only = ["test", "--release", "-p", "larder-cli", "--locked", "--test", "kill_9"];
        run("cargo", &only, &[("LARDER_KILLS", "1000")])
    })?;
    histories("1000", None)
}

/// So many histories of each engine with faults, and a twentieth of that with restarts.
fn histories(count: &str, seed: Option<&str>) -> Result<(), String> {
    let restarts = count.parse::<u64>().map_or(1, |count| count.div_ceil(20)).to_string();
    let mut settings = vec![
        ("LARDER_HISTORIES", count),
        ("LARDER_HISTORY_RESTARTS", restarts.as_str()),
        ("LARDER_TEST_REQUIRE", "all"),
    ];
    settings.extend(seed.map(|seed| ("LARDER_HISTORY_SEED", seed)));
    timed("histories", || {
        let test = ["test", "-p", "larder", "--features", "postgres-tls,etcd-tls,s3", "--locked"];
        let only = ["--test", "histories", "--", "--nocapture", "--test-threads=2"];
        run("cargo", &[&test[..], &only[..]].concat(), &settings)
    })
}

/// Each fuzz target for so many seconds, with libFuzzer.
fn fuzz(seconds: &str) -> Result<(), String> {
    if !exists("cargo", &["+nightly", "fuzz", "--version"]) {
        return Err("fuzzing needs `rustup toolchain install nightly` and \
                    `cargo install cargo-fuzz --locked`"
            .to_owned());
    }
    for target in FUZZ_TARGETS {
        timed(target, || {
            let limit = format!("-max_total_time={seconds}");
            let target = ["+nightly", "fuzz", "run", target, "--", &limit, "-rss_limit_mb=2048"];
            run("cargo", &target, &[])
        })?;
    }
    Ok(())
}

const FUZZ_TARGETS: &[&str] = &[
    "record",
    "segment",
    "manifest",
    "folder",
    "cache_record",
    "debt_record",
    "object_record",
    "address",
];

fn number(word: &str, value: &str) -> Result<String, String> {
    let parsed: Result<u64, _> = value.parse();
    parsed.map(|number| number.to_string()).map_err(|_| format!("{word} {value}: not a number"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_are_passed_on_and_nothing_else_is_taken() {
        let request = Request::parse(&["--seconds", "60", "--replay", "fair:1:2"]).unwrap();
        assert_eq!(request.schedules[0], ("LARDER_SOAK_SECONDS", "60".to_owned()));
        assert_eq!(request.schedules[1], ("LARDER_CRASH_REPLAY", "fair:1:2".to_owned()));
        let histories = Request::parse(&["--histories", "500", "--seed", "7"]).unwrap();
        assert_eq!(histories.histories.as_deref(), Some("500"));
        assert_eq!(Request::parse(&["--fuzz", "9"]).unwrap().fuzz.as_deref(), Some("9"));
        for wrong in [&["--seconds"][..], &["--seconds", "x"], &["--sedes", "1"]] {
            assert!(Request::parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
