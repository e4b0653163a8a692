//! etcd as a consensus store.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use futures_util::stream;
use larder_core::consensus::{check_compare_and_set, check_consensus_key, check_seqno};
use larder_core::{
    CaSResult, Consensus, ConsensusError, Determinate, Durability, KeyStream, SeqNo, VersionedData,
};

use super::coalesce::{Bounds, Coalescer, Unanswered};
use crate::address::{Address, AddressError};
use crate::driver::etcd::proto::{MemberListRequest, RangeRequest};
use crate::driver::etcd::{About, Client, Endpoint, Layout, MEMBERS, RANGE, Trouble, Way};
use crate::registry::OpenError;

mod place;
mod txn;

use place::{LAYOUT, Place, seqno};
use txn::{Look, Store, Swap, unread, written};

/// A consensus store in etcd, for any number of processes on any number of machines.
///
/// A compare-and-set is one transaction. Calls that arrive while all places of this process are taken are put
/// together: one transaction of many, one step of the cluster's log and one sync on each member. A call that
/// finds a free place goes alone and at once.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | [`Durability::Machine`] in a cluster of two voting members or more, else [`Durability::Power`] |
/// | consistency | linearizable: each call is one transaction or one read at one revision, agreed on by the cluster |
/// | time limits | `timeout` of the address for each request, waiting included; scans and listings of many pages make several |
/// | limits | `max_payload` of the address for data; 10,000 calls and 64 MiB that wait |
///
/// Refused at open: a release before 3.4, a learner, a member without a leader, corrupt data, keys of another
/// layout. A used-up quota is warned about: reads go on.
///
/// # Errors
/// | what happened | error of a write | retry |
/// |---|---|---|
/// | no connection, in time or at all; a learner; no leader | `Determinate` | `Later` |
/// | no TLS: a certificate that is not to be trusted | `Determinate` | `Never` |
/// | too many calls wait, or its turn did not come in time | `Determinate` | `Later` |
/// | connection lost, or no answer in time, after the request was handed over | `Indeterminate` | `Later` |
/// | the request is larger than the server takes; no right to it | `Determinate` | `Never` |
/// | the quota is used up, and the head is as expected | `Determinate` | `Later` |
/// | the quota is used up, and the head has moved: this may have been the last one | `Indeterminate` | `Later` |
/// | the cluster timed out, lost its leader, or is being shut down | `Indeterminate` | `Later` |
/// | any other code | `Indeterminate` | `Never` |
///
/// What is known of a transaction is known of each call in it. Nothing is ever sent twice;
/// [`resolve`](crate::recipes::resolve) finds out about single calls.
///
/// ```no_run
/// use larder::consensus::EtcdConsensus;
/// use larder::{CaSResult, Consensus, SeqNo, VersionedData};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store = EtcdConsensus::open("etcd://10.0.0.1,10.0.0.2,10.0.0.3/shop").await?;
/// let mine = VersionedData { seqno: SeqNo(1), data: "me".into() };
/// assert_eq!(store.compare_and_set("leader", None, mine).await?, CaSResult::Committed);
/// # Ok(()) }
/// ```
pub struct EtcdConsensus {
    swaps: Coalescer<Swap>,
    looks: Coalescer<Look>,
    durability: Durability,
    payload_bytes_max: u64,
}

/// What an address says.
#[derive(Debug)]
pub(crate) struct Settings {
    endpoint: Endpoint,
    timeout: Duration,
    payload_bytes_max: u64,
}

/// What an address may say besides the servers.
const PARAMETERS: [&str; 5] =
    ["timeout", "max_payload", "ca (with etcds)", "cert (with etcds)", "key (with etcds)"];
/// The largest data that an address may allow: what etcd advises against already.
const SERVER_BYTES_MAX: (u64, &str) = (64 << 20, "a size of at most 64MiB");
/// The most keys that are listed with one request.
const KEYS_MAX: i64 = 1_000;
/// Versions in the first page of a scan, and in any.
const PAGE_FIRST: usize = 64;
const PAGE_MAX: usize = 4_096;
/// What a page should hold: how many versions it has follows from those before.
const PAGE_BYTES: usize = 4 << 20;

/// How much is put together. The server takes 128 operations in a transaction and those inside it, and
/// 1.5 MiB, unless it is told otherwise.
const SWAPS: usize = 120;
const SWAP_BYTES: usize = 1 << 20;
/// Requests on their way at once. More would be smaller ones, and each is a step of the cluster.
const ON_THEIR_WAY: usize = 4;

impl EtcdConsensus {
    /// The time limit of a call, of an address that states none.
    pub const TIMEOUT: Duration = Duration::from_secs(5);
    /// The largest data, of an address that states none: what etcd takes in a request with its defaults,
    /// less 64 KiB for everything else in it.
    pub const PAYLOAD_BYTES_MAX: u64 = (1536 - 64) << 10;

