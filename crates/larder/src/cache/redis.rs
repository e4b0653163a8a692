//! A Redis server as a cache tier.

use std::fmt;
use std::time::Duration;

use bytes::Bytes;
use larder_core::{
    Age, CacheError, CacheValue, Condition, Conditions, DeleteStatus, Durability, Effect, Found,
    Key, KeyRef, Now, RepairListener, SharedClock, Source, Tier, TierStats, TierUsage, WriteStatus,
};
use metrics::{Counter, counter};
use redis::Value;
use tokio::time::timeout;

use super::head;
use crate::address::AddressError;
use crate::driver::redis::{Link, Place, Trouble};
use crate::registry::OpenError;

mod builder;
mod change;

pub use builder::RedisCacheBuilder;
use change::{Change, Done, SCRIPT_CODE, Then};

/// A cache in a Redis server: a far tier that several processes share.
///
/// It holds bytes; put an [`Encoded`](super::Encoded) over it for typed values. All calls share one
/// connection, which is opened again when it ends. Calls for many keys are one round trip.
///
/// The life and the version of a value stand in the entry itself, so one `GET` brings everything to
/// full precision. The server is told the life that is left, in milliseconds, only so that it frees
/// the memory: whether a value has expired is decided here, and a server whose clock is wrong
/// shortens or prolongs nothing.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability | [`Durability::Process`]: the server may keep it for longer, and does not promise to |
/// | conditions | all, each decided in one step, by a script |
/// | precision of times | one nanosecond |
/// | largest value | `max_value` of the address; a larger one is [`CacheError::TooLarge`], and what was stored stays |
/// | time limit | `timeout` of the address for each call, connecting and waiting included; [`Tier::clear`]: [`RedisCache::CLEAR_MAX`] |
///
/// Two caches with different `namespace`s on one server do not meet. A remove leaves nothing behind:
/// a conditional write that comes after it finds nothing stored, however old it is.
///
/// # Errors
/// All are [`CacheError::Backend`], with a text that has neither keys nor values nor the password.
///
/// | what happened | effect of a write | retry |
/// |---|---|---|
/// | no connection, in time or at all | `NotApplied` | `Later` |
/// | no TLS: a certificate that is not to be trusted | `NotApplied` | `Never` |
/// | connection lost, or no answer in time, after the command was handed over | `Unknown` | `Later` |
/// | `LOADING` `BUSY` `READONLY` `MASTERDOWN` `OOM` `MISCONF` `NOREPLICAS` `CLUSTERDOWN` `TRYAGAIN` | `NotApplied` | `Later` |
/// | `NOAUTH` `WRONGPASS` `NOPERM` `DENIED` `MOVED` `ASK` `CROSSSLOT` `WRONGTYPE` `ERR` | `NotApplied` | `Never` |
/// | any other answer | `Unknown` | `Never` |
///
/// After a time limit the connection is kept, so that a late write does not land over one that is
/// made later on it; it is given up when nothing at all was answered for three time limits.
///
/// Counters: `larder_cache_unread_records_total` (labels `tier`, `reason`=`foreign`: what another
/// program or release wrote there, which is a miss and is left alone),
/// `larder_cache_too_large_total` (label `tier`) and `larder_redis_connects_total`.
///
/// ```no_run
/// use larder::cache::RedisCache;
/// use larder_core::{CacheValue, Condition, KeyRef, Tier};
/// use bytes::Bytes;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let far = RedisCache::open("redis://127.0.0.1:6379/0?namespace=shop&timeout=100ms").await?;
/// let key = KeyRef::new("greeting")?;
/// far.write(key, CacheValue::new(Bytes::from("hello")), Condition::Always).await?;
/// assert_eq!(far.read(key).await?.map(|found| found.value.data), Some(Bytes::from("hello")));
/// # Ok(()) }
/// ```
pub struct RedisCache {
    label: String,
    clock: SharedClock,
    link: Link,
    /// `namespace:`
    prefix: String,
    value_bytes_max: u64,
    foreign: Counter,
    too_large: Counter,
}

impl RedisCache {
    /// How long a clear may take in all; each of its steps has the time limit of a call.
    pub const CLEAR_MAX: Duration = Duration::from_mins(1);

    /// Connects to `redis://[[USER]:PASSWORD@]HOST[:PORT][/DB]`, with the parameters `namespace`,
    /// `timeout` and `max_value`; see [`RedisCacheBuilder`] for what they are without. `rediss:` (feature
    /// `redis-tls`) is the same over TLS, with `ca` for a file of authorities.
    ///
    /// # Errors
    /// [`OpenError::Address`], and those of [`RedisCacheBuilder::open`].
    ///
    /// # Cancel safety
    /// As [`RedisCacheBuilder::open`].
    pub async fn open(uri: &str) -> Result<Self, OpenError> {
        Self::builder(uri)?.open().await
    }

    /// The cache at `uri`, to be refined.
    ///
    /// # Errors
    /// [`AddressError`] when the address makes no sense; nothing was done.
    pub fn builder(uri: &str) -> Result<RedisCacheBuilder, AddressError> {
        RedisCacheBuilder::of(uri.parse()?)
    }

