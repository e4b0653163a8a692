//! Compressors: what they keep, what they refuse, and who reads what.

use std::future::Future;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::sync::{Arc, Mutex};
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use futures_util::FutureExt as _;
use larder::cache::{AnyCompressor, Compressor, Encoded, MemoryCache, RawCodec, Schema};
use larder_core::{BoxError, CacheValue, Condition, Key, SharedTier, Tier};
use proptest::prelude::*;

use crate::scripted::{data, key};

type Packed<Z> = Encoded<SharedTier<Bytes>, RawCodec, Z>;

/// Where a record keeps the number of its compressor, its checksum and its payload.
const COMPRESSION: usize = 10;
const CHECKSUM: usize = 12;
const PAYLOAD: usize = 56;

fn schema() -> Schema {
    Schema::new("shop", "page", 1).unwrap()
}

fn place() -> Key {
    Key::new(format!("shop:{:016x}:=k", schema().fingerprint()).as_str()).unwrap()
}

fn store() -> SharedTier<Bytes> {
    SharedTier::new(MemoryCache::builder(512 << 20).build())
}

fn over<Z: Compressor>(store: &SharedTier<Bytes>, compressor: Z) -> Packed<Z> {
    Encoded::new(store.clone(), RawCodec, compressor, schema())
}

fn all() -> Vec<AnyCompressor> {
    ["none", "zstd", "lz4"].iter().filter_map(|word| word.parse().ok()).collect()
}

fn packing() -> Vec<AnyCompressor> {
    all().into_iter().filter(|compressor| *compressor != AnyCompressor::None).collect()
}

fn text(len: usize) -> Bytes {
    b"the same words over and over, ".iter().copied().cycle().take(len).collect()
}

/// Bytes that nothing makes smaller.
fn noise(len: usize) -> Bytes {
    let mut state = 7_u64;
    let mut next = || {
        state =
            state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        state.to_be_bytes()[0]
    };
    (0..len).map(|_| next()).collect()
}

async fn put<Z: Compressor>(tier: &Packed<Z>, data: Bytes) {
    tier.write(key("k"), CacheValue::new(data), Condition::Always).await.unwrap();
}

async fn record(store: &SharedTier<Bytes>) -> Bytes {
    store.read(place().as_ref()).await.unwrap().unwrap().value.data
}

/// Replaces payload and compressor of the record, and puts its checksum right.
async fn forge(store: &SharedTier<Bytes>, compression: u16, payload: &[u8]) {
    let mut forged = record(store).await[..PAYLOAD].to_vec();
    forged[COMPRESSION..CHECKSUM].copy_from_slice(&compression.to_le_bytes());
    forged.extend_from_slice(payload);
    let crc = crc32c::crc32c_append(crc32c::crc32c(&forged[..CHECKSUM]), &forged[CHECKSUM + 4..]);
    forged[CHECKSUM..CHECKSUM + 4].copy_from_slice(&crc.to_le_bytes());
    let value = CacheValue::new(Bytes::from(forged));
    store.write(place().as_ref(), value, Condition::Always).await.unwrap();
}

fn pack(compressor: &dyn Compressor, plain: &[u8]) -> Vec<u8> {
    let mut packed = Vec::new();
    compressor.compress(plain, &mut packed).unwrap();
    packed
}

#[test]
fn a_compressor_is_named_by_a_word() {
    for compressor in all() {
        assert_eq!(compressor.as_str().parse(), Ok(compressor));
    }
    let error = "gzip".parse::<AnyCompressor>().unwrap_err().to_string();
    assert!(error.contains("\"gzip\"") && error.contains("none"), "{error}");
}

#[tokio::test]
async fn a_payload_comes_back_and_takes_less_room() {
    for compressor in packing() {
        for len in [1 << 10, 100_000, 4 << 20] {
            let store = store();
            let tier = over(&store, compressor);
            put(&tier, text(len)).await;
            let stored = record(&store).await;
            assert!(stored.len() < PAYLOAD + len / 4, "{compressor:?} {len}: {}", stored.len());
            assert_eq!(stored[COMPRESSION..CHECKSUM], compressor.id().to_le_bytes());
            assert_eq!(data(&tier, "k").await, Some(text(len)), "{compressor:?} {len}");
        }
    }
}

