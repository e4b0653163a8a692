//! The config file of the daemon: TOML, every field with a default, nothing passed over.

use std::collections::BTreeMap;
use std::io::Read as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use larder::Address;
use larder::address::parse_bytes;
use larder::cache::{AnyCompressor, GuardOptions};
use larder::compose::{AnyReadPolicy, AnyWritePolicy, RefillPolicy};
use larder::registry::{OpenError, check_bus, check_cache, check_consensus, check_spool};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer};

use super::caches::debts_of;
use crate::exit::Exit;
use crate::stores::log_uri;

/// The name of the cache and of the spool that are there without a config.
const DEFAULT: &str = "default";
/// A config is small; anything larger is the wrong file.
const FILE_BYTES_MAX: u64 = 1 << 20;
/// The longest wait: a bound that nobody lives to see is none, and clocks cannot reckon with it.
const WAIT_MAX: Duration = Duration::from_hours(365 * 24);

type Check = fn(&str) -> Result<(), OpenError>;

/// Everything that can be configured.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Config {
    /// Where to listen.
    pub(crate) listen: SocketAddr,
    /// The folder of the stores that name no place of their own.
    pub(crate) data: PathBuf,
    pub(crate) limits: Limits,
    pub(crate) cache: BTreeMap<Name, CacheConfig>,
    pub(crate) spool: BTreeMap<Name, SpoolConfig>,
    pub(crate) consensus: ConsensusConfig,
}

/// The bounds of the daemon.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Limits {
    /// The largest body.
    #[serde(deserialize_with = "bytes")]
    pub(crate) body: u64,
    /// The memory that all bodies on their way in may take together.
    #[serde(deserialize_with = "bytes")]
    pub(crate) bodies: u64,
    /// How many connections are served at a time; further ones wait.
    #[serde(deserialize_with = "count")]
    pub(crate) connections: u32,
    /// How long a client may take to send the head of a request, or be idle between two.
    #[serde(deserialize_with = "duration")]
    pub(crate) head_timeout: Duration,
    /// How long a client may let a body or an answer stand still.
    #[serde(deserialize_with = "duration")]
    pub(crate) idle_timeout: Duration,
    /// How long a shutdown waits for requests that are being served.
    #[serde(deserialize_with = "duration")]
    pub(crate) drain: Duration,
}

/// A cache: one tier, or two.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct CacheConfig {
    pub(crate) l1: Option<Uri>,
    pub(crate) l2: Option<Uri>,
    #[serde(deserialize_with = "policy")]
    pub(crate) read: AnyReadPolicy,
    #[serde(deserialize_with = "policy")]
    pub(crate) write: AnyWritePolicy,
    #[serde(deserialize_with = "policy")]
    pub(crate) refill: Refill,
    /// How long a copy may live in the first tier at most; as long as in the second when it is not there.
    #[serde(deserialize_with = "some_duration")]
    pub(crate) l1_ttl_max: Option<Duration>,
    /// How values are compressed in tiers of bytes.
    #[serde(deserialize_with = "policy")]
    pub(crate) compress: AnyCompressor,
    /// The smallest value that is compressed; its own default when it is not there.
    #[serde(deserialize_with = "some_bytes")]
    pub(crate) compress_from: Option<u64>,
    /// Whether a tier behind a network that keeps failing is left alone for a while.
    pub(crate) breaker: bool,
    /// For how long at first.
    #[serde(deserialize_with = "duration")]
    pub(crate) breaker_pause: Duration,
    /// For how long at most.
    #[serde(deserialize_with = "duration")]
    pub(crate) breaker_pause_max: Duration,
    /// The spool in which is written down what tiers have missed.
    pub(crate) debts: Option<Uri>,
    /// What tells other daemons with the same cache of changes.
    pub(crate) bus: Option<Uri>,
    /// For how long a value may be served at most that another daemon has changed.
    #[serde(deserialize_with = "some_duration")]
    pub(crate) bus_staleness: Option<Duration>,
}

/// A spool.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct SpoolConfig {
    pub(crate) l1: Option<Uri>,
    /// Known by name, so that it is refused with the reason.
    pub(crate) l2: Option<Uri>,
}

/// The consensus store.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct ConsensusConfig {
    pub(crate) uri: Option<Uri>,
}

