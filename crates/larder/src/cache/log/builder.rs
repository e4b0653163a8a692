//! From an address to a cache on disk.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use larder_core::{BackendError, BoxError, Effect, SharedClock, SystemClock};
use larder_log::{Log, LogOptions};
use metrics::counter;
use rapidhash::v3::RapidSecrets;

use super::LogCache;
use super::marks::Marks;
use super::record;
use super::room::{Bounds, Room};
use super::store::{Counts, Store};
use super::title::Title;
use super::turns::Turns;
use crate::address::{Address, AddressError};
use crate::driver::log as driver;
use crate::registry::OpenError;

/// The settings of a [`LogCache`].
#[derive(Clone, Debug)]
pub struct LogCacheBuilder {
    path: PathBuf,
    bounds: Bounds,
    timeout: Duration,
    label: String,
    clock: SharedClock,
    boot_id: Option<[u8; 16]>,
}

/// What an address may say besides the folder.
const PARAMETERS: [&str; 3] = ["capacity", "max_entries", "timeout"];

/// What syncs cost nobody: nothing is promised to survive the machine.
const SYNC_INTERVAL: Duration = Duration::from_secs(1);

impl LogCacheBuilder {
    /// The capacity of an address that states none: 1 GiB.
    pub const CAPACITY: u64 = 1 << 30;
    /// The least capacity: 1 MiB.
    pub const CAPACITY_MIN: u64 = Bounds::CAPACITY_MIN;
    /// The time limit of a call, of an address that states none.
    pub const TIMEOUT: Duration = Duration::from_secs(1);
    const TIMEOUT_MAX: Duration = Duration::from_hours(1);

    /// A cache in the folder `path`, with the defaults of an address.
    pub fn at(path: impl Into<PathBuf>) -> Self {
        Self {
            path: path.into(),
            bounds: Bounds::of(Self::CAPACITY, None),
            timeout: Self::TIMEOUT,
            label: String::from("log"),
            clock: SystemClock::shared(),
            boot_id: driver::boot_id(),
        }
    }

    pub(crate) fn of(mut address: Address) -> Result<Self, AddressError> {
        if address.place().is_empty() {
            let problem = "has to name a folder, as in log:./cache";
            return Err(AddressError::BadPlace { scheme: "log".into(), problem });
        }
        let path = PathBuf::from(address.place());
        let bad = |name: &str, value: String, expected| AddressError::BadValue {
            name: name.into(),
            value,
            expected,
        };
        let capacity = address.take_bytes("capacity")?.unwrap_or(Self::CAPACITY);
        if capacity < Self::CAPACITY_MIN {
            return Err(bad("capacity", capacity.to_string(), "1MiB or more"));
        }
        let entries_max = address.take_count("max_entries")?;
        let timeout = address.take_duration("timeout")?.unwrap_or(Self::TIMEOUT);
        if timeout.is_zero() || timeout > Self::TIMEOUT_MAX {
            return Err(bad("timeout", format!("{timeout:?}"), "between 1us and 1h"));
        }
        address.finish(&PARAMETERS)?;
        Ok(Self { bounds: Bounds::of(capacity, entries_max), timeout, ..Self::at(path) })
    }

