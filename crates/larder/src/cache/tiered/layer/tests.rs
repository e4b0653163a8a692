use bytes::Bytes;
use larder_core::{ManualClock, Now, Version};

use super::super::debts::Missed;

use super::*;
use crate::cache::MemoryCache;

struct Bench {
    clock: SharedClock,
    order: Arc<Order>,
    l1: Arc<Debts>,
    l2: Layer<MemoryCache<Bytes>>,
}

fn key() -> KeyRef<'static> {
    KeyRef::new("k").unwrap()
}

fn write(value: &[u8]) -> Change<Bytes> {
    Change::Write(CacheValue::new(Bytes::copy_from_slice(value)))
}

fn at(version: Version) -> Loss {
    Loss { missed: Some(Missed { version, expire: None }), void: None }
}

impl Bench {
    fn new() -> Self {
        let debts = |layer| Arc::new(Debts::new("test", layer, Arc::default(), Arc::default()));
        let l2 = Layer {
            tier: MemoryCache::builder(1 << 20).build(),
            which: CompositionLayer::L2,
            debts: debts(CompositionLayer::L2),
            tally: LayerTally::new("t", CompositionLayer::L2),
            ttl_max: None,
        };
        let clock = ManualClock::default().shared();
        Self { clock, order: Arc::new(Order::new()), l1: debts(CompositionLayer::L1), l2 }
    }

    fn ticket(&self) -> Arc<Ticket> {
        self.ticket_of(Loss::everything(self.clock.now()))
    }

    fn ticket_of(&self, loss: Loss) -> Arc<Ticket> {
        Ticket::new(&self.order, key(), loss, &self.clock, [&self.l1, &self.l2.debts])
    }

    async fn land(&self, ticket: &Ticket, change: Change<Bytes>) -> Result<Answer, CacheError> {
        ticket.land(&self.l2, change, Condition::Always).await
    }

    fn stored(&self) -> Option<Bytes> {
        match self.l2.tier.read_now(key()) {
            Now::Hit(found) => Some(found.value.data),
            _ => None,
        }
    }

    fn owes(&self) -> bool {
        self.l2.debts.owes(key())
    }
}

#[tokio::test]
async fn a_change_that_was_overtaken_does_not_land_and_pays_its_debt() {
    let bench = Bench::new();
    let (first, second) = (bench.ticket(), bench.ticket());
    first.goes_on(CompositionLayer::L2);
    assert!(bench.owes());
    bench.land(&second, write(b"new")).await.unwrap();
    assert_eq!(bench.land(&first, write(b"old")).await.unwrap(), Answer::Superseded);
    assert_eq!(bench.stored(), Some(Bytes::from("new")));
    drop((first, second));
    assert!(!bench.owes());
}

#[tokio::test]
async fn a_write_that_a_remove_has_overtaken_does_not_land() {
    let bench = Bench::new();
    let version = Version::from_parts(9, 1);
    let (first, second) = (bench.ticket_of(at(version)), bench.ticket());
    bench.land(&second, Change::Remove).await.unwrap();
    let value = CacheValue::new(Bytes::from("old")).with_version(version);
    let condition = Condition::IfNewerThan(version);
    let answer = first.land(&bench.l2, Change::Write(value), condition).await.unwrap();
    assert_eq!((answer, bench.stored()), (Answer::Superseded, None));
}

#[tokio::test]
async fn a_debt_stays_when_the_later_change_was_refused() {
    let bench = Bench::new();
    let (first, second) = (bench.ticket(), bench.ticket());
    first.goes_on(CompositionLayer::L2);
    assert!(bench.land(&second, write(&vec![0; 2 << 20])).await.is_err());
    assert_eq!(bench.land(&first, write(b"old")).await.unwrap(), Answer::Superseded);
    drop((first, second));
    assert!(bench.owes());
}

#[tokio::test]
async fn a_background_call_that_ended_before_it_was_noted_owes_nothing() {
    let bench = Bench::new();
    let ticket = bench.ticket();
    bench.land(&ticket, write(b"new")).await.unwrap();
    ticket.goes_on(CompositionLayer::L2);
    assert!(!bench.owes());
}

#[tokio::test]
async fn a_change_that_no_layer_took_owes_nothing() {
    let bench = Bench::new();
    let ticket = bench.ticket();
    assert!(bench.land(&ticket, write(&vec![0; 2 << 20])).await.is_err());
    drop(ticket);
    assert!(!bench.owes() && !bench.l1.owes(key()));
}

#[tokio::test]
async fn a_layer_that_missed_a_version_takes_no_older_one() {
    let bench = Bench::new();
    let [old, missed, new] = [3, 5, 7].map(|reading| Version::from_parts(reading, 1));
    let land = async |version: Version, value: &[u8]| {
        let ticket = bench.ticket_of(at(version));
        let value = CacheValue::new(Bytes::copy_from_slice(value)).with_version(version);
        ticket.land(&bench.l2, Change::Write(value), Condition::IfNewerThan(version)).await.unwrap()
    };
    bench.ticket_of(at(missed)).owe(CompositionLayer::L2);
    assert_eq!(land(old, b"old").await, Answer::Owing);
    assert!(bench.owes() && bench.stored().is_none());
    assert_eq!(land(new, b"new").await, Answer::Written(WriteStatus::WRITTEN));
    assert!(!bench.owes());
    assert_eq!(bench.stored(), Some(Bytes::from("new")));
}
