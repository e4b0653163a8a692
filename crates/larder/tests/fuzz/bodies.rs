//! What each fuzz target does with its input. The same functions run under libFuzzer (`fuzz/`) and,
//! on inputs that were made by mutation, among the tests.

use std::path::{Path, PathBuf};
use std::sync::{Arc, LazyLock};
use std::time::Duration;

use bytes::Bytes;
use larder::cache::{
    DebtLedger, DebtStats, Encoded, LedgerError, MemoryCache, NoCompression, RawCodec, Schema,
    Tiered,
};
use larder::{
    Address, CacheValue, Condition, Key, MemorySpool, SharedSpool, SharedTier, Spool, SpoolId,
    SystemClock, Tier, Timestamp, Version, registry,
};
use larder_log::sim::SimDisk;
use larder_log::{
    Batch, Committer, CompactMode, Durability, Io, Log, LogOptions, Next, ReadError, Slot,
};

/// Takes one input.
pub(crate) type Target = fn(&[u8]);

/// Every target by name.
pub(crate) const TARGETS: &[(&str, Target)] = &[
    ("record", record),
    ("segment", segment),
    ("manifest", manifest),
    ("folder", folder),
    ("cache_record", cache_record),
    ("debt_record", debt_record),
    ("address", address),
];

const DIR: &str = "/log";
const FRAMES_START: usize = 4096;
/// Far more than any input makes: what is opened stays in proportion to what lies there.
const INPUT_MAX: usize = 1 << 16;

fn slot(n: u8) -> Slot {
    Slot { namespace: 1, id: [n; 16] }
}

fn payload(n: u8) -> Vec<u8> {
    vec![n; 100 * usize::from(n)]
}

fn open(disk: &SimDisk) -> Option<(Log, Committer)> {
    let options = LogOptions { segment_bytes: 8192, auto_compact: false, ..LogOptions::default() };
    Log::open_stepped(Arc::new(disk.clone()), Path::new(DIR), options).ok()
}

fn settle(committer: &mut Committer) {
    let mut now = Duration::ZERO;
    // Few are needed; a machine that never rests would be found by the limit.
    for _ in 0..1000 {
        if matches!(committer.step(now), Next::Wait(None) | Next::Closed) {
            return;
        }
        now += Duration::from_secs(1);
    }
    panic!("the committer never comes to rest");
}

/// The files of a log with several segments and eight entries.
static FILES: LazyLock<Vec<(PathBuf, Vec<u8>)>> = LazyLock::new(|| {
    let disk = SimDisk::new(1);
    let (log, mut committer) = open(&disk).expect("an empty disk");
    for round in 0..3 {
        for n in 0..8 {
            let mut batch = Batch::new();
            batch.put(slot(n), payload(n).into());
            log.submit(batch, Durability::Power).expect("a healthy log");
            if round == 1 {
                let mut batch = Batch::new();
                batch.delete(slot(n));
                log.submit(batch, Durability::Power).expect("a healthy log");
            }
            settle(&mut committer);
        }
    }
    let files = disk.files(Path::new(DIR)).into_iter();
    files.filter_map(|file| Some((file.clone(), disk.read(&file)?))).collect()
});

/// Inputs to begin with: the files of a log, whole.
pub(crate) fn seeds() -> Vec<Vec<u8>> {
    let mut seeds: Vec<Vec<u8>> = FILES.iter().map(|(_, bytes)| bytes.clone()).collect();
    seeds.extend([
        b"log:./data/spool?sync_interval=50ms&max_entries=9".to_vec(),
        b"memory:?capacity=256MiB".to_vec(),
        vec![1; 48],
        // A debt with every field.
        [&b"LRDO\x01\x02\x0e"[..], &[7; 40], b"\x00\x04shop\x00\x01k", &[0; 4]].concat(),
        (0..=255).collect(),
        cache_seed(),
    ]);
    seeds
}