    /// Connects to `etcd://[USER:PASSWORD@]HOST[:PORT][,HOST[:PORT]...][/PREFIX]`, with the parameters
    /// `timeout` (5s) and `max_payload` (1472KiB). `etcds:` (feature `etcd-tls`) is the same over TLS, with `ca` for a
    /// file of authorities, and `cert` and `key` for those of a certificate of ours and its key.
    ///
    /// # Errors
    /// [`OpenError::Address`]. [`OpenError::Unavailable`]: no server there, none that is fit, a certificate that is
    /// not to be trusted, wrong password; its source says whether repeating helps. [`OpenError::Newer`]: another release keeps its
    /// versions there in another way. After at most three seconds for each server.
    ///
    /// # Cancel safety
    /// Dropping the future harms nothing.
    pub async fn open(uri: &str) -> Result<Self, OpenError> {
        Self::at(Self::settings(uri.parse()?)?).await
    }

    pub(crate) fn settings(mut address: Address) -> Result<Settings, AddressError> {
        let endpoint = Endpoint::take(&mut address)?;
        let timeout = address.take_timeout(Self::TIMEOUT)?;
        let payload_bytes_max = address.take_bytes_max("max_payload", SERVER_BYTES_MAX)?;
        let payload_bytes_max = payload_bytes_max.unwrap_or(Self::PAYLOAD_BYTES_MAX);
        address.finish(&PARAMETERS)?;
        Ok(Settings { endpoint, timeout, payload_bytes_max })
    }

    pub(crate) async fn at(settings: Settings) -> Result<Self, OpenError> {
        let (timeout, payload_bytes_max) = (settings.timeout, settings.payload_bytes_max);
        let shown = settings.endpoint.to_string();
        let store = Arc::new(Store::open(settings).await?);
        let durability = durability(&store.client).await;
        let durability = durability.map_err(|trouble| OpenError::Unavailable {
            place: shown,
            source: trouble.in_read("open"),
        })?;
        let bounds = Bounds {
            statements: ON_THEIR_WAY,
            eager: ON_THEIR_WAY,
            jobs: SWAPS,
            bytes: SWAP_BYTES,
            waiting: 10_000,
            waiting_bytes: 64 << 20,
            limit: timeout,
        };
        Ok(Self {
            swaps: Coalescer::new(Arc::clone(&store), bounds),
            looks: Coalescer::new(store, bounds),
            durability,
            payload_bytes_max,
        })
    }

    /// Removes all keys of the store, its layout included.
    pub(crate) async fn drop_prefix(settings: Settings) -> Result<(), OpenError> {
        let shown = settings.endpoint.to_string();
        let store = Store::open(settings).await?;
        txn::clear(&store).await.map_err(|trouble| OpenError::Unavailable {
            place: shown,
            source: trouble.in_write("drop the prefix"),
        })
    }

    /// Waits until the head of a key has moved past `seen`, or nobody can tell any more.
    async fn heard(&self, key: &str, seen: Option<SeqNo>) -> Result<(), ConsensusError> {
        let Store { client, place } = &**self.store();
        let unheard = |trouble| unread(trouble, "changed");
        let mut watch = client.watch(place.head(key)).await.map_err(unheard)?;
        // What came before the watch is not told.
        while self.head(key).await?.map(|head| head.seqno) <= seen {
            while !watch.heard().await.map_err(unheard)? {}
        }
        Ok(())
    }

    fn store(&self) -> &Arc<Store> {
        self.swaps.tools()
    }
}

impl Store {
    async fn open(settings: Settings) -> Result<Self, OpenError> {
        let Settings { endpoint, timeout, .. } = settings;
        let place = Place::new(endpoint.prefix());
        let layout = Layout { key: place.layout(), number: LAYOUT };
        let client = Client::new(Way { endpoint, layout }, timeout);
        client.open().await?;
        Ok(Self { client, place })
    }
}

/// What a commit survives: it is synced on most of the voting members.
async fn durability(client: &Client) -> Result<Durability, Trouble> {
    let members = match client.ask(MEMBERS, MemberListRequest {}).await {
        Ok(answer) => answer.members,
        // Whoever may not ask is promised less.
        Err(trouble) if trouble.about() == About::OneOfMany => Vec::new(),
        Err(trouble) => return Err(trouble),
    };
    let voting = members.iter().filter(|member| !member.is_learner).count();
    Ok(if voting > 1 { Durability::Machine } else { Durability::Power })
}

