//! What the fuzz target of objects of a consensus store in S3 does with its input.

use std::sync::LazyLock;

use bytes::Bytes;
use larder::consensus::ObjectConsensus;
use larder::{CaSResult, Consensus, SeqNo, VersionedData};
use larder_testkit::service::S3Server;
use tokio::runtime::Runtime;

const INPUT_MAX: usize = 1 << 16;
/// Where the key `k` is kept, and where in it what is.
const NAME: &str = "fuzz/keys/by-name/k";
const HEADER: usize = 28;
const CHECKSUM: std::ops::Range<usize> = 8..12;

/// An endpoint of this process, and a store there.
struct Place {
    server: S3Server,
    store: ObjectConsensus,
    runtime: Runtime,
}

static PLACE: LazyLock<Place> = LazyLock::new(|| {
    let mut runtime = tokio::runtime::Builder::new_multi_thread();
    let runtime = runtime.worker_threads(1).enable_all().build().expect("a runtime");
    let server = S3Server::start().expect("an endpoint");
    let uri = server.uri("fuzz");
    let store = runtime.block_on(ObjectConsensus::open(&uri)).expect("a store");
    Place { server, store, runtime }
});

/// Inputs to begin with: the object of a key with some versions, whole.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let Place { server, store, runtime } = &*PLACE;
    let mut seeds = Vec::new();
    server.remove(NAME).expect("a bucket");
    for seqno in 1..5_u8 {
        let expected = (seqno > 1).then(|| SeqNo(u64::from(seqno) - 1));
        let new = VersionedData { seqno: SeqNo(seqno.into()), data: vec![seqno; 20].into() };
        let swapped = runtime.block_on(store.compare_and_set("k", expected, new));
        assert_eq!(swapped.expect("a version"), CaSResult::Committed);
        seeds.push(server.object(NAME).expect("its object"));
    }
    seeds
}

/// The object of a key: as it is, and with what a reader looks at first put right.
pub(crate) fn object_record(data: &[u8]) {
    let mut data = data[..data.len().min(INPUT_MAX)].to_vec();
    read(&data);
    if data.len() < HEADER {
        return;
    }
    data[..8].copy_from_slice(b"LRDO\x01\0\0\0");
    for begins_with_the_key in [false, true] {
        if begins_with_the_key {
            // One byte long, and the one that it is named for.
            data[20..22].copy_from_slice(&1_u16.to_le_bytes());
            data.truncate(INPUT_MAX - 1);
            data.splice(HEADER..HEADER, *b"k");
        }
        let sum = checksum(&data).to_le_bytes();
        data[CHECKSUM].copy_from_slice(&sum);
        read(&data);
    }
}

fn checksum(data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&data[..CHECKSUM.start]), &data[CHECKSUM.end..])
}

/// Whether the checksum of an object holds.
fn is_sound(data: &[u8]) -> bool {
    data.get(CHECKSUM).is_some_and(|sum| sum == checksum(data).to_le_bytes())
}

/// Whatever lies there: all reads say the same of it, what is damaged stays as it is, and what can be read goes on.
fn read(data: &[u8]) {
    let Place { server, store, runtime } = &*PLACE;
    server.overwrite(NAME, data).expect("a bucket");
    runtime.block_on(async {
        let head = store.head("k").await;
        let scanned = store.scan("k", SeqNo::MIN, usize::MAX).await;
        assert!(head.is_err() || is_sound(data), "a checksum that is wrong was believed");
        let Ok(head) = head else {
            assert!(scanned.is_err(), "a scan reads what a head does not");
            assert!(store.truncate("k", SeqNo::MIN).await.is_err());
            let new = VersionedData { seqno: SeqNo(1), data: Bytes::new() };
            assert!(store.compare_and_set("k", None, new).await.is_err());
            assert_eq!(server.object(NAME).expect("it is there"), data, "it was changed");
            return;
        };
        let head = head.expect("an object is never an empty key");
        let mut versions = scanned.expect("a scan of what a head reads");
        assert_eq!(versions.last(), Some(&head));
        assert!(versions.is_sorted_by(|one, next| one.seqno < next.seqno));
        assert!(data.ends_with(&head.data), "bytes that nobody wrote");
        let Some(next) = head.seqno.next() else { return };
        let new = VersionedData { seqno: next, data: Bytes::from_static(b"next") };
        let swapped = store.compare_and_set("k", Some(head.seqno), new.clone()).await;
        assert_eq!(swapped.expect("a write"), CaSResult::Committed);
        versions.push(new);
        let left = store.scan("k", SeqNo::MIN, usize::MAX).await.expect("a scan");
        assert_eq!(left, versions);
        assert_eq!(store.truncate("k", next).await.expect("a truncation"), versions.len() - 1);
    });
}
