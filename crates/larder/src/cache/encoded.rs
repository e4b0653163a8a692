//! Typed values over a store of bytes.

use std::fmt;
use std::ops::Deref;
use std::sync::Arc;

use bytes::Bytes;
use larder_core::{
    Age, BackendError, BoxError, CacheError, CacheValue, Condition, Conditions, DeleteStatus,
    Durability, Effect, Found, Key, KeyRef, Now, RepairListener, SharedClock, Source, SystemClock,
    Tier, TierStats, TierUsage, WriteStatus,
};
use metrics::{Counter, counter};

mod aside;
mod codec;
mod compressor;
mod record;
mod schema;

use aside::{LONG_FROM, aside};

#[cfg(feature = "json")]
pub use codec::JsonCodec;
#[cfg(feature = "postcard")]
pub use codec::PostcardCodec;
pub use codec::{Codec, RawCodec};
#[cfg(feature = "lz4")]
pub use compressor::Lz4Compressor;
#[cfg(feature = "zstd")]
pub use compressor::ZstdCompressor;
pub use compressor::{AnyCompressor, Compressor, NoCompression, UnknownCompressor};
use record::{Form, Record, Unreadable};
use schema::Place;
pub use schema::{NAMESPACE_BYTES_MAX, Schema, SchemaError};

/// A tier of values over a tier of bytes: every value is a self-describing, checksummed record.
///
/// The record carries the life and the version of the value to full precision, so a store that
/// keeps seconds only, or no versions, loses none of it. See `docs/format/cache-record-v1.md`.
///
/// - A record whose checksum fails is a miss, is counted, and is removed if it still is that record
///   (when the store can decide that in one step).
/// - A record of another layout, codec or type, or of a compressor that this build does not have, is
///   a miss and is left alone: the other version of a program that is being deployed may need it.
/// - A payload is compressed from [`Encoded::COMPRESS_FROM`] bytes on, and stays as it is when that
///   does not make it smaller. What a cache with another compressor wrote is read all the same, if
///   it is one of larder's that this build has. From [`Encoded::ASIDE_FROM`] bytes on that is done on the
///   blocking pool of the runtime, a payload for each processor at a time, while other tasks go on.
/// - A record is never an error to the caller, whatever its bytes are.
///
/// # Guarantees
/// Durability and conditions are those of the store below. Times keep one nanosecond. A payload is
/// at most [`Encoded::PAYLOAD_BYTES_MAX`] bytes before compression; a record that unpacks to more is
/// not unpacked, and is a miss.
///
/// Counters, with the label `tier`: `larder_cache_damaged_records_total` and, with the label
/// `reason` (`foreign`, `form`, `key`, `undecodable`), `larder_cache_unread_records_total`.
///
/// ```
/// use larder::cache::{Encoded, MemoryCache, NoCompression, RawCodec, Schema};
/// use larder_core::{CacheValue, Condition, KeyRef, Tier};
/// use bytes::Bytes;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let store: MemoryCache<Bytes> = MemoryCache::builder(1 << 20).build();
/// let schema = Schema::new("shop", "page", 1)?;
/// let pages = Encoded::new(store, RawCodec, NoCompression, schema);
/// let key = KeyRef::new("front")?;
/// pages.write(key, CacheValue::new(Bytes::from("<h1>")), Condition::Always).await?;
/// assert_eq!(pages.read(key).await?.map(|found| found.value.data), Some(Bytes::from("<h1>")));
/// # Ok(()) }
/// ```
pub struct Encoded<B, C, Z> {
    store: B,
    codec: C,
    compressor: Arc<Z>,
    compress_from: usize,
    schema: Schema,
    clock: SharedClock,
    damaged: Counter,
    unread: UnreadCounters,
}

struct UnreadCounters {
    foreign: Counter,
    form: Counter,
    key: Counter,
    undecodable: Counter,
}

impl<B, C, Z> Encoded<B, C, Z> {
    /// The largest payload before compression, in bytes.
    pub const PAYLOAD_BYTES_MAX: usize = PAYLOAD_BYTES_MAX;

    /// The smallest payload that is compressed, unless another one is set: 1 KiB.
    pub const COMPRESS_FROM: usize = 1 << 10;

    /// The smallest payload, before compression, that is compressed and decompressed beside the task that
    /// wants it: 256 KiB, which take Zstandard a third of a millisecond.
    pub const ASIDE_FROM: usize = LONG_FROM;

    /// The same tier, compressing payloads of `bytes` and more.
    #[must_use]
    pub const fn compress_from(mut self, bytes: usize) -> Self {
        self.compress_from = bytes;
        self
    }

    /// The same tier with another judge of expiry. Default: the system clock.
    #[must_use]
    pub fn with_clock(mut self, clock: SharedClock) -> Self {
        self.clock = clock;
        self
    }
}

