//! A bucket of an object store as a consensus store.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures_util::{TryStreamExt as _, stream};
use larder_core::consensus::{check_compare_and_set, check_consensus_key, check_seqno};
use larder_core::{
    CaSResult, Clock as _, Consensus, ConsensusError, Determinate, Durability, KeyStream, SeqNo,
    SystemClock, VersionedData,
};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout_at;

use crate::address::{Address, AddressError};
use crate::driver::object::{Endpoint, Store, Trouble};
use crate::registry::OpenError;

mod name;
mod open;
mod record;
mod rewrite;

use name::Meant;
use record::Record;
use rewrite::{Pause, State, Step, read, rewrite, unread};

/// A consensus store in a bucket of S3, or of a store that speaks its protocol and does what S3 does with
/// conditional PUTs, for any number of processes on any number of machines.
///
/// Each key is one object with all its live versions (docs/format/s3-object-v1.md), replaced as a whole by a PUT that
/// names the state it replaces. So every change costs a GET and a PUT of all that the key holds: for state that is
/// small and changes a few times a second, and with nothing to run.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | [`Durability::Machine`] at Amazon; [`Durability::Power`] at an endpoint that the address or the environment names, which has to keep that promise |
/// | consistency | linearizable, where reads see what was written before and conditional PUTs are atomic, as at Amazon |
/// | atomicity | one PUT for each change |
/// | time limits | `timeout` of the address for each call, waiting included |
/// | limits | `max_object` of the address for all live versions of a key; `connections` calls at once, 10,000 that wait |
///
/// Opening tries the store with an object of its own, and refuses one that carries out a conditional PUT which it has
/// to refuse, alone or in a race. Nobody else may delete or restore objects there: rules that expire or
/// roll back objects break the promise that nothing comes back.
///
/// # Errors
/// | what happened | error of a write | retry |
/// |---|---|---|
/// | no connection; no credentials | `Determinate` | `Later` |
/// | no TLS: a certificate that is not to be trusted | `Determinate` | `Never` |
/// | too many calls wait, or its turn did not come in time | `Determinate` | `Later` |
/// | the versions of the key would be more than `max_object` | `Determinate`: truncate it | `Later` |
/// | 429, 400 RequestTimeout, until the end of its time | `Determinate` | `Later` |
/// | 3xx, 4xx: login, rights, names | `Determinate` | `Never` |
/// | no answer, 5xx, or 404, 409 and 412 that nobody explains, and reading does not tell in time either | `Indeterminate` | `Later` |
/// | others wrote 64 times before reading could tell | `Indeterminate` | `Later` |
/// | any other answer | `Indeterminate` | `Never` |
///
/// A PUT without an answer is settled by reading the object: it names its last 64 writers. So an `Indeterminate` is
/// left only where the store stays away, or where so many others wrote. [`resolve`](crate::recipes::resolve) finds out later.
///
/// ```no_run
/// use larder::consensus::ObjectConsensus;
/// use larder::{CaSResult, Consensus, SeqNo, VersionedData};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = ObjectConsensus::open("s3://bucket/state?region=eu-central-1").await?;
/// let mine = VersionedData { seqno: SeqNo(1), data: "me".into() };
/// assert_eq!(store.compare_and_set("leader", None, mine).await?, CaSResult::Committed);
/// # Ok(()) }
/// ```
pub struct ObjectConsensus {
    store: Arc<Store>,
    places: Semaphore,
    waiting: AtomicUsize,
    timeout: Duration,
    object_bytes_max: u64,
}

/// What an address says.
#[derive(Debug)]
pub(crate) struct Settings {
    endpoint: Endpoint,
    timeout: Duration,
    connections: usize,
    object_bytes_max: u64,
}

/// What an address may say besides bucket and prefix.
const PARAMETERS: [&str; 6] = ["endpoint", "region", "ca", "timeout", "connections", "max_object"];
/// How many calls may wait.
const WAITING_MAX: usize = 10_000;
/// So many requests fit into the time of a call: one that hangs leaves time to find out.
const REQUESTS: u32 = 3;

impl ObjectConsensus {
    /// The time limit of a call, of an address that states none.
    pub const TIMEOUT: Duration = Duration::from_secs(10);
    /// The most calls at once, of an address that states none.
    pub const CONNECTIONS: usize = 64;
    /// The largest object, of an address that states none: 16 MiB.
    pub const OBJECT_BYTES_MAX: u64 = 16 << 20;