#[tokio::test]
async fn what_is_small_or_does_not_shrink_stays_as_it_is() {
    for compressor in packing() {
        for plain in [Bytes::new(), text((1 << 10) - 1), noise(100_000)] {
            let store = store();
            let tier = over(&store, compressor);
            put(&tier, plain.clone()).await;
            let stored = record(&store).await;
            assert_eq!(stored[COMPRESSION..CHECKSUM], [0, 0], "{compressor:?}");
            assert_eq!(stored.slice(PAYLOAD..), plain, "{compressor:?}");
            assert_eq!(data(&tier, "k").await, Some(plain), "{compressor:?}");
        }
        // The limit is a setting.
        let store = store();
        let tier = over(&store, compressor).compress_from(100);
        put(&tier, text(100)).await;
        assert!(record(&store).await.len() < PAYLOAD + 100, "{compressor:?}");
    }
}

#[tokio::test]
async fn every_cache_reads_what_every_other_one_compressed() {
    for writer in all() {
        for reader in all() {
            let store = store();
            put(&over(&store, writer), text(5_000)).await;
            let read = data(&over(&store, reader), "k").await;
            assert_eq!(read, Some(text(5_000)), "{writer:?} read by {reader:?}");
        }
    }
}

/// An application's own.
#[derive(Debug)]
struct Reversed;

impl Compressor for Reversed {
    fn id(&self) -> u16 {
        300
    }

    fn compress(&self, plain: &[u8], into: &mut Vec<u8>) -> Result<(), BoxError> {
        into.extend(plain.iter().rev().skip(1));
        Ok(())
    }

    fn plain_bytes(&self, packed: &[u8]) -> Option<u64> {
        u64::try_from(packed.len() + 1).ok()
    }

    fn decompress(&self, packed: Bytes, _: usize) -> Result<Bytes, BoxError> {
        Ok(packed.iter().rev().copied().chain([b' ']).collect())
    }
}

#[tokio::test]
async fn the_record_of_a_compressor_that_is_not_known_is_a_miss_and_stays() {
    let store = store();
    let own = over(&store, Reversed).compress_from(0);
    put(&own, Bytes::from("payload ")).await;
    let stored = record(&store).await;
    for compressor in all() {
        assert_eq!(data(&over(&store, compressor), "k").await, None);
    }
    assert_eq!(record(&store).await, stored);
    assert_eq!(data(&own, "k").await, Some(Bytes::from("payload ")));
}

#[tokio::test]
async fn a_record_that_unpacks_to_more_than_is_allowed_is_a_miss_and_stays() {
    let most = Packed::<AnyCompressor>::PAYLOAD_BYTES_MAX;
    for compressor in packing() {
        let store = store();
        let tier = over(&store, compressor);
        put(&tier, text(10)).await;
        forge(&store, compressor.id(), &pack(&compressor, &vec![0; most])).await;
        assert_eq!(data(&tier, "k").await.map(|plain| plain.len()), Some(most), "{compressor:?}");
        forge(&store, compressor.id(), &pack(&compressor, &vec![0; most + 1])).await;
        let stored = record(&store).await;
        assert!(stored.len() < 1 << 20, "a bomb is small: {}", stored.len());
        assert_eq!(data(&tier, "k").await, None, "{compressor:?}");
        assert_eq!(record(&store).await, stored);
    }
}

#[cfg(feature = "lz4")]
#[test]
fn a_length_that_a_block_cannot_have_is_refused_before_it_is_allocated() {
    let claims = |len: u32, block: &[u8]| Bytes::from([&len.to_le_bytes(), block].concat());
    let most = usize::try_from(u32::MAX).unwrap();
    let block = pack(&larder::cache::Lz4Compressor, b"payload").split_off(4);
    for (len, block) in [(u32::MAX, &block[..]), (u32::MAX, &[]), (255 * 9, &block)] {
        let refused = larder::cache::Lz4Compressor.decompress(claims(len, block), most);
        assert!(refused.is_err(), "{len}");
    }
    let plain = larder::cache::Lz4Compressor.decompress(claims(7, &block), most).unwrap();
    assert_eq!(plain, "payload");
}