/// The refill policy; unlike the composition's own, the daemon's default is to refill.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Refill(pub(crate) RefillPolicy);

/// An address that can be read; whether it can be opened shows later.
#[derive(Clone, Debug)]
pub(crate) struct Uri(pub(crate) String);

/// The name of a cache or spool: it stands in paths and metrics.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Name(pub(crate) String);

impl Config {
    /// Reads, checks and completes a config file.
    pub(crate) fn read(file: &Path) -> Result<Self, Exit> {
        Self::read_raw(file)?.complete().map_err(|exit| exit.at(&file.display().to_string()))
    }

    /// Reads a config file as it is.
    pub(crate) fn read_raw(file: &Path) -> Result<Self, Exit> {
        let failed = |error: std::io::Error| Exit::file(file, &error);
        let refused = |problem| Exit::usage(format!("{}: {problem}", file.display()));
        let mut text = Vec::new();
        // Not asked for its size: a pipe has none before its end.
        let source = std::fs::File::open(file).map_err(failed)?;
        source.take(FILE_BYTES_MAX + 1).read_to_end(&mut text).map_err(failed)?;
        if u64::try_from(text.len()).is_ok_and(|len| len > FILE_BYTES_MAX) {
            return Err(refused("too large for a config"));
        }
        let text = String::from_utf8(text).map_err(|_| refused("not UTF-8 text"))?;
        toml::from_str(&text)
            .map_err(|error| Exit::usage(format!("{}:{}", file.display(), told(&text, &error))))
    }

    /// Says which address could not be opened, whatever is at its place.
    fn check_addresses(&self) -> Result<(), Exit> {
        let check = |field: String, uri: Option<&Uri>, check: Check| match uri {
            Some(uri) => check(&uri.0).map_err(|error| Exit::from(error).in_front(&field)),
            None => Ok(()),
        };
        for (name, cache) in &self.cache {
            check(format!("cache.{}.l1", name.0), cache.l1.as_ref(), check_cache)?;
            check(format!("cache.{}.l2", name.0), cache.l2.as_ref(), check_cache)?;
            check(format!("cache.{}.bus", name.0), cache.bus.as_ref(), check_bus)?;
            check(debts_of(&name.0), cache.debts.as_ref(), check_spool)?;
        }
        for (name, spool) in &self.spool {
            check(format!("spool.{}.l1", name.0), spool.l1.as_ref(), check_spool)?;
        }
        check("consensus.uri".to_owned(), self.consensus.uri.as_ref(), check_consensus)
    }

    /// Names the stores that were left to their defaults.
    pub(crate) fn complete(mut self) -> Result<Self, Exit> {
        if self.limits.bodies < self.limits.body {
            return Err(Exit::usage("limits.bodies: has to be at least as large as limits.body"));
        }
        if let Some((name, _)) = self.spool.iter().find(|(_, spool)| spool.l2.is_some()) {
            let problem = "this release has no tiered spools: leave it out";
            return Err(Exit::usage(format!("spool.{}.l2: {problem}", name.0)));
        }
        for (name, cache) in &self.cache {
            let of_two =
                [("debts", cache.debts.is_some()), ("l1_ttl_max", cache.l1_ttl_max.is_some())];
            if let Some((field, _)) = of_two.iter().find(|(_, set)| *set && cache.l2.is_none()) {
                let problem = "is for a cache of two tiers: add an l2, or leave it out";
                return Err(Exit::usage(format!("cache.{}.{field}: {problem}", name.0)));
            }
            if cache.breaker_pause > cache.breaker_pause_max {
                let problem = "is longer than breaker_pause_max";
                return Err(Exit::usage(format!("cache.{}.breaker_pause: {problem}", name.0)));
            }
        }
        self.check_addresses()?;
        let default = || Name(DEFAULT.to_owned());
        if self.cache.is_empty() {
            self.cache.insert(default(), CacheConfig::default());
        }
        if self.spool.is_empty() {
            self.spool.insert(default(), SpoolConfig::default());
        }
        for cache in self.cache.values_mut() {
            cache.l1.get_or_insert_with(|| Uri("memory:?capacity=256MiB".to_owned()));
        }
        for (name, spool) in &mut self.spool {
            if spool.l1.is_none() {
                let folder = match name.0.as_str() {
                    DEFAULT => "spool".to_owned(),
                    other => format!("spool-{other}"),
                };
                spool.l1 = Some(Uri(log_uri(&self.data.join(folder))?));
            }
        }
        if self.consensus.uri.is_none() {
            self.consensus.uri = Some(Uri(log_uri(&self.data.join("consensus"))?));
        }
        Ok(self)
    }
}