impl Consensus for EtcdConsensus {
    /// Reads page by page: keys that are made meanwhile may or may not come.
    fn list_keys(&self) -> KeyStream {
        let store = Arc::clone(self.store());
        let pages = stream::try_unfold(Some(String::new()), move |after| {
            let store = Arc::clone(&store);
            async move {
                let Some(after) = after else { return Ok::<_, ConsensusError>(None) };
                let page = page_of_keys(&store, &after).await;
                let (keys, more) = page.map_err(|trouble| unread(trouble, "list_keys"))?;
                let next = keys.last().filter(|_| more).cloned();
                Ok(Some((stream::iter(keys.into_iter().map(Ok)), next)))
            }
        });
        KeyStream::new(futures_util::TryStreamExt::try_flatten(pages))
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        let looked = self.looks.submit(Look(key.into())).await;
        looked.unwrap_or_else(|why| match why {
            Unanswered::Full => Err(FULL.into()),
            // It changes nothing, however far it came.
            Unanswered::NotBegun | Unanswered::Begun => Err(LATE.into()),
        })
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        check_compare_and_set(key, expected, &new)?;
        let bytes = u64::try_from(new.data.len()).unwrap_or(u64::MAX);
        if bytes > self.payload_bytes_max {
            let bytes_max = self.payload_bytes_max;
            return Err(Determinate::TooLarge { bytes, bytes_max }.into());
        }
        let swapped = self.swaps.submit(Swap { key: key.into(), expected, new }).await;
        swapped.unwrap_or_else(|why| match why {
            Unanswered::Full => Err(FULL.into()),
            Unanswered::NotBegun => Err(LATE.into()),
            Unanswered::Begun => Err(written(self.store().client.late(), "compare_and_set")),
        })
    }

    /// Page by page, all at the revision of the first.
    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(from)?;
        for _ in 0..SCANS {
            match slice(self.store(), key, from, limit).await {
                // What was compacted cannot be read to its end: again, at a newer revision.
                Err(trouble) if trouble.about() == About::Compacted => {}
                slice => return slice.map_err(|trouble| unread(trouble, "scan")),
            }
        }
        Err(COMPACTED.into())
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        check_consensus_key(key)?;
        check_seqno(seqno)?;
        txn::truncate(self.store(), key, seqno).await
    }

    /// By a watch of the server: another process is heard of as well. While there is no connection nothing
    /// is heard; whoever connects again looks first.
    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        if check_consensus_key(key).is_err() {
            return std::future::pending().await;
        }
        loop {
            if self.heard(key, seen).await.is_ok() {
                return;
            }
            tokio::time::sleep(REST).await;
        }
    }

    fn durability(&self) -> Durability {
        self.durability
    }
}

const FULL: Determinate = Determinate::Unavailable { reason: "too many calls are waiting" };
const LATE: Determinate = Determinate::Unavailable { reason: "its turn did not come in time" };
const COMPACTED: Determinate =
    Determinate::Unavailable { reason: "history is compacted faster than it can be read" };
/// How long whoever waits for changes rests when there is no connection.
const REST: Duration = Duration::from_millis(200);
/// How often a scan begins again.
const SCANS: usize = 3;

/// Reads versions at one revision.
async fn slice(
    store: &Store,
    key: &str,
    from: SeqNo,
    limit: usize,
) -> Result<Vec<VersionedData>, Trouble> {
    let (mut versions, mut revision) = (Vec::new(), 0);
    let (mut next, mut page, mut bytes) = (from, PAGE_FIRST, 0);
    while versions.len() < limit {
        let (key, range_end) = store.place.versions_from(key, next);
        let count = page.min(limit - versions.len());
        let request = RangeRequest {
            key,
            range_end,
            limit: i64::try_from(count).unwrap_or(i64::MAX),
            revision,
            keys_only: false,
        };
        let answer = store.client.ask(RANGE, request).await?;
        revision = answer.header.ok_or(Trouble::Odd { what: "no revision" })?.revision;
        for found in answer.kvs {
            let seqno = seqno(&found.key).ok_or(Trouble::Odd { what: "a version of no number" })?;
            next = SeqNo(seqno.0 + 1);
            bytes += found.value.len() + 1;
            versions.push(VersionedData { seqno, data: found.value });
        }
        if !answer.more {
            break;
        }
        page = (PAGE_BYTES / (bytes / versions.len().max(1)).max(1)).clamp(1, PAGE_MAX);
    }
    Ok(versions)
}

/// The keys after one, in order, and whether there are more.
async fn page_of_keys(store: &Store, after: &str) -> Result<(Vec<String>, bool), Trouble> {
    let (key, range_end) = store.place.heads_after(after);
    let request = RangeRequest {
        key,
        range_end,
        limit: KEYS_MAX,
        keys_only: true,
        ..RangeRequest::default()
    };
    let answer = store.client.ask(RANGE, request).await?;
    let keys = answer.kvs.iter().map(|found| store.place.key(&found.key));
    let keys = keys.collect::<Option<_>>().ok_or(Trouble::Odd { what: "a head of no key" })?;
    Ok((keys, answer.more))
}

impl fmt::Debug for EtcdConsensus {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EtcdConsensus")
            .field("swaps", &self.swaps)
            .field("durability", &self.durability)
            .finish_non_exhaustive()
    }
}