impl<B: Tier<Bytes>, C, Z> Encoded<B, C, Z> {
    /// A tier over `store` whose records belong to `schema`.
    pub fn new(store: B, codec: C, compressor: Z, schema: Schema) -> Self {
        let tier = store.label().to_owned();
        let unread = |reason: &'static str| counter!("larder_cache_unread_records_total", "tier" => tier.clone(), "reason" => reason);
        let unread = UnreadCounters {
            foreign: unread("foreign"),
            form: unread("form"),
            key: unread("key"),
            undecodable: unread("undecodable"),
        };
        let damaged = counter!("larder_cache_damaged_records_total", "tier" => tier);
        Self {
            store,
            codec,
            compressor: Arc::new(compressor),
            compress_from: Self::COMPRESS_FROM,
            schema,
            clock: SystemClock::shared(),
            damaged,
            unread,
        }
    }
}

impl<B: Tier<Bytes>, C, Z: Compressor> Encoded<B, C, Z> {
    async fn encode<V>(
        &self,
        key: KeyRef<'_>,
        place: &Place,
        value: &CacheValue<V>,
    ) -> Result<CacheValue<Bytes>, CacheError>
    where
        V: Sync,
        C: Codec<V>,
    {
        let named = place.digested.then_some(key.as_str());
        let form = Form {
            codec: self.codec.id(),
            compression: NoCompression::ID,
            fingerprint: self.schema.fingerprint(),
        };
        let mut record = record::begin(form, value, named);
        let from = record.len();
        let refused = |source| BackendError::new("encoded", "encode", source);
        self.codec
            .encode(&value.data, &mut record)
            .map_err(|source| refused(source).effect_is(Effect::NotApplied))?;
        let payload = record.len().saturating_sub(from);
        if payload > Self::PAYLOAD_BYTES_MAX {
            let [bytes, bytes_max] = [payload, Self::PAYLOAD_BYTES_MAX]
                .map(|len| u64::try_from(len).unwrap_or(u64::MAX));
            return Err(CacheError::TooLarge { bytes, bytes_max });
        }
        if payload >= self.compress_from && self.compressor.id() != NoCompression::ID {
            let compressor = Arc::clone(&self.compressor);
            let packed = aside(payload, move || pack(&*compressor, record, from)).await;
            record = packed.map_err(|source| refused(source).effect_is(Effect::NotApplied))?;
        }
        record::seal(&mut record);
        Ok(CacheValue {
            data: Bytes::from(record),
            expire: value.expire,
            stale: value.stale,
            version: value.version,
        })
    }

    /// The payload that was packed by the compressor with the number `id`; `None` if there is none.
    async fn unpack(&self, packed: Bytes, id: u16) -> Option<Result<Bytes, BoxError>> {
        if id == self.compressor.id() {
            let own = Arc::clone(&self.compressor);
            return Some(unpack(own, packed).await);
        }
        Some(unpack(compressor::built_in(id)?, packed).await)
    }

    /// The value in a record; a record that is not one is a miss.
    async fn decode<V>(
        &self,
        key: KeyRef<'_>,
        stored: &Bytes,
    ) -> Result<Option<CacheValue<V>>, Damaged>
    where
        C: Codec<V>,
    {
        let Record { form, value, key: named } = match record::parse(stored) {
            Ok(record) => record,
            Err(Unreadable::Damaged) => return Err(Damaged),
            Err(Unreadable::Foreign) => return Ok(self.unread(&self.unread.foreign)),
        };
        if (form.codec, form.fingerprint) != (self.codec.id(), self.schema.fingerprint()) {
            return Ok(self.unread(&self.unread.form));
        }
        if named.is_some_and(|named| named != key.as_str()) {
            return Ok(self.unread(&self.unread.key));
        }
        if value.age(&*self.clock) == Age::Expired {
            return Ok(None);
        }
        let Some(plain) = self.unpack(value.data.clone(), form.compression).await else {
            return Ok(self.unread(&self.unread.form));
        };
        match plain.and_then(|plain| self.codec.decode(plain)) {
            Ok(data) => Ok(Some(value.map(|_| data))),
            Err(_) => Ok(self.unread(&self.unread.undecodable)),
        }
    }

    fn unread<T>(&self, counter: &Counter) -> Option<T> {
        counter.increment(1);
        tracing::debug!(target: "larder::cache", tier = self.store.label(), "a record was not read");
        None
    }

    /// What the store answered, as a value. A damaged record is removed on the way.
    async fn open<V>(
        &self,
        key: KeyRef<'_>,
        place: KeyRef<'_>,
        found: Option<Found<Bytes>>,
    ) -> Option<Found<V>>
    where
        C: Codec<V>,
    {
        let Found { value: stored, source } = found?;
        if let Ok(value) = self.decode(key, &stored.data).await {
            return Some(Found { value: value?, source });
        }
        self.damaged.increment(1);
        tracing::warn!(
            target: "larder::cache",
            tier = self.store.label(),
            bytes = stored.data.len(),
            "a damaged record was dropped"
        );
        let still_that = Condition::IfVersionIs(stored.version);
        if self.store.conditions().supports(still_that) {
            // It is a miss either way; when this fails the next read tries again.
            drop(self.store.remove(place, still_that).await);
        }
        None
    }
}