    /// The name in metrics and source paths. Default: `log`.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = label.into();
        self
    }

    /// What decides about expiry. Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }

    /// What tells this run of the machine from all others; `None`: nobody knows, and whatever was not
    /// closed is forgotten at the next open. Default: what the system says (Linux does, others do not).
    #[must_use]
    pub fn boot_id(mut self, id: Option<[u8; 16]>) -> Self {
        self.boot_id = id;
        self
    }

    /// The time limit of every call.
    pub(crate) const fn call_limit(&self) -> Duration {
        self.timeout
    }

    /// The folder.
    pub fn folder(&self) -> &Path {
        &self.path
    }

    /// The settings that the engine has under such a cache, for [`LogCacheBuilder::open_on`].
    pub fn log_options(&self) -> LogOptions {
        let segment = self.bounds.segment_bytes();
        LogOptions {
            segment_bytes: segment,
            // A file that waits would take room that entries could have.
            recycle_bytes: 0,
            budget_bytes: segment,
            max_payload_bytes: segment,
            sync_interval: SYNC_INTERVAL,
            // The order of segments is the order of writes, and what is dead goes with the oldest.
            auto_compact: false,
            // Damage is a miss, found by whoever reads it.
            scrub_bytes_per_second: 0,
            ..LogOptions::default()
        }
    }

    /// Opens the cache in its folder, creating it if it is missing; blocks while it reads.
    ///
    /// # Errors
    /// [`OpenError::Locked`] when it is open elsewhere, [`OpenError::OtherContract`] when a spool or a
    /// consensus store is in the folder: nothing was changed. Others: the entries may be gone.
    pub fn open(self) -> Result<LogCache, OpenError> {
        let own = [driver::CACHE, driver::CACHE_TITLE];
        let log = driver::open(&self.path, self.log_options(), &own)?;
        self.open_on(log)
    }

    /// [`LogCacheBuilder::open`] on a log that is open already, on whatever disk.
    ///
    /// # Errors
    /// [`OpenError::Unavailable`] when what must not be believed could not be given up.
    pub fn open_on(self, log: Log) -> Result<LogCache, OpenError> {
        let opened = self.take_over(&log);
        let title = opened.map_err(|error| self.unavailable(error))?;
        let of = |name: &'static str| counter!(name, "tier" => self.label.clone());
        let counts = Counts {
            evictions: of("larder_cache_evictions_total"),
            expired: of("larder_cache_expired_total"),
            too_large: of("larder_cache_too_large_total"),
            damaged: counter!(
                "larder_cache_unread_records_total",
                "tier" => self.label.clone(), "reason" => "damaged"
            ),
        };
        let store = Store {
            log,
            title,
            secrets: title.seeds.map(RapidSecrets::seed),
            turns: Turns::new(),
            marks: Marks::new(self.bounds.entries_max),
            room: Room::new(self.bounds),
            reads: driver::Reads::default(),
            timeout: self.timeout,
            value_bytes_max: self.value_bytes_max(),
            clock: Arc::clone(&self.clock),
            counts,
        };
        LogCache::over(Arc::new(store), self.label.clone())
            .map_err(|error| self.unavailable(error.into()))
    }

    /// The largest value: with the longest key it fills a segment by half.
    fn value_bytes_max(&self) -> u64 {
        let key = larder_core::key::KEY_BYTES_MAX;
        let overhead = u64::try_from(record::OVERHEAD + key).unwrap_or(u64::MAX);
        self.bounds.segment_bytes() / 2 - overhead
    }

    /// Gives up what may not be the newest, and says whose the log is from now on.
    ///
    /// Closed in order, or written to by a process that died while the machine went on: nothing is
    /// missing. Otherwise the power may have taken removes and replacements along that nobody can name,
    /// and so may files that are damaged as a whole: everything is forgotten.
    fn take_over(&self, log: &Log) -> Result<Title, BoxError> {
        let recovery = log.recovery();
        let known = Title::read(log).filter(|title| {
            recovery.structural == 0 && (recovery.clean || title.is_of(self.boot_id))
        });
        let title = match known {
            Some(title) if title.is_of(self.boot_id) => return Ok(title),
            Some(title) => title.in_run(self.boot_id),
            None => {
                let gone = log.forget_all()?;
                log.acknowledge()?;
                if gone.entries > 0 {
                    let (folder, entries) = (self.path.display(), gone.entries);
                    tracing::warn!(%folder, entries, "a cache on disk was not closed: it starts empty");
                }
                Title::new(self.boot_id)
            }
        };
        title.write(log)?;
        Ok(title)
    }

    fn unavailable(&self, error: BoxError) -> OpenError {
        let source = BackendError::new(driver::BACKEND, "open", error);
        let source = source.effect_is(Effect::NotApplied);
        OpenError::Unavailable { place: self.path.display().to_string(), source }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn builder(text: &str) -> Result<LogCacheBuilder, AddressError> {
        LogCacheBuilder::of(text.parse()?)
    }

    #[test]
    fn an_address_says_folder_bounds_and_limit() {
        let built = builder("log:./c?capacity=64MiB&max_entries=9&timeout=50ms").unwrap();
        assert_eq!(built.folder(), Path::new("./c"));
        assert_eq!(built.bounds, Bounds::of(64 << 20, Some(9)));
        assert_eq!(built.timeout, Duration::from_millis(50));
        assert_eq!(built.log_options().segment_bytes, 2 << 20);
        let built = builder("log:./c").unwrap();
        assert_eq!(built.bounds, Bounds { capacity: 1 << 30, entries_max: 1 << 20 });
    }

    #[test]
    fn what_an_address_cannot_say_is_refused() {
        for bad in ["capacity=1KiB", "max_entries=0", "timeout=0s", "timeout=2h", "segment=1MiB"] {
            assert!(builder(&format!("log:./c?{bad}")).is_err(), "{bad}");
        }
        assert!(builder("log:").is_err());
    }
}