    fn over(link: Link, prefix: String, settings: RedisCacheBuilder) -> Self {
        let RedisCacheBuilder { label, clock, value_bytes_max, .. } = settings;
        let foreign = counter!("larder_cache_unread_records_total", "tier" => label.clone(), "reason" => "foreign");
        let too_large = counter!("larder_cache_too_large_total", "tier" => label.clone());
        Self { label, clock, link, prefix, value_bytes_max, foreign, too_large }
    }

    fn place<'a>(&'a self, key: KeyRef<'a>) -> Place<'a> {
        Place { prefix: &self.prefix, key: key.as_str() }
    }

    /// What the server has under a key, as a value that is not expired.
    fn found(&self, answer: Value) -> Result<Option<Found<Bytes>>, Trouble> {
        let bytes = match answer {
            Value::Nil => return Ok(None),
            Value::BulkString(bytes) => bytes,
            _ => return Err(Trouble::Odd { what: "a value that is no string" }),
        };
        let Some(life) = head::parse(&bytes) else {
            self.foreign.increment(1);
            return Ok(None);
        };
        // Not copied: what the driver received is what the caller holds.
        let value = life.map(|()| Bytes::from(bytes).slice(head::HEAD_LEN..));
        Ok((value.age(&*self.clock) != Age::Expired).then(|| Found::here(value)))
    }

    async fn find(&self, key: KeyRef<'_>) -> Result<Option<Found<Bytes>>, Trouble> {
        match self.link.get(self.place(key)).await {
            // Something else than a string is there.
            Err(trouble) if trouble.is("WRONGTYPE") => {
                self.foreign.increment(1);
                Ok(None)
            }
            answer => self.found(answer?),
        }
    }

    async fn find_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Found<Bytes>>>, Trouble> {
        let mut get = redis::cmd("MGET");
        for key in keys {
            get.arg(self.place(*key));
        }
        match self.link.call(&get).await? {
            Value::Array(answers) if answers.len() == keys.len() => {
                answers.into_iter().map(|answer| self.found(answer)).collect()
            }
            _ => Err(Trouble::Odd { what: "not as many values as keys" }),
        }
    }

    /// What is to become of `key` when `value` is written.
    fn change<'a>(
        &self,
        key: KeyRef<'a>,
        value: &'a CacheValue<Bytes>,
        condition: Condition,
    ) -> Result<Change<'a>, CacheError> {
        let now = self.clock.now();
        let then = if value.age_at(now) == Age::Expired {
            Then::Remove
        } else {
            let bytes = u64::try_from(value.data.len()).unwrap_or(u64::MAX);
            if bytes > self.value_bytes_max {
                self.too_large.increment(1);
                return Err(CacheError::TooLarge { bytes, bytes_max: self.value_bytes_max });
            }
            Then::write(value, now)
        };
        Ok(Change { key, condition, now, then })
    }

    fn removal<'a>(&self, key: KeyRef<'a>, condition: Condition) -> Change<'a> {
        Change { key, condition, now: self.clock.now(), then: Then::Remove }
    }

    /// Makes changes in one round trip, or in two if the server has forgotten the script.
    async fn apply(&self, changes: &[Change<'_>]) -> Result<Vec<Result<Done, Trouble>>, Trouble> {
        if changes.is_empty() {
            return Ok(Vec::new());
        }
        let commands = changes.iter().map(|change| change.command(self.place(change.key)));
        let answers = self.link.call_many(commands).await?;
        let mut done: Vec<_> =
            answers.into_iter().map(|answer| answer.and_then(|answer| Done::of(&answer))).collect();
        let forgotten: Vec<usize> = (0..done.len())
            .filter(|at| matches!(&done[*at], Err(trouble) if trouble.is("NOSCRIPT")))
            .collect();
        if forgotten.is_empty() {
            return Ok(done);
        }
        let mut load = redis::cmd("SCRIPT");
        load.arg("LOAD").arg(SCRIPT_CODE);
        let again = forgotten.iter().map(|at| changes[*at].command(self.place(changes[*at].key)));
        let answers = self.link.call_many(std::iter::once(load).chain(again)).await?;
        let mut answers = answers.into_iter();
        // Why it could not be loaded is told by the calls that still do not find it.
        let loaded = answers.next();
        for (at, answer) in forgotten.into_iter().zip(answers) {
            done[at] = match (answer.and_then(|answer| Done::of(&answer)), &loaded) {
                (Err(trouble), Some(Err(why))) if trouble.is("NOSCRIPT") => Err(why.clone()),
                (answer, _) => answer,
            };
        }
        Ok(done)
    }

    async fn apply_one(&self, change: Change<'_>) -> Result<Done, Trouble> {
        let mut done = self.apply(&[change]).await?;
        done.pop().unwrap_or(Err(Trouble::Odd { what: "no answer" }))
    }

    /// Removes what the server has of this namespace, in steps that each look at a part of its keys.
    async fn sweep(&self) -> Result<(), Trouble> {
        /// How many keys the server looks at in a step: well below a millisecond.
        const STEP: usize = 1_000;
        let pattern = format!("{}*", self.prefix);
        let mut cursor = b"0".to_vec();
        loop {
            let mut scan = redis::cmd("SCAN");
            scan.arg(&cursor).arg("MATCH").arg(&pattern).arg("COUNT").arg(STEP);
            let odd = Trouble::Odd { what: "no step of a scan" };
            let Value::Array(answer) = self.link.call(&scan).await? else { return Err(odd) };
            let Ok([Value::BulkString(next), Value::Array(keys)]) = <[Value; 2]>::try_from(answer)
            else {
                return Err(odd);
            };
            if !keys.is_empty() {
                let mut unlink = redis::cmd("UNLINK");
                for key in keys {
                    let Value::BulkString(key) = key else { return Err(odd) };
                    unlink.arg(key);
                }
                self.link.call(&unlink).await?;
            }
            if next == b"0" {
                return Ok(());
            }
            cursor = next;
        }
    }
}

