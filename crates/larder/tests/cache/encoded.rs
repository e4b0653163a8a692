use std::time::Duration;

use bytes::Bytes;
use larder::cache::{Encoded, MemoryCache, NoCompression, RawCodec, Schema, SchemaError};
use larder_core::{
    CacheError, CacheValue, Clock as _, Condition, Key, KeyRef, ManualClock, SharedTier, Tier,
};
use proptest::prelude::*;

use crate::scripted::{Op, Scripted, data, key, text, version};

type Raw = Encoded<SharedTier<Bytes>, RawCodec, NoCompression>;

fn over(store: &SharedTier<Bytes>, schema: Schema, clock: &ManualClock) -> Raw {
    Encoded::new(store.clone(), RawCodec, NoCompression, schema).with_clock(clock.shared())
}

fn schema(version: u32) -> Schema {
    Schema::new("shop", "page", version).unwrap()
}

/// A tier with its store, and the place of `k` in it.
struct Bench {
    clock: ManualClock,
    store: SharedTier<Bytes>,
    tier: Raw,
}

impl Bench {
    fn new() -> Self {
        let clock = ManualClock::default();
        let store = MemoryCache::builder(8 << 20).clock(clock.shared()).build();
        let store = SharedTier::new(store);
        let tier = over(&store, schema(1), &clock);
        Self { clock, store, tier }
    }

    fn place(k: &str) -> Key {
        Key::new(format!("shop:{:016x}:={k}", schema(1).fingerprint()).as_str()).unwrap()
    }

    async fn record(&self, k: &str) -> Option<CacheValue<Bytes>> {
        self.store.read(Self::place(k).as_ref()).await.unwrap().map(|found| found.value)
    }

    async fn replace(&self, k: &str, change: impl FnOnce(&mut Vec<u8>)) {
        let record = self.record(k).await.unwrap();
        let changed = record.map(|bytes| {
            let mut bytes = bytes.to_vec();
            change(&mut bytes);
            Bytes::from(bytes)
        });
        self.store.write(Self::place(k).as_ref(), changed, Condition::Always).await.unwrap();
    }
}

#[tokio::test]
async fn life_and_version_come_back_to_the_nanosecond() {
    let bench = Bench::new();
    let value = text("v")
        .with_ttl(bench.clock.now(), Duration::from_nanos(500_000_001))
        .with_stale_after(bench.clock.now(), Duration::from_nanos(100_000_001))
        .with_version(version(7));
    bench.tier.write(key("k"), value.clone(), Condition::Always).await.unwrap();
    assert_eq!(bench.tier.read(key("k")).await.unwrap().unwrap().value, value);
    bench.clock.advance(Duration::from_nanos(500_000_001));
    assert_eq!(data(&bench.tier, "k").await, None);
}

#[tokio::test]
async fn a_store_that_forgets_the_life_does_not_make_a_value_immortal() {
    let bench = Bench::new();
    let value = text("v").with_ttl(bench.clock.now(), Duration::from_millis(500));
    bench.tier.write(key("k"), value, Condition::Always).await.unwrap();
    let kept_for_ever = CacheValue::new(bench.record("k").await.unwrap().data);
    bench.store.write(Bench::place("k").as_ref(), kept_for_ever, Condition::Always).await.unwrap();
    assert!(data(&bench.tier, "k").await.is_some());
    bench.clock.advance(Duration::from_millis(500));
    assert_eq!(data(&bench.tier, "k").await, None);
}

#[tokio::test]
async fn a_damaged_record_is_a_miss_and_is_removed() {
    let bench = Bench::new();
    let value = text("payload").with_version(version(3));
    bench.tier.write(key("k"), value, Condition::Always).await.unwrap();
    bench.replace("k", |bytes| bytes[60] ^= 1).await;
    assert_eq!(data(&bench.tier, "k").await, None);
    assert_eq!(bench.record("k").await, None);
}

#[tokio::test]
async fn a_damaged_record_that_was_replaced_meanwhile_is_not_removed() {
    let clock = ManualClock::default();
    let scripted = Scripted::new("store", &clock);
    let store = SharedTier::new(scripted.clone());
    let tier = over(&store, schema(1), &clock);
    let place = Bench::place("k");
    scripted.plant(place.as_str(), text("LRDC\u{1}damaged").with_version(version(1))).await;
    let remove = scripted.hold(Op::Remove, crate::scripted::When::Before);
    let reading = tokio::spawn(async move {
        let found = data(&tier, "k").await;
        (tier, found)
    });
    while scripted.reads() == 0 {
        tokio::task::yield_now().await;
    }
    tokio::task::yield_now().await;
    let writer = over(&store, schema(1), &clock);
    let newer = text("new").with_version(version(2));
    writer.write(key("k"), newer, Condition::Always).await.unwrap();
    drop(remove);
    let (tier, found) = reading.await.unwrap();
    assert_eq!(found, None);
    assert_eq!(data(&tier, "k").await, Some(Bytes::from("new")));
}

