//! Tiers of a cache of which the far one goes away, with and without a ledger of what it has missed.
//!
//! Each opening of a place is a process: what is near is new, the far tier and the ledger's spool stay.

use std::future::Future;
use std::pin::Pin;

use bytes::Bytes;
use larder::cache::{DebtLedger, Guarded, Tiered};
use larder::compose::{
    AnyReadPolicy, AnyWritePolicy, OptimisticParallelWritePolicy, ParallelReadPolicy,
    RaceReadPolicy, RaceWritePolicy, SequentialReadPolicy, SequentialWritePolicy,
};
use larder::{BoxError, ManualClock, MemorySpool, SharedSpool, SharedTier, SystemClock};
use larder_testkit::{Interrupted, Need, Outage, Place, Subject};

use super::{Candidate, encoded, memory};

type Far = Interrupted<SharedTier<Bytes>>;
type Opening = Pin<Box<dyn Future<Output = Result<SharedTier<Bytes>, BoxError>> + Send>>;

/// What a process finds when it starts.
#[derive(Clone)]
struct World {
    clock: ManualClock,
    capacity: u64,
    far: SharedTier<Bytes>,
    outage: Outage,
    spool: Option<Spool>,
}

/// Where a ledger is.
#[derive(Clone)]
enum Spool {
    /// Over all processes, as on another machine.
    Kept(SharedSpool),
    /// Opened by each process.
    #[cfg(feature = "log")]
    Log(std::sync::Arc<tempfile::TempDir>),
}

type Start = fn(World) -> Opening;

impl World {
    fn far(&self) -> Far {
        self.outage.over(self.far.clone())
    }

    fn near(&self) -> larder::cache::MemoryCache<Bytes> {
        memory(&self.clock, self.capacity / 4)
    }

    async fn ledgers<const N: usize>(
        &self,
        names: [&str; N],
    ) -> Result<[Option<DebtLedger>; N], BoxError> {
        let spool = match &self.spool {
            None => return Ok(names.map(|_| None)),
            Some(Spool::Kept(spool)) => spool.clone(),
            #[cfg(feature = "log")]
            Some(Spool::Log(folder)) => {
                larder::open_spool(&format!("log:{}", folder.path().display())).await?
            }
        };
        let mut ledgers = names.map(|_| None);
        for (ledger, name) in ledgers.iter_mut().zip(names) {
            *ledger = Some(DebtLedger::open(spool.clone(), name).await?);
        }
        Ok(ledgers)
    }
}

/// Two tiers of one kind or another, with these policies.
macro_rules! pair {
    ($world:expr, $near:expr, $far:expr, $ledger:expr $(, $policy:ident($value:expr))*) => {{
        let tier = Tiered::builder($near, $far).clock($world.clock.shared())$(.$policy($value))*;
        match $ledger {
            Some(ledger) => tier.debts(ledger).build(),
            None => tier.build(),
        }
    }};
}

pub(super) fn all() -> Vec<Candidate<SharedTier<Bytes>>> {
    let mut all = Vec::new();
    // Every way there is without a ledger, and with one.
    for (name, start) in STARTS {
        all.push(subject(format!("outage-{name}"), *start, || Ok(None)).into());
        let kept = || {
            let spool = MemorySpool::new(SystemClock::shared(), 64 << 20, MemorySpool::ENTRIES_MAX);
            Ok(Some(Spool::Kept(SharedSpool::new(spool))))
        };
        all.push(subject(format!("ledger-{name}"), *start, kept).offering([Need::Reopen]).into());
    }
    #[cfg(feature = "log")]
    all.push(
        subject("ledger-in-log".to_owned(), STARTS[0].1, || {
            Ok(Some(Spool::Log(std::sync::Arc::new(tempfile::tempdir()?))))
        })
        .offering([Need::Reopen])
        .into(),
    );
    all
}