impl Default for Config {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from((Ipv4Addr::LOCALHOST, 7070)),
            data: PathBuf::from("./larder-data"),
            limits: Limits::default(),
            cache: BTreeMap::new(),
            spool: BTreeMap::new(),
            consensus: ConsensusConfig::default(),
        }
    }
}

impl Default for CacheConfig {
    fn default() -> Self {
        let guard = GuardOptions::new();
        Self {
            l1: None,
            l2: None,
            read: AnyReadPolicy::default(),
            write: AnyWritePolicy::default(),
            refill: Refill::default(),
            l1_ttl_max: None,
            compress: AnyCompressor::default(),
            compress_from: None,
            breaker: true,
            breaker_pause: guard.pause,
            breaker_pause_max: guard.pause_max,
            debts: None,
            bus: None,
            bus_staleness: None,
        }
    }
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            body: 64 << 20,
            bodies: 512 << 20,
            connections: 1024,
            head_timeout: Duration::from_secs(30),
            idle_timeout: Duration::from_secs(30),
            drain: Duration::from_secs(10),
        }
    }
}

impl Default for Refill {
    fn default() -> Self {
        Self(RefillPolicy::Always)
    }
}

impl std::str::FromStr for Refill {
    type Err = <RefillPolicy as std::str::FromStr>::Err;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        text.parse().map(Self)
    }
}

impl<'de> Deserialize<'de> for Uri {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        match text.parse::<Address>() {
            Ok(_) => Ok(Self(text)),
            Err(error) => Err(D::Error::custom(error)),
        }
    }
}

impl<'de> Deserialize<'de> for Name {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        if (1..=64).contains(&text.len()) && text.bytes().all(fits) {
            return Ok(Self(text));
        }
        let problem = "a name is 1 to 64 letters, digits, - and _";
        Err(D::Error::custom(format!("{text:?} is no name: {problem}")))
    }
}

fn bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let size = parse_bytes(&text).filter(|size| *size > 0);
    size.ok_or_else(|| D::Error::custom(format!("{text:?} is not a size such as 64MiB")))
}

fn some_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    bytes(deserializer).map(Some)
}

fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    let parsed = humantime::parse_duration(&text).ok();
    let parsed = parsed.filter(|wait| !wait.is_zero() && *wait <= WAIT_MAX);
    parsed.ok_or_else(|| {
        D::Error::custom(format!("{text:?} is not a duration such as 30s, of at most 365days"))
    })
}

fn some_duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
    duration(deserializer).map(Some)
}

fn count<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    match u32::deserialize(deserializer)? {
        number @ 1..=65_536 => Ok(number),
        number => Err(D::Error::custom(format!("{number} is not between 1 and 65536"))),
    }
}

fn policy<'de, D: Deserializer<'de>, P>(deserializer: D) -> Result<P, D::Error>
where
    P: std::str::FromStr<Err: std::fmt::Display>,
{
    String::deserialize(deserializer)?.parse().map_err(D::Error::custom)
}

/// What is wrong with a config: line, field, problem and the nearest name.
fn told(text: &str, error: &toml::de::Error) -> String {
    let start = error.span().map_or(0, |span| span.start).min(text.len());
    let before = text.get(..start).unwrap_or(text);
    let number = before.matches('\n').count() + 1;
    let line = text.lines().nth(number - 1).unwrap_or_default();
    let problem = error.message().replace('\n', " ");
    if let Some(unknown) = problem.strip_prefix("unknown field `") {
        let (field, rest) = unknown.split_once('`').unwrap_or((unknown, ""));
        let known: Vec<&str> = rest.split('`').skip(1).step_by(2).collect();
        let hint = match nearest(field, &known) {
            Some(nearest) => format!("did you mean {nearest}?"),
            None => format!("known are {}", known.join(", ")),
        };
        return format!("{number}: unknown field {field}: {hint}");
    }
    match line.split_once('=') {
        Some((field, _)) if !field.trim().is_empty() => {
            format!("{number}: {}: {problem}", field.trim())
        }
        _ => format!("{number}: {problem}"),
    }
}