/// That log, with one file changed.
fn with_file(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> SimDisk {
    let disk = SimDisk::new(1);
    disk.create_dir(Path::new(DIR)).expect("a new disk");
    for (file, bytes) in FILES.iter() {
        disk.create(file).expect("a new disk");
        disk.tamper(file, |content| content.clone_from(bytes));
    }
    let file = Path::new(DIR).join(name);
    if disk.read(&file).is_none() {
        disk.create(&file).expect("a new name");
    }
    disk.tamper(&file, change);
    disk.sync_dir(Path::new(DIR)).expect("a new disk");
    disk
}

fn store_id() -> [u8; 16] {
    let manifest = FILES.iter().find(|(file, _)| file.ends_with("MANIFEST"));
    let bytes = manifest.map(|(_, bytes)| bytes.as_slice()).unwrap_or_default();
    bytes.get(16..32).and_then(|id| id.try_into().ok()).expect("a manifest")
}

fn last_segment() -> (String, u64) {
    let files = FILES.iter().filter_map(|(file, _)| file.file_name()?.to_str());
    let name = files.filter(|name| name.starts_with("seg-")).max().expect("a segment");
    let id = u64::from_str_radix(&name[4..20], 16).expect("an id");
    (name.to_owned(), id)
}

/// Whatever lies there: nothing panics or goes on for ever, opening shows what verify foretold, and
/// what is opened works.
fn check(disk: &SimDisk, sound_frames_are_ours: bool) {
    let report = larder_log::verify_with(disk, Path::new(DIR));
    drop(larder_log::dump_with(disk, Path::new(DIR), |item| drop(item.to_string())));
    let Some((log, mut committer)) = open(disk) else { return };
    let report = report.expect("what opens can be verified");
    assert_eq!(report.entries, log.recovery().entries, "{report:?}");
    for entry in log.snapshot(1) {
        match log.get(entry.slot) {
            Ok(Some(bytes)) if sound_frames_are_ours => {
                assert_eq!(bytes, payload(entry.slot.id[0]));
            }
            Ok(_) | Err(ReadError::Corrupt { .. }) => {}
            Err(error) => panic!("{error}"),
        }
    }
    drop(log.acknowledge());
    let mut batch = Batch::new();
    batch.put(slot(7), payload(7).into());
    drop(log.submit(batch, Durability::Power));
    settle(&mut committer);
    drop(committer.compact(CompactMode::Full));
    drop(log.shutdown());
    settle(&mut committer);
}

/// The bytes of a last segment, as they are.
pub(crate) fn segment(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_MAX)];
    let (name, _) = last_segment();
    check(
        &with_file(&name, |bytes| {
            bytes.truncate(FRAMES_START);
            bytes.extend_from_slice(data);
        }),
        true,
    );
}

/// Frames of a last segment with checksums that hold: 24 bytes of the input make one.
pub(crate) fn record(data: &[u8]) {
    let data = &data[..data.len().min(INPUT_MAX)];
    let (name, id) = last_segment();
    let seed = crc32c::crc32c_append(crc32c::crc32c(&store_id()), &id.to_le_bytes());
    let mut frames = Vec::new();
    for (n, chunk) in data.chunks_exact(24).enumerate() {
        let mut header = [0; 40];
        header[4] = chunk[0] % 7;
        header[5] = chunk[1] & 1;
        header[6] = 1;
        // Long ones only sometimes: most should be whole.
        let len = if chunk[2] == 255 { u32::MAX } else { u32::from(chunk[2] % 48) };
        header[8..12].copy_from_slice(&len.to_le_bytes());
        // Positions that follow each other, unless the input says otherwise.
        let wild = u64::from_le_bytes([
            chunk[4], chunk[5], chunk[6], chunk[7], chunk[8], chunk[9], chunk[10], chunk[11],
        ]);
        let next = u64::from(chunk[4]) + n as u64;
        let lsn = if chunk[3] < 128 { next } else { wild };
        header[16..24].copy_from_slice(&lsn.to_le_bytes());
        header[24..40].fill(chunk[12] % 8);
        let body: Vec<u8> = chunk[13..].iter().copied().cycle().take((len % 48) as usize).collect();
        header[12..16].copy_from_slice(&crc32c::crc32c(&body).to_le_bytes());
        let crc = crc32c::crc32c_append(seed, &header[4..]);
        header[..4].copy_from_slice(&crc.to_le_bytes());
        frames.extend_from_slice(&header);
        frames.extend_from_slice(&body);
        frames.resize(frames.len().next_multiple_of(8), 0);
    }
    check(
        &with_file(&name, |bytes| {
            bytes.truncate(FRAMES_START);
            bytes.extend_from_slice(&frames);
        }),
        false,
    );
}