/// The record, which is plain, with its payload compressed, what is from `from` on; as it is if that is not
/// smaller.
fn pack(compressor: &dyn Compressor, record: Vec<u8>, from: usize) -> Result<Vec<u8>, BoxError> {
    let (head, plain) = record.split_at(from);
    let mut packed = head.to_vec();
    record::compressed_by(&mut packed, compressor.id());
    compressor.compress(plain, &mut packed)?;
    packed.shrink_to_fit();
    Ok(if packed.len() < record.len() { packed } else { record })
}

/// A payload as it was before it was packed.
async fn unpack(
    compressor: impl Deref<Target: Compressor> + Send + 'static,
    packed: Bytes,
) -> Result<Bytes, BoxError> {
    // One that does not say how long it is may be long.
    let bytes = compressor.plain_bytes(&packed).unwrap_or(u64::MAX);
    let bytes = usize::try_from(bytes).unwrap_or(usize::MAX);
    aside(bytes, move || compressor.decompress(packed, PAYLOAD_BYTES_MAX)).await
}

const PAYLOAD_BYTES_MAX: usize = 64 << 20;

/// A record is not as it was written.
struct Damaged;

impl<V, B, C, Z> Tier<V> for Encoded<B, C, Z>
where
    V: Send + Sync + 'static,
    B: Tier<Bytes>,
    C: Codec<V>,
    Z: Compressor,
{
    async fn read(&self, key: KeyRef<'_>) -> Result<Option<Found<V>>, CacheError> {
        let place = self.schema.place(key).key;
        let found = self.store.read(place.as_ref()).await?;
        Ok(self.open(key, place.as_ref(), found).await)
    }

    /// Decoding allocates, so there is no answer without waiting.
    fn read_now(&self, _: KeyRef<'_>) -> Now<V> {
        Now::Ask
    }

    async fn write(
        &self,
        key: KeyRef<'_>,
        value: CacheValue<V>,
        condition: Condition,
    ) -> Result<WriteStatus, CacheError> {
        let place = self.schema.place(key);
        let record = self.encode(key, &place, &value).await?;
        self.store.write(place.key.as_ref(), record, condition).await
    }

    async fn remove(
        &self,
        key: KeyRef<'_>,
        condition: Condition,
    ) -> Result<DeleteStatus, CacheError> {
        self.store.remove(self.schema.place(key).key.as_ref(), condition).await
    }

    async fn read_many(&self, keys: &[KeyRef<'_>]) -> Result<Vec<Option<Found<V>>>, CacheError> {
        let places: Vec<Key> = keys.iter().map(|key| self.schema.place(*key).key).collect();
        let borrowed: Vec<KeyRef<'_>> = places.iter().map(Key::as_ref).collect();
        let found = self.store.read_many(&borrowed).await?;
        let mut opened = Vec::with_capacity(keys.len());
        for ((key, place), found) in keys.iter().zip(borrowed).zip(found) {
            opened.push(self.open(*key, place, found).await);
        }
        Ok(opened)
    }

    async fn write_many(
        &self,
        entries: Vec<(Key, CacheValue<V>)>,
        condition: Condition,
    ) -> Result<Vec<WriteStatus>, CacheError> {
        let mut records = Vec::with_capacity(entries.len());
        for (key, value) in entries {
            let place = self.schema.place(key.as_ref());
            let record = self.encode(key.as_ref(), &place, &value).await?;
            records.push((place.key, record));
        }
        self.store.write_many(records, condition).await
    }

    async fn remove_many(
        &self,
        keys: &[KeyRef<'_>],
        condition: Condition,
    ) -> Result<Vec<DeleteStatus>, CacheError> {
        let places: Vec<Key> = keys.iter().map(|key| self.schema.place(*key).key).collect();
        let borrowed: Vec<KeyRef<'_>> = places.iter().map(Key::as_ref).collect();
        self.store.remove_many(&borrowed, condition).await
    }

    /// Clears the whole store, the records of other schemas included.
    async fn clear(&self) -> Result<(), CacheError> {
        self.store.clear().await
    }

    async fn forget(&self, key: KeyRef<'_>, condition: Condition) -> Result<(), CacheError> {
        self.store.forget(self.schema.place(key).key.as_ref(), condition).await
    }

    /// Forgets the whole store, the records of other schemas included.
    async fn forget_all(&self) -> Result<(), CacheError> {
        self.store.forget_all().await
    }

    fn label(&self) -> &str {
        self.store.label()
    }

    fn describe(&self, source: Source) -> String {
        self.store.describe(source)
    }

    fn conditions(&self) -> Conditions {
        self.store.conditions()
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }

    fn usage(&self) -> Option<TierUsage> {
        self.store.usage()
    }

    fn tier_stats(&self) -> Vec<TierStats> {
        self.store.tier_stats()
    }

    fn on_repair(&self, listener: &RepairListener) {
        self.store.on_repair(listener);
    }
}

impl<B: fmt::Debug, C: fmt::Debug, Z: fmt::Debug> fmt::Debug for Encoded<B, C, Z> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Encoded")
            .field("store", &self.store)
            .field("codec", &self.codec)
            .field("compressor", &self.compressor)
            .field("compress_from", &self.compress_from)
            .field("schema", &self.schema)
            .finish_non_exhaustive()
    }
}