/// The candidate that takes the fewest edits, when that is few enough to be a slip.
fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let scored = candidates.iter().map(|candidate| (distance(word, candidate), *candidate));
    let (edits, nearest) = scored.min()?;
    (edits <= 1 + nearest.len() / 3).then_some(nearest)
}

/// Edits between two words: inserted, deleted and replaced characters.
fn distance(from: &str, to: &str) -> usize {
    let to: Vec<char> = to.chars().collect();
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.iter().enumerate() {
            let replaced = diagonal + usize::from(a != *b);
            diagonal = row[j + 1];
            row[j + 1] = replaced.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row.last().copied().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(text: &str) -> String {
        match toml::from_str::<Config>(text) {
            Ok(_) => "valid".to_owned(),
            Err(error) => told(text, &error),
        }
    }

    #[test]
    fn the_empty_config_is_complete() {
        let config = toml::from_str::<Config>("").unwrap().complete().unwrap();
        assert_eq!(config.consensus.uri.unwrap().0, "log:./larder-data/consensus");
        assert_eq!(
            config.spool[&Name("default".into())].l1.as_ref().unwrap().0,
            "log:./larder-data/spool"
        );
        assert_eq!(config.limits.body, 64 << 20);
    }

    #[test]
    fn debts_need_a_second_tier() {
        let complete = |text: &str| toml::from_str::<Config>(text).unwrap().complete();
        let exit = complete("[cache.shop]\ndebts = \"memory:\"").unwrap_err();
        assert!(exit.message().starts_with("cache.shop.debts: "), "{}", exit.message());
        let exit = complete("[cache.shop]\nl2 = \"memory:\"\ndebts = \"redis://x\"").unwrap_err();
        assert!(exit.message().contains("cache.shop.debts"), "{}", exit.message());
        complete("[cache.shop]\nl2 = \"memory:\"\ndebts = \"memory:\"").unwrap();
    }

    #[test]
    fn a_near_maximum_is_a_wait_and_needs_a_second_tier() {
        let text = |value: &str| format!("[cache.shop]\nl2 = \"memory:\"\nl1_ttl_max = {value}");
        let config = toml::from_str::<Config>(&text("\"250ms\"")).unwrap().complete().unwrap();
        let near_max = config.cache[&Name("shop".into())].l1_ttl_max;
        assert_eq!(near_max, Some(Duration::from_millis(250)));
        for value in ["0s", "-1s", "soon", "400days", ""] {
            let wanted = format!("{value:?} is not a duration such as 30s, of at most 365days");
            assert_eq!(problem(&text(&format!("{value:?}"))), format!("3: l1_ttl_max: {wanted}"));
        }
        assert!(problem(&text("5")).starts_with("3: l1_ttl_max: "));
        let alone = toml::from_str::<Config>("[cache.shop]\nl1_ttl_max = \"5s\"").unwrap();
        assert_eq!(
            alone.complete().unwrap_err().message(),
            "cache.shop.l1_ttl_max: is for a cache of two tiers: add an l2, or leave it out"
        );
    }

    #[test]
    fn mistakes_name_the_line_the_field_and_the_nearest_name() {
        let table = [
            ("\n[spol.default]\n", "2: unknown field spol: did you mean spool?"),
            ("[limits]\nbodi = \"1MiB\"", "2: unknown field bodi: did you mean body?"),
            ("[consensus]\nurl = \"memory:\"", "2: unknown field url: did you mean uri?"),
            (
                "[cache.x]\ncompress = \"gzip\"",
                "2: compress: there is no compression \"gzip\" in this build: use one of none, zstd, lz4",
            ),
            (
                "[limits]\nbody = \"64 parsec\"",
                "2: body: \"64 parsec\" is not a size such as 64MiB",
            ),
            ("[limits]\nconnections = 0", "2: connections: 0 is not between 1 and 65536"),
        ];
        for (text, told) in table {
            assert_eq!(problem(text), told);
        }
        assert!(problem("[cache.default]\nread = \"paralel\"").contains("2: read: "));
        assert!(problem("[cache.\"a b\"]\n").contains("is no name"));
        assert!(problem("[consensus]\nuri = \"nothing\"").starts_with("2: uri: "));
        assert!(problem("x").starts_with("1: "));
    }
}