#[cfg(feature = "zstd")]
#[test]
fn a_frame_that_claims_too_much_or_no_length_at_all_is_refused() {
    use larder::cache::ZstdCompressor;

    // A single segment with a content size of eight bytes, and one block that repeats a byte.
    let claims = |len: u64| {
        let head = [&[0x28, 0xb5, 0x2f, 0xfd, 0xe0][..], &len.to_le_bytes()].concat();
        Bytes::from([&head[..], &[0x23, 0, 0, b'x']].concat())
    };
    let compressor = ZstdCompressor::new();
    assert_eq!(compressor.decompress(claims(4), 64).unwrap(), "xxxx");
    for len in [5, 65, 1 << 40, u64::MAX] {
        assert!(compressor.decompress(claims(len), 64).is_err(), "{len}");
    }
    // A window in place of a size.
    let unsized_frame = Bytes::from(vec![0x28, 0xb5, 0x2f, 0xfd, 0, 0x58, 0x23, 0, 0, b'x']);
    assert!(compressor.decompress(unsized_frame, 64).is_err());
}

#[cfg(feature = "zstd")]
#[test]
fn levels_beyond_the_ends_are_the_nearest_and_all_read_each_other() {
    use larder::cache::ZstdCompressor;

    let plain = text(10_000);
    for level in [i32::MIN, 0, 1, 3, 19, i32::MAX] {
        let packed = pack(&ZstdCompressor::new().level(level), &plain);
        let read = ZstdCompressor::new().decompress(Bytes::from(packed), 10_000).unwrap();
        assert_eq!(read, plain, "{level}");
    }
}

proptest! {
    #[test]
    fn whatever_is_packed_comes_back_from_any_address(plain: Vec<u8>, times in 1..200_usize) {
        let plain = plain.repeat(times);
        for compressor in all() {
            let packed = pack(&compressor, &plain);
            // The trait says it: what was there stays, and its length is no matter.
            let mut behind = vec![9; 3];
            compressor.compress(&plain, &mut behind).unwrap();
            prop_assert_eq!(&behind[..3], [9; 3]);
            let odd = Bytes::from(behind).slice(3..);
            for packed in [Bytes::from(packed), odd] {
                prop_assert_eq!(&compressor.decompress(packed, plain.len()).unwrap(), &plain);
            }
        }
    }

    #[test]
    fn bad_bytes_are_an_error_or_no_more_than_allowed_and_never_a_panic(
        plain in proptest::collection::vec(0..4_u8, 0..2_000),
        garbage: Vec<u8>,
        at: prop::sample::Index,
        bit in 0..8_u8,
        most in 0..4_000_usize,
    ) {
        for compressor in packing() {
            let good = pack(&compressor, &plain);
            let mut flipped = good.clone();
            flipped[at.index(good.len())] ^= 1 << bit;
            let cut = good[..at.index(good.len())].to_vec();
            prop_assert!(compressor.decompress(Bytes::from(cut.clone()), most).is_err());
            let grown = [&good[..], &garbage].concat();
            for bad in [flipped, cut, grown, garbage.clone(), good] {
                if let Ok(plain) = compressor.decompress(Bytes::from(bad), most) {
                    prop_assert!(plain.len() <= most);
                }
            }
        }
    }
}

/// Neither call ends before another task was here.
#[derive(Debug)]
struct Gated {
    passes: Mutex<Receiver<()>>,
    at_a_time: Arc<AtomicUsize>,
    most: Arc<AtomicUsize>,
}

impl Gated {
    fn new() -> (Self, Sender<()>) {
        let (pass, passes) = channel();
        let passes = Mutex::new(passes);
        (Self { passes, at_a_time: Arc::default(), most: Arc::default() }, pass)
    }

    fn enter(&self) -> Result<(), BoxError> {
        let inside = self.at_a_time.fetch_add(1, Ordering::SeqCst) + 1;
        self.most.fetch_max(inside, Ordering::SeqCst);
        // Whoever is held up by this would never let it go on.
        let passed = self.passes.lock().unwrap().recv_timeout(Duration::from_secs(20));
        self.at_a_time.fetch_sub(1, Ordering::SeqCst);
        Ok(passed?)
    }
}

impl Compressor for Gated {
    fn id(&self) -> u16 {
        301
    }

    fn compress(&self, plain: &[u8], into: &mut Vec<u8>) -> Result<(), BoxError> {
        self.enter()?;
        into.extend_from_slice(&u64::try_from(plain.len())?.to_le_bytes());
        Ok(())
    }