/// A manifest: as it is, and with the checksums and lengths put right.
pub(crate) fn manifest(data: &[u8]) {
    let mut data = data[..data.len().min(INPUT_MAX)].to_vec();
    check(&with_file("MANIFEST", |bytes| bytes.clone_from(&data)), true);
    if data.len() < 84 {
        return;
    }
    let len = u32::try_from(data.len()).unwrap_or(u32::MAX);
    data[..8].copy_from_slice(b"LARDRMAN");
    data[8..12].copy_from_slice(&1_u32.to_le_bytes());
    data[12..16].copy_from_slice(&len.to_le_bytes());
    data[16..32].copy_from_slice(&store_id());
    let prefix = crc32c::crc32c(&data[..32]);
    data[32..36].copy_from_slice(&prefix.to_le_bytes());
    let end = data.len() - 4;
    let crc = crc32c::crc32c(&data[..end]);
    data[end..].copy_from_slice(&crc.to_le_bytes());
    check(&with_file("MANIFEST", |bytes| *bytes = data), true);
}

/// Some file of a folder, an unknown one included: the first byte says which.
pub(crate) fn folder(data: &[u8]) {
    let Some((choice, data)) = data[..data.len().min(INPUT_MAX)].split_first() else { return };
    let files: &[(PathBuf, Vec<u8>)] = &FILES;
    let file = files.get(usize::from(*choice) % (files.len() + 1));
    let name = file.and_then(|(file, _)| file.file_name()?.to_str());
    let name = name.unwrap_or("seg-00000000000000ff.log");
    check(&with_file(name, |bytes| *bytes = data.to_vec()), true);
}

/// A record of a cache: read as it is, and with a checksum that holds.
pub(crate) fn cache_record(data: &[u8]) {
    let mut data = data[..data.len().min(INPUT_MAX)].to_vec();
    read_cache_record(&data);
    if data.len() < 56 {
        return;
    }
    data[..5].copy_from_slice(b"LRDC\x01");
    let crc = cache_checksum(&data).to_le_bytes();
    data[12..16].copy_from_slice(&crc);
    read_cache_record(&data);
}

fn cache_checksum(data: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&data[..12]), &data[16..])
}

/// Where caches of bytes keep records, and how.
fn records() -> (SharedTier<Bytes>, Encoded<SharedTier<Bytes>, RawCodec, NoCompression>, Key) {
    let store = SharedTier::new(MemoryCache::builder(1 << 20).build());
    let schema = Schema::new("shop", "page", 1).expect("a schema");
    let place = Key::new(format!("shop:{:016x}:=k", schema.fingerprint()).as_str());
    (store.clone(), Encoded::new(store, RawCodec, NoCompression, schema), place.expect("a key"))
}

fn block_on<T>(work: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
    runtime.expect("a runtime").block_on(work)
}

/// A record with every field.
fn cache_seed() -> Vec<u8> {
    let (store, tier, place) = records();
    let key = Key::new("k").expect("a key");
    let value = CacheValue {
        data: Bytes::from_static(b"the payload of a record"),
        expire: Some(Timestamp::MAX),
        stale: Some(Timestamp::MAX),
        version: Some(Version::from_parts(7, 9)),
    };
    let stored = block_on(async {
        tier.write(key.as_ref(), value, Condition::Always).await.expect("a write");
        store.read(place.as_ref()).await.expect("a read")
    });
    stored.expect("it was just written").value.data.to_vec()
}