impl Tier<Bytes> for RedisCache {
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<Bytes>>, CacheError> {
        Ok(self.find(key).await.map_err(|trouble| trouble.in_read("read"))?)
    }

    /// The server has to be asked, so there is no answer without waiting.
    fn read_now(&self, _: KeyRef<'_>) -> Now<Bytes> {
        Now::Ask
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<Bytes>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        let done = self.apply_one(self.change(key, &value, condition)?).await;
        Ok(done.map_err(|trouble| trouble.in_write("write"))?.written())
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        let done = self.apply_one(self.removal(key, condition)).await;
        Ok(done.map_err(|trouble| trouble.in_write("remove"))?.removed())
    }

    async fn read_many(
        &self,
        keys: &[KeyRef<'_>],
    ) -> Result<Vec<Option<Found<Bytes>>>, CacheError> {
        if keys.is_empty() {
            return Ok(Vec::new());
        }
        Ok(self.find_many(keys).await.map_err(|trouble| trouble.in_read("read"))?)
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<Bytes>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let mut changes = Vec::with_capacity(entries.len());
        let mut refused = None;
        for (at, (key, value)) in entries.iter().enumerate() {
            match self.change(key.as_ref(), value, condition) {
                Ok(change) => changes.push(change),
                // The others are written before the first error is told.
                Err(error) => refused = refused.or(Some((at, error))),
            }
        }
        let done = self.apply(&changes).await.map_err(|trouble| trouble.in_write("write"))?;
        let failed = done.iter().position(Result::is_err);
        match refused {
            // Those in front of it are all in `done`, at the same places.
            Some((at, error)) if failed.is_none_or(|failed| at <= failed) => Err(error),
            _ => all(done, "write", Done::written),
        }
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        let changes: Vec<_> = keys.iter().map(|key| self.removal(*key, condition)).collect();
        let done = self.apply(&changes).await.map_err(|trouble| trouble.in_write("remove"))?;
        all(done, "remove", Done::removed)
    }

    /// Removes what this namespace holds, step by step: what is written meanwhile may stay or go.
    ///
    /// The server looks at all its keys, those of others included.
    async fn clear(&self) -> Result<(), CacheError> {
        let limit = Self::CLEAR_MAX;
        let place = || self.link.endpoint().to_string();
        let swept = timeout(limit, self.sweep()).await;
        let swept = swept.unwrap_or_else(|_| Err(Trouble::Late { place: place(), limit }));
        Ok(swept.map_err(|trouble| trouble.in_write("clear").effect_is(Effect::Unknown))?)
    }

    /// The server is shared: there is nothing of this process alone.
    async fn forget(&self, _: KeyRef<'_>, _: Condition) -> Result<(), CacheError> {
        Ok(())
    }

    async fn forget_all(&self) -> Result<(), CacheError> {
        Ok(())
    }

    fn label(&self) -> &str {
        &self.label
    }

    fn describe(&self, _: Source) -> String {
        self.label.clone()
    }

    fn conditions(&self) -> Conditions {
        Conditions::ALL
    }

    fn durability(&self) -> Durability {
        Durability::Process
    }

    /// Only the server knows, and it is shared.
    fn usage(&self) -> Option<TierUsage> {
        None
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        vec![TierStats::new(self.label.clone(), None)]
    }

    fn on_repair(&self, _: &RepairListener) {}
}

/// What became of many changes, or the first trouble.
fn all<T>(
    done: Vec<Result<Done, Trouble>>,
    operation: &'static str,
    told: fn(Done) -> T,
) -> Result<Vec<T>, CacheError> {
    let each = done.into_iter().map(|done| done.map(told));
    Ok(each.collect::<Result<_, _>>().map_err(|trouble| trouble.in_write(operation))?)
}

impl fmt::Debug for RedisCache {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("RedisCache")
            .field("label", &self.label)
            .field("endpoint", self.link.endpoint())
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}