    /// It says nothing of long ones.
    fn plain_bytes(&self, packed: &[u8]) -> Option<u64> {
        packed.first_chunk().map(|len| u64::from_le_bytes(*len)).filter(|len| *len < 1 << 20)
    }

    fn decompress(&self, packed: Bytes, _: usize) -> Result<Bytes, BoxError> {
        self.enter()?;
        let len = packed.first_chunk().map(|len| u64::from_le_bytes(*len)).unwrap_or_default();
        Ok(text(usize::try_from(len)?))
    }
}

#[tokio::test(flavor = "current_thread")]
async fn another_task_is_answered_while_a_long_payload_is_compressed_and_decompressed() {
    let aside_from = Packed::<AnyCompressor>::ASIDE_FROM;
    for len in [aside_from, 64 << 20] {
        let (compressor, pass) = Gated::new();
        let tier = Arc::new(over(&store(), compressor));
        let writer = Arc::clone(&tier);
        // The only thread has to come from the writer to the other task, and only that one ends the call.
        let write = tokio::spawn(async move { put(&writer, text(len)).await });
        tokio::task::yield_now().await;
        pass.send(()).unwrap();
        write.await.unwrap();
        let reader = Arc::clone(&tier);
        let read = tokio::spawn(async move { data(&*reader, "k").await });
        tokio::task::yield_now().await;
        pass.send(()).unwrap();
        assert_eq!(read.await.unwrap().map(|read| read.len()), Some(len));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn so_many_long_payloads_at_a_time_as_there_are_processors_also_when_callers_give_up() {
    let (compressor, pass) = Gated::new();
    let (most, at_a_time) = (Arc::clone(&compressor.most), Arc::clone(&compressor.at_a_time));
    let store = store();
    let tier = Arc::new(over(&store, compressor));
    let places = std::thread::available_parallelism().unwrap().get();
    let writer = || {
        let tier = Arc::clone(&tier);
        tokio::spawn(async move { put(&tier, text(1 << 20)).await })
    };
    let given_up = writer();
    while at_a_time.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    given_up.abort();
    assert!(given_up.await.unwrap_err().is_cancelled());
    pass.send(()).unwrap();
    while at_a_time.load(Ordering::SeqCst) > 0 {
        tokio::task::yield_now().await;
    }
    assert_eq!(data(&tier, "k").await, None);
    // Work that nobody waits for any more keeps its place until it is done.
    let given_up: Vec<_> = (0..places).map(|_| writer()).collect();
    while at_a_time.load(Ordering::SeqCst) < places {
        tokio::task::yield_now().await;
    }
    for writer in given_up {
        writer.abort();
        assert!(writer.await.unwrap_err().is_cancelled());
    }
    let writers: Vec<_> = (0..3 * places).map(|_| writer()).collect();
    // More than may be in would come in meanwhile; fewer are no reason to fail.
    tokio::time::sleep(Duration::from_millis(200)).await;
    for _ in 0..4 * places {
        pass.send(()).unwrap();
    }
    for writer in writers {
        writer.await.unwrap();
    }
    let most = most.load(Ordering::SeqCst);
    assert!((1..=places).contains(&most), "{most} at a time on {places} processors");
}

#[test]
fn without_a_runtime_long_payloads_are_compressed_in_place() {
    for compressor in packing() {
        let tier = over(&store(), compressor);
        let put = put(&tier, text(1 << 20)).now_or_never();
        assert!(put.is_some(), "{compressor:?}");
        assert_eq!(data(&tier, "k").now_or_never(), Some(Some(text(1 << 20))));
    }
}

#[tokio::test(flavor = "current_thread")]
async fn a_short_record_that_unpacks_to_much_is_unpacked_aside() {
    for compressor in packing() {
        let tier = over(&store(), compressor);
        put(&tier, text(32 << 20)).await;
        let mut read = std::pin::pin!(data(&tier, "k"));
        let began = std::future::poll_fn(|context| Poll::Ready(read.as_mut().poll(context))).await;
        assert!(began.is_pending(), "{compressor:?}");
        assert_eq!(read.await, Some(text(32 << 20)));
        put(&tier, text(10_000)).await;
        assert_eq!(data(&tier, "k").now_or_never(), Some(Some(text(10_000))), "{compressor:?}");
    }
}
