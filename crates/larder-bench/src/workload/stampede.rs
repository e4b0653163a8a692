//! A thousand callers who want what nobody has: how often it is loaded, and how long they wait.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use larder::cache::{Cache, LoadError, MemoryCache, Tagged, Tiered};
use larder::{Clock, Key, SharedTier, SystemClock};
use larder_testkit::meter::Histogram;
use tokio::sync::Barrier;
use tokio::time::sleep;

use super::cache_extent;
use crate::args::CacheArgs;
use crate::bench::say;
use crate::error::Result;
use crate::near::{self, Text};
use crate::row::{Row, float};
use crate::subject::Work;

const CALLERS: usize = 1_000;
/// How long the database takes.
const QUERY: Duration = Duration::from_millis(10);

/// Something that loads what it does not have.
trait Loading: Send + Sync + 'static {
    /// The value of `key`; a load counts itself in `loads`.
    fn get<'a>(&'a self, key: &'a Key, loads: Arc<AtomicU64>) -> Work<'a, ()>;

    fn name(&self) -> &'static str;
}

struct Ours(&'static str, Cache<Text>);

impl Loading for Ours {
    fn get<'a>(&'a self, key: &'a Key, loads: Arc<AtomicU64>) -> Work<'a, ()> {
        Box::pin(async move {
            let query = || async { Ok::<_, LoadError>(query(loads).await) };
            let found = self.1.get_or_load(key.as_ref(), query).await?;
            found.map(drop).ok_or_else(|| "nothing was loaded".into())
        })
    }

    fn name(&self) -> &'static str {
        self.0
    }
}

#[cfg(feature = "moka")]
struct Moka(moka::future::Cache<Key, Text>);

#[cfg(feature = "moka")]
impl Loading for Moka {
    fn get<'a>(&'a self, key: &'a Key, loads: Arc<AtomicU64>) -> Work<'a, ()> {
        Box::pin(async move {
            drop(self.0.get_with(key.clone(), query(loads)).await);
            Ok(())
        })
    }

    fn name(&self) -> &'static str {
        "moka, future"
    }
}

async fn query(loads: Arc<AtomicU64>) -> Text {
    loads.fetch_add(1, Ordering::Relaxed);
    sleep(QUERY).await;
    Text::from("what the database has")
}

fn subjects() -> Vec<Arc<dyn Loading>> {
    let memory = || MemoryCache::<Tagged<Text>>::weighed(16 << 20, |_| 100).build();
    let face = |tier| Cache::builder(tier).build();
    let compiled = SharedTier::new(Tiered::builder(memory(), memory()).build());
    let handle = || SharedTier::new(memory());
    let handles = SharedTier::new(Tiered::builder(handle(), handle()).build());
    let below = Tiered::builder(memory(), memory()).build();
    let three = SharedTier::new(Tiered::builder(memory(), below).build());
    vec![
        Arc::new(Ours(near::FACE, face(compiled))),
        Arc::new(Ours(near::NESTED, face(handles))),
        Arc::new(Ours("larder, three tiers", face(three))),
        #[cfg(feature = "moka")]
        Arc::new(Moka(moka::future::Cache::new(10_000))),
    ]
}

pub(crate) async fn run(arguments: &CacheArgs) -> Result<Vec<Row>> {
    let (rounds, _) = cache_extent(arguments);
    let callers = if arguments.smoke { 10 } else { CALLERS };
    let (mut subjects, mut rows) = (subjects(), Vec::new());
    let cell = format!("{callers} callers, a query of {} ms", QUERY.as_millis());
    // Of a round: how often each subject is stormed, each time for another key.
    let keys = near::keys(rounds * 10)?;
    for (round, keys) in keys.chunks(10).enumerate() {
        say(&format!("stampede, round {} of {rounds}", round + 1));
        for subject in &subjects {
            let (mut times, mut most) = (Histogram::default(), 0);
            for key in keys {
                let loads = Arc::new(AtomicU64::new(0));
                times.merge(&storm(subject, key, callers, &loads).await?);
                most = most.max(loads.load(Ordering::Relaxed));
            }
            let row = Row::new("stampede", subject.name(), &cell, round);
            rows.push(
                row.with("most_loads_of_a_key", float(most))
                    .with("p50_us", times.quantile(500))
                    .with("p99_us", times.quantile(990))
                    .with("longest_us", times.quantile(1000)),
            );
        }
        subjects.rotate_left(1);
    }
    Ok(rows)
}

/// Lets all ask at once; how long each waited.
async fn storm(
    subject: &Arc<dyn Loading>,
    key: &Key,
    callers: usize,
    loads: &Arc<AtomicU64>,
) -> Result<Histogram> {
    let start = Arc::new(Barrier::new(callers));
    let asking = (0..callers).map(|_| {
        let (subject, key) = (Arc::clone(subject), key.clone());
        let (start, loads) = (Arc::clone(&start), Arc::clone(loads));
        tokio::spawn(async move {
            start.wait().await;
            let began = SystemClock.instant();
            subject.get(&key, loads).await?;
            Result::Ok(SystemClock.instant().saturating_duration_since(began))
        })
    });
    let asking: Vec<_> = asking.collect();
    let mut times = Histogram::default();
    for caller in asking {
        times.record(caller.await??);
    }
    Ok(times)
}