const STARTS: &[(&str, Start)] = &[
    ("static", |world| {
        Box::pin(async move {
            let [ledger] = world.ledgers(["a"]).await?;
            Ok(SharedTier::new(pair!(world, world.near(), world.far(), ledger)))
        })
    }),
    ("sequential", |world| {
        Box::pin(async move {
            let [ledger] = world.ledgers(["a"]).await?;
            let (read, write) = (SequentialReadPolicy, SequentialWritePolicy);
            let pair = pair!(world, world.near(), world.far(), ledger, read(read), write(write));
            Ok(SharedTier::new(pair))
        })
    }),
    // Behind handles, by policies that are chosen at run time.
    ("race", |world| {
        Box::pin(async move {
            let read = AnyReadPolicy::from(RaceReadPolicy::default());
            let write = AnyWritePolicy::from(RaceWritePolicy::default());
            let [ledger] = world.ledgers(["a"]).await?;
            let (near, far) = (SharedTier::new(world.near()), SharedTier::new(world.far()));
            Ok(SharedTier::new(pair!(world, near, far, ledger, read(read), write(write))))
        })
    }),
    ("parallel", |world| {
        Box::pin(async move {
            let read = AnyReadPolicy::from(ParallelReadPolicy);
            let write = AnyWritePolicy::from(OptimisticParallelWritePolicy);
            let [ledger] = world.ledgers(["a"]).await?;
            let (near, far) = (SharedTier::new(world.near()), SharedTier::new(world.far()));
            Ok(SharedTier::new(pair!(world, near, far, ledger, read(read), write(write))))
        })
    }),
    // As a service has it: records behind a breaker.
    ("guarded", |world| {
        Box::pin(async move {
            let [ledger] = world.ledgers(["a"]).await?;
            let far = Guarded::builder(world.far()).clock(world.clock.shared()).build();
            Ok(SharedTier::new(pair!(world, world.near(), far, ledger)))
        })
    }),
    ("nested", |world| {
        Box::pin(async move {
            let [above, below] = world.ledgers(["above", "below"]).await?;
            let below = pair!(world, world.near(), world.far(), below);
            Ok(SharedTier::new(pair!(world, world.near(), below, above)))
        })
    }),
    ("nested-shared", |world| {
        Box::pin(async move {
            let [above, below] = world.ledgers(["above", "below"]).await?;
            let (middle, far) = (SharedTier::new(world.near()), SharedTier::new(world.far()));
            let below = SharedTier::new(pair!(world, middle, far, below));
            Ok(SharedTier::new(pair!(world, SharedTier::new(world.near()), below, above)))
        })
    }),
    // The part that goes away is the one in the middle of three.
    ("nested-above-shared", |world| {
        Box::pin(async move {
            let [above, below] = world.ledgers(["above", "below"]).await?;
            let far = SharedTier::new(memory(&world.clock, world.capacity / 4));
            let below = pair!(world, world.far(), far, below);
            Ok(SharedTier::new(pair!(world, world.near(), below, above)))
        })
    }),
];

fn subject(
    name: String,
    start: Start,
    spool: impl Fn() -> Result<Option<Spool>, BoxError> + Send + Sync + Copy + 'static,
) -> Subject<SharedTier<Bytes>> {
    let place = move |capacity: u64| place(start, capacity, spool()?);
    Subject::new(name, move || place(64 << 20))
        .with_tight_place(move || place(1 << 20))
        .offering([Need::Clock, Need::Outage])
}

fn place(
    start: Start,
    capacity: u64,
    spool: Option<Spool>,
) -> Result<Place<SharedTier<Bytes>>, BoxError> {
    let (clock, outage) = (ManualClock::default(), Outage::default());
    // Records, so that a far tier hands out nothing that it holds.
    let far = SharedTier::new(encoded(memory(&clock, capacity / 2), &clock)?);
    let world = World { clock: clock.clone(), capacity, far: far.clone(), outage, spool };
    let outage = world.outage.clone();
    // Without a ledger a place is opened once; what it holds stays with the handle.
    let open = move || start(world.clone());
    Ok(Place::new(open).with_clock(clock).with_outage(outage, far))
}
