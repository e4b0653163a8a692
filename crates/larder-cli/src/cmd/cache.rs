//! `larder cache`: one entry of a cache.

use larder::{
    Age, CacheValue, Clock, Condition, DeleteStatus, Found, KeyRef, SharedTier, SystemClock, Tier,
    Timestamp,
};
use serde_json::json;

use crate::args::{CacheAction, CacheArgs};
use crate::exit::{Code, Exit};
use crate::output::Output;
use crate::{payload, stores};

pub(crate) async fn run(args: CacheArgs, output: &mut Output) -> Result<(), Exit> {
    match args.action {
        CacheAction::Get { uri, key } => {
            let found = find(&uri, &key).await?;
            output.payload(&found.value.data)
        }
        CacheAction::Put { uri, key, file, ttl, stale_after } => {
            let key = KeyRef::new(&key)?;
            let tier = stores::open_cache(&uri).await?;
            let data = payload::read(&file).await?;
            let now = SystemClock.now();
            let after = |duration| now.saturating_add(duration);
            let mut value = CacheValue::new(data);
            value.expire = ttl.map(after);
            value.stale = stale_after.map(after);
            let written = tier.write(key, value, Condition::Always).await;
            written.map_err(|error| Exit::from(error).at(&uri))?;
            if output.json() { output.object(&json!({ "stored": true })) } else { Ok(()) }
        }
        CacheAction::Rm { uri, key } => {
            let key = KeyRef::new(&key)?;
            let tier = stores::open_existing_cache(&uri).await?;
            let removed = tier.remove(key, Condition::Always).await;
            match removed.map_err(|error| Exit::from(error).at(&uri))? {
                DeleteStatus::Deleted(layers) => {
                    output.line(&json!({ "deleted": layers }), &format!("deleted {layers}"))
                }
                DeleteStatus::Missing => Err(missing(&uri)),
            }
        }
        CacheAction::Stat { uri, key: Some(key) } => {
            let tier = stores::open_existing_cache(&uri).await?;
            let found = find_in(&tier, &uri, &key).await?;
            stat_entry(&found, &tier.describe(found.source), output)
        }
        CacheAction::Stat { uri, key: None } => {
            let tier = stores::open_existing_cache(&uri).await?;
            let Some(usage) = tier.usage() else {
                return Err(Exit::failed(format!(
                    "{} does not know how full it is",
                    stores::shown(&uri)
                )));
            };
            let object = json!({
                "entries": usage.entries, "bytes": usage.bytes, "capacity": usage.capacity,
            });
            let text = format!("entries={} bytes={}", usage.entries, usage.bytes);
            output.line(&object, &text)
        }
    }
}

async fn find(uri: &str, key: &str) -> Result<Found<bytes::Bytes>, Exit> {
    find_in(&stores::open_existing_cache(uri).await?, uri, key).await
}

async fn find_in(
    tier: &SharedTier<bytes::Bytes>,
    uri: &str,
    key: &str,
) -> Result<Found<bytes::Bytes>, Exit> {
    let key = KeyRef::new(key)?;
    let found = tier.read(key).await.map_err(|error| Exit::from(error).at(uri))?;
    found.ok_or_else(|| missing(uri))
}

fn missing(uri: &str) -> Exit {
    Exit::new(Code::NotFound, format!("{} has no entry with this key", stores::shown(uri)))
}

fn stat_entry(found: &Found<bytes::Bytes>, source: &str, output: &mut Output) -> Result<(), Exit> {
    let value = &found.value;
    let now = SystemClock.now();
    let left = |until: Option<Timestamp>| until.map(|until| until.since(now).as_millis());
    let freshness = if value.age_at(now) == Age::Fresh { "fresh" } else { "stale" };
    let object = json!({
        "size": value.data.len(), "freshness": freshness, "source": source,
        "ttl_ms": left(value.expire), "stale_in_ms": left(value.stale),
    });
    let ttl = left(value.expire).map_or_else(|| "never expires".into(), |ms| format!("ttl={ms}ms"));
    output.line(&object, &format!("size={} {freshness} {ttl}", value.data.len()))
}