fn read_cache_record(data: &[u8]) {
    block_on(async {
        let (store, tier, place) = records();
        let value = CacheValue::new(Bytes::copy_from_slice(data));
        store.write(place.as_ref(), value, Condition::Always).await.expect("a write");
        let key = Key::new("k").expect("a key");
        // Never an error to the caller: a miss, or a value that is part of the input unless that
        // is compressed.
        if let Some(found) = tier.read(key.as_ref()).await.expect("a miss or a hit") {
            assert!(data[10..12] != [0, 0] || data.ends_with(&found.value.data));
            assert_eq!(data[12..16], cache_checksum(data).to_le_bytes(), "it was believed");
        }
    });
}

/// A debt of a cache: opened as it is, and with a checksum that holds.
pub(crate) fn debt_record(data: &[u8]) {
    let mut data = data[..data.len().min(INPUT_MAX)].to_vec();
    open_debt(&data);
    if data.len() < 8 {
        return;
    }
    data[..5].copy_from_slice(b"LRDO\x01");
    let end = data.len() - 4;
    let crc = crc32c::crc32c(&data[..end]);
    data[end..].copy_from_slice(&crc.to_be_bytes());
    open_debt(&data);
}

/// Whether the checksum of a debt holds.
fn is_sound_debt(data: &[u8]) -> bool {
    let end = data.len().saturating_sub(4);
    data[end..] == crc32c::crc32c(&data[..end]).to_be_bytes()
}

fn open_debt(data: &[u8]) {
    block_on(async {
        let spool = SharedSpool::new(MemorySpool::new(SystemClock::shared(), 1 << 20, 9));
        let (id, bytes) = (SpoolId::new(&SystemClock), Bytes::copy_from_slice(data));
        spool.store(id, bytes.clone(), true, None).await.expect("room");
        let open = async || -> Option<[DebtStats; 2]> {
            let ledger = match DebtLedger::open(spool.clone(), "shop").await {
                Ok(ledger) => ledger,
                Err(LedgerError::Foreign { .. }) => return None,
                Err(error) => panic!("{error}"),
            };
            let layer = || MemoryCache::<Bytes>::builder(1 << 20).build();
            Some(Tiered::builder(layer(), layer()).debts(ledger).build().debts())
        };
        let first = open().await;
        // Refused and left alone, or a debt of somebody, or a reason to distrust both layers.
        assert_eq!(first.is_some(), data.starts_with(b"LRDO"));
        let Some(owed) = first else {
            assert_eq!(spool.load(id).await.expect("it is left alone"), bytes);
            return;
        };
        let debts = owed.iter().map(|layer| layer.owed + u64::from(layer.whole)).sum::<u64>();
        let distrusted = owed.iter().all(|layer| layer.whole);
        assert!(distrusted || debts <= 1, "{owed:?}");
        assert!(distrusted || is_sound_debt(data), "a checksum that is wrong was believed");
        assert_eq!(spool.load(id).await.is_ok(), !distrusted, "what cannot be read is replaced");
        // What is made of it is read again as the same.
        assert_eq!(open().await, Some(owed));
    });
}

/// An address: parsed, shown, and judged by every contract. Nothing is opened.
pub(crate) fn address(data: &[u8]) {
    let Ok(text) = std::str::from_utf8(data) else { return };
    if let Ok(address) = text.parse::<Address>() {
        assert!(!address.scheme().is_empty());
        drop((address.to_string(), format!("{address:?}")));
    }
    for check in [registry::check_spool, registry::check_consensus, registry::check_cache] {
        if let Err(error) = check(text) {
            assert!(!error.to_string().is_empty());
        }
    }
    let _ = (larder::address::parse_bytes(text), larder::address::parse_duration(text));
}