#[tokio::test]
async fn a_damaged_record_is_no_error_when_it_cannot_be_removed() {
    let clock = ManualClock::default();
    let scripted = Scripted::new("store", &clock);
    let tier = over(&SharedTier::new(scripted.clone()), schema(1), &clock);
    scripted.plant(Bench::place("k").as_str(), text("LRDC\u{1}damaged")).await;
    scripted.fail(Op::Remove);
    assert_eq!(data(&tier, "k").await, None);
}

#[tokio::test]
async fn records_that_are_not_ours_are_misses_and_stay() {
    let bench = Bench::new();
    bench.tier.write(key("k"), text("payload"), Condition::Always).await.unwrap();
    // A later layout, and bytes that something else wrote.
    let later_layout = |bytes: &mut Vec<u8>| bytes[4] = 2;
    let something_else = |bytes: &mut Vec<u8>| *bytes = b"{}".to_vec();
    for change in [later_layout, something_else] {
        bench.replace("k", change).await;
        let before = bench.record("k").await;
        assert_eq!(data(&bench.tier, "k").await, None);
        assert_eq!(bench.record("k").await, before);
    }
}

#[tokio::test]
async fn two_versions_of_a_type_and_two_namespaces_keep_out_of_each_others_way() {
    let bench = Bench::new();
    let next = over(&bench.store, schema(2), &bench.clock);
    let other = over(&bench.store, Schema::new("blog", "page", 1).unwrap(), &bench.clock);
    bench.tier.write(key("k"), text("one"), Condition::Always).await.unwrap();
    assert_eq!(data(&next, "k").await, None);
    assert_eq!(data(&other, "k").await, None);
    next.write(key("k"), text("two"), Condition::Always).await.unwrap();
    other.remove(key("k"), Condition::Always).await.unwrap();
    assert_eq!(data(&bench.tier, "k").await, Some(Bytes::from("one")));
    assert_eq!(data(&next, "k").await, Some(Bytes::from("two")));
}

#[tokio::test]
async fn the_record_of_another_type_under_the_same_key_is_a_miss_and_stays() {
    let bench = Bench::new();
    let next = over(&bench.store, schema(2), &bench.clock);
    next.write(key("k"), text("two"), Condition::Always).await.unwrap();
    let place = format!("shop:{:016x}:=k", schema(2).fingerprint());
    let record = bench.store.read(key(&place)).await.unwrap().unwrap().value;
    bench.store.write(Bench::place("k").as_ref(), record.clone(), Condition::Always).await.unwrap();
    assert_eq!(data(&bench.tier, "k").await, None);
    assert_eq!(bench.record("k").await, Some(record));
}

#[tokio::test]
async fn the_longest_keys_work_and_are_told_apart() {
    let bench = Bench::new();
    let long = |last: &str| format!("{}{last}", "k".repeat(1023));
    let (a, b) = (long("a"), long("b"));
    for (k, value) in [(&a, "va"), (&b, "vb")] {
        bench.tier.write(key(k), text(value), Condition::Always).await.unwrap();
    }
    let keys = [key(&a), key(&b), key("absent")];
    let found = bench.tier.read_many(&keys).await.unwrap();
    let payloads: Vec<_> =
        found.into_iter().map(|found| found.map(|found| found.value.data)).collect();
    assert_eq!(payloads, [Some(Bytes::from("va")), Some(Bytes::from("vb")), None]);
    bench.tier.remove_many(&keys, Condition::Always).await.unwrap();
    assert_eq!(data(&bench.tier, &a).await, None);
}

#[tokio::test]
async fn a_value_beyond_the_limit_is_refused_before_it_is_written() {
    let bench = Bench::new();
    let large = CacheValue::new(Bytes::from(vec![0; Raw::PAYLOAD_BYTES_MAX + 1]));
    let error = bench.tier.write(key("k"), large, Condition::Always).await.unwrap_err();
    assert!(matches!(error, CacheError::TooLarge { .. }));
    assert_eq!(bench.record("k").await, None);
}

#[test]
fn a_schema_names_what_is_wrong_with_a_namespace() {
    assert_eq!(Schema::new("", "t", 1), Err(SchemaError::NamespaceLength { len: 0 }));
    assert_eq!(Schema::new("a:b", "t", 1), Err(SchemaError::NamespaceCharacter { at: 1 }));
    assert_ne!(Schema::new("a", "t1", 1), Schema::new("a", "t", 11));
}

#[cfg(feature = "json")]
#[tokio::test]
async fn json_values_come_back_and_a_record_of_another_shape_is_a_miss_that_stays() {
    use larder::cache::JsonCodec;

    let bench = Bench::new();
    let names = Encoded::new(bench.store.clone(), JsonCodec, NoCompression, schema(1));
    let value = CacheValue::new(vec![String::from("a")]);
    names.write(key("k"), value.clone(), Condition::Always).await.unwrap();
    assert_eq!(names.read(key("k")).await.unwrap().unwrap().value, value);
    let numbers = Encoded::new(bench.store.clone(), JsonCodec, NoCompression, schema(1));
    assert_eq!(Tier::<Vec<u32>>::read(&numbers, key("k")).await.unwrap(), None);
    assert_eq!(data(&bench.tier, "k").await, None, "another codec");
    assert!(bench.record("k").await.is_some());
}