    /// Opens `s3://[KEY:SECRET@]BUCKET[/PREFIX]`, with the parameters `endpoint` and `region` (the environment's, or
    /// Amazon's), `ca` (a file), `timeout` (10s), `connections` (64) and `max_object` (16MiB). Without keys in the
    /// address, those of the `AWS_*` variables, or of the machine's role.
    ///
    /// # Errors
    /// [`OpenError::Address`]. [`OpenError::Unavailable`]: no store there, wrong credentials, no such bucket, or a
    /// store that does not honour conditional PUTs; its source says whether repeating helps.
    /// [`OpenError::Newer`], [`OpenError::OtherContract`]: another release, or something else, keeps objects
    /// there. After at most twenty seconds.
    ///
    /// # Cancel safety
    /// Dropping the future harms nothing; an object below `probes/` may stay.
    pub async fn open(uri: &str) -> Result<Self, OpenError> {
        Self::at(Self::settings(uri.parse()?)?).await
    }

    pub(crate) fn settings(mut address: Address) -> Result<Settings, AddressError> {
        let bad = |name: &str, value: String, expected| AddressError::BadValue {
            name: name.into(),
            value,
            expected,
        };
        let endpoint = Endpoint::take(&mut address)?;
        let timeout = address.take_duration("timeout")?.unwrap_or(Self::TIMEOUT);
        if timeout < Duration::from_millis(30) || timeout > Duration::from_hours(1) {
            return Err(bad("timeout", format!("{timeout:?}"), "between 30ms and 1h"));
        }
        let connections = match address.take_count("connections")? {
            None => Self::CONNECTIONS,
            Some(count) if count <= 1_000 => usize::try_from(count).unwrap_or(Self::CONNECTIONS),
            Some(count) => return Err(bad("connections", count.to_string(), "at most 1000")),
        };
        let most = (512 << 20, "a size of at most 512MiB");
        let object_bytes_max = address.take_bytes_max("max_object", most)?;
        let object_bytes_max = object_bytes_max.unwrap_or(Self::OBJECT_BYTES_MAX);
        address.finish(&PARAMETERS)?;
        Ok(Settings { endpoint, timeout, connections, object_bytes_max })
    }

    pub(crate) async fn at(settings: Settings) -> Result<Self, OpenError> {
        let Settings { endpoint, timeout, connections, object_bytes_max } = settings;
        let store = open::store(endpoint, timeout / REQUESTS).await?;
        open::check(&store).await?;
        Ok(Self {
            store: Arc::new(store),
            places: Semaphore::new(connections),
            waiting: AtomicUsize::new(0),
            timeout,
            object_bytes_max,
        })
    }

    /// Removes all objects below the prefix of an address, those of others as well.
    pub(crate) async fn drop_prefix(settings: Settings) -> Result<(), OpenError> {
        let Settings { endpoint, timeout, .. } = settings;
        if !endpoint.has_prefix() {
            let problem = "has to name a prefix: a whole bucket is not removed";
            return Err(AddressError::BadPlace { scheme: "s3".into(), problem }.into());
        }
        let store = open::store(endpoint, timeout / REQUESTS).await?;
        let failed = |trouble: Trouble| OpenError::Unavailable {
            place: store.place(),
            source: trouble.in_write("clear"),
        };
        loop {
            let until = SystemClock.instant() + timeout;
            let page = store.list("", None, until).await.map_err(failed)?;
            for name in &page.names {
                store.delete(name, SystemClock.instant() + timeout).await.map_err(failed)?;
            }
            if page.names.is_empty() {
                return Ok(());
            }
        }
    }

    /// When a call that begins now has to end.
    fn until(&self) -> Instant {
        SystemClock.instant() + self.timeout
    }

    /// Waits until one more call may run.
    async fn place(&self, until: Instant) -> Result<SemaphorePermit<'_>, ConsensusError> {
        let waits = Waits::begin(&self.waiting).ok_or(FULL)?;
        let place = timeout_at(tokio::time::Instant::from_std(until), self.places.acquire()).await;
        drop(waits);
        // The semaphore is never closed.
        Ok(place.map_err(|_| LATE)?.map_err(|_| LATE)?)
    }

    async fn read(
        &self,
        operation: &'static str,
        key: &str,
    ) -> Result<Option<State>, ConsensusError> {
        let until = self.until();
        let _place = self.place(until).await?;
        read(&self.store, key, until).await.map_err(|trouble| unread(trouble, operation))
    }
}

const FULL: Determinate = Determinate::Unavailable { reason: "too many calls are waiting" };
const LATE: Determinate = Determinate::Unavailable { reason: "its turn did not come in time" };
const LONG: Determinate = Determinate::Unavailable {
    reason: "the object of the key holds as many versions as it may: truncate the key",
};

/// One more call that waits.
struct Waits<'a>(&'a AtomicUsize);