#[cfg(feature = "postcard")]
#[tokio::test]
async fn postcard_values_come_back_and_a_record_of_another_shape_is_a_miss_that_stays() {
    use larder::cache::PostcardCodec;

    type Page = (String, Vec<u64>, Option<i32>);
    let bench = Bench::new();
    let pages = Encoded::new(bench.store.clone(), PostcardCodec, NoCompression, schema(1));
    let page: Page = (String::from("front"), vec![0, u64::MAX], Some(-1));
    let value = CacheValue::new(page);
    pages.write(key("k"), value.clone(), Condition::Always).await.unwrap();
    assert_eq!(Tier::<Page>::read(&pages, key("k")).await.unwrap().unwrap().value, value);
    let stored = bench.record("k").await;
    assert_eq!(Tier::<String>::read(&pages, key("k")).await.unwrap(), None, "bytes left over");
    assert_eq!(Tier::<[u64; 9]>::read(&pages, key("k")).await.unwrap(), None, "bytes missing");
    assert_eq!(data(&bench.tier, "k").await, None, "another codec");
    assert_eq!(bench.record("k").await, stored);
}

/// A codec gets bytes that passed the checksum, yet were not necessarily written by it.
#[cfg(all(feature = "postcard", feature = "json"))]
mod decoding {
    use larder::cache::{Codec, JsonCodec, PostcardCodec, Tagged, TaggedCodec};

    use super::*;

    type Value = (String, Vec<Option<u64>>, [u8; 2]);

    fn bytes(codec: &impl Codec<Value>, value: &Value) -> Vec<u8> {
        let mut encoded = vec![1, 2, 3];
        codec.encode(value, &mut encoded).unwrap();
        assert_eq!(encoded[..3], [1, 2, 3], "what was there stays");
        encoded.split_off(3)
    }

    fn check(codec: &(impl Codec<Value> + Codec<Vec<String>>), value: &Value, at: usize, bit: u8) {
        let good = bytes(codec, value);
        let at = at % good.len();
        let mut flipped = good.clone();
        flipped[at] ^= 1 << bit;
        let odd = Bytes::from([&[0][..], &good].concat()).slice(1..);
        assert_eq!(Codec::<Value>::decode(codec, odd).unwrap(), *value, "from an odd address");
        let cut = Codec::<Value>::decode(codec, Bytes::from(good[..at].to_vec()));
        assert!(cut.is_err(), "cut");
        let grown = [&good[..], &b"0"[..]].concat();
        assert!(Codec::<Value>::decode(codec, Bytes::from(grown)).is_err(), "grown");
        drop(Codec::<Value>::decode(codec, Bytes::from(flipped.clone())));
        drop(Codec::<Vec<String>>::decode(codec, Bytes::from(flipped)));
    }

    proptest! {
        #[test]
        fn bad_bytes_are_an_error_and_never_a_panic(
            value: Value,
            at: usize,
            bit in 0..8_u8,
            garbage: Vec<u8>,
        ) {
            check(&JsonCodec, &value, at, bit);
            check(&PostcardCodec, &value, at, bit);
            drop(Codec::<Value>::decode(&PostcardCodec, Bytes::from(garbage.clone())));
            drop(Codec::<Vec<Vec<u64>>>::decode(&PostcardCodec, Bytes::from(garbage.clone())));
            let tagged = TaggedCodec(PostcardCodec);
            drop(Codec::<Tagged<Vec<u64>>>::decode(&tagged, Bytes::from(garbage)));
        }
    }

    #[test]
    fn a_length_beyond_the_end_is_an_error_before_it_is_memory() {
        // A list, a text and bytes of 2^60 elements.
        let huge = Bytes::from_static(&[0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x80, 0x10, 1]);
        assert!(Codec::<Vec<u64>>::decode(&PostcardCodec, huge.clone()).is_err());
        assert!(Codec::<String>::decode(&PostcardCodec, huge.clone()).is_err());
        assert!(Codec::<Vec<[u64; 32]>>::decode(&PostcardCodec, huge).is_err());
    }
}

proptest! {
    #[test]
    fn whatever_the_store_holds_a_read_is_no_error_and_no_panic(bytes: Vec<u8>, ours: bool) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        runtime.block_on(async {
            let bench = Bench::new();
            let bytes = if ours { [&b"LRDC\x01"[..], &bytes].concat() } else { bytes };
            let record = CacheValue::new(Bytes::from(bytes));
            bench.store.write(Bench::place("k").as_ref(), record, Condition::Always).await.unwrap();
            let keys: [KeyRef<'_>; 1] = [key("k")];
            assert_eq!(bench.tier.read_many(&keys).await.unwrap(), [None]);
            assert_eq!(data(&bench.tier, "k").await, None);
        });
    }
}