impl<'a> Waits<'a> {
    fn begin(waiting: &'a AtomicUsize) -> Option<Self> {
        let waits = Self(waiting);
        (waiting.fetch_add(1, Ordering::AcqRel) < WAITING_MAX).then_some(waits)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::AcqRel);
    }
}

impl Consensus for ObjectConsensus {
    /// Reads page by page: keys that are made meanwhile may or may not come. The name of a long key is read
    /// from its object.
    fn list_keys(&self) -> KeyStream {
        let (store, timeout) = (Arc::clone(&self.store), self.timeout);
        let pages = stream::try_unfold(Some(None), move |from: Option<Option<String>>| {
            let store = Arc::clone(&store);
            async move {
                let Some(from) = from else { return Ok::<_, ConsensusError>(None) };
                let until = SystemClock.instant() + timeout;
                let (names, next) = page(&store, from, until).await?;
                let keys = stream::iter(names.into_iter().map(Ok)).and_then(move |name| {
                    let store = Arc::clone(&store);
                    async move { key(&store, name, timeout).await }
                });
                Ok(Some((keys, next.map(Some))))
            }
        });
        KeyStream::new(pages.try_flatten())
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        let state = self.read("head", key).await?;
        Ok(state.and_then(|state| state.record.versions.into_iter().next_back()))
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        check_compare_and_set(key, expected, &new)?;
        let alone = Record::new(key, new.clone()).bytes();
        if alone > self.object_bytes_max {
            let bytes = u64::try_from(new.data.len()).unwrap_or(u64::MAX);
            let bytes_max = self.object_bytes_max.saturating_sub(alone.saturating_sub(bytes));
            return Err(Determinate::TooLarge { bytes, bytes_max }.into());
        }
        let until = self.until();
        let _place = self.place(until).await?;
        rewrite(&self.store, "compare_and_set", key, until, |record| {
            let current = record.and_then(Record::head);
            if current != expected {
                return Ok(Step::Answer(CaSResult::ExpectationMismatch { current }));
            }
            let record = match record {
                None => Record::new(key, new.clone()),
                Some(record) => record.with(new.clone()),
            };
            if record.bytes() > self.object_bytes_max {
                return Err(LONG.into());
            }
            Ok(Step::Replace(record, CaSResult::Committed))
        })
        .await
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(from)?;
        let Some(state) = self.read("scan", key).await? else { return Ok(Vec::new()) };
        let versions = state.record.versions.into_iter();
        Ok(versions.filter(|version| version.seqno >= from).take(limit).collect())
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(seqno)?;
        let until = self.until();
        let _place = self.place(until).await?;
        rewrite(&self.store, "truncate", key, until, |record| {
            let record = record.ok_or(Determinate::NoSuchKey)?;
            let head = record.head().ok_or(Determinate::NoSuchKey)?;
            if seqno > head {
                return Err(Determinate::AboveHead { seqno, head }.into());
            }
            let (record, deleted) = record.without_those_below(seqno);
            Ok(if deleted == 0 { Step::Answer(0) } else { Step::Replace(record, deleted) })
        })
        .await
    }

    fn durability(&self) -> Durability {
        if self.store.is_aws() { Durability::Machine } else { Durability::Power }
    }
}

/// The names of some objects of keys, and how to go on; again when that failed for what passes.
async fn page(
    store: &Store,
    from: Option<String>,
    until: Instant,
) -> Result<(Vec<String>, Option<String>), ConsensusError> {
    let mut pause = Pause::new();
    loop {
        match store.list(name::KEYS, from.clone(), until).await {
            Ok(page) => return Ok((page.names, page.next)),
            Err(trouble) => {
                let goes_on = trouble.retry() == larder_core::Retry::Later;
                if !goes_on || !pause.take(until).await {
                    return Err(unread(trouble, "list_keys"));
                }
            }
        }
    }
}

/// The key that an object is named for.
async fn key(store: &Store, name: String, timeout: Duration) -> Result<String, ConsensusError> {
    let odd = |what| unread(Trouble::Damaged { what }, "list_keys");
    match name::meaning(&name) {
        Meant::Key(key) => Ok(key),
        Meant::Nothing => Err(odd("its name is not that of a key")),
        Meant::Hashed => {
            let until = SystemClock.instant() + timeout;
            let named = rewrite::read_named(store, &name, until).await;
            let state = named.map_err(|trouble| unread(trouble, "list_keys"))?;
            let key = state.map(|state| state.record.key);
            key.filter(|key| name::of(key) == name).ok_or_else(|| odd("it is that of another key"))
        }
    }
}

impl fmt::Debug for ObjectConsensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ObjectConsensus")
            .field("place", &self.store.place())
            .field("durability", &self.durability())
            .finish_non_exhaustive()
    }
}
