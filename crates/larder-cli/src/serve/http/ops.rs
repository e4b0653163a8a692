//! For operators: health, readiness, metrics and the status.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use larder::cache::{BreakerState, CacheStats, CoherenceStats, TierStats};
use larder::error::chain;
use larder::{Consensus, Spool};
use serde_json::{Map, Value, json};

use crate::cmd::spool::stats_object;
use crate::serve::state::App;

/// The process answers.
pub(crate) async fn healthz() -> Response {
    json(&json!({ "status": "ok" }))
}

/// The daemon should get traffic.
pub(crate) async fn readyz(State(app): State<Arc<App>>) -> Response {
    let reasons = app.not_ready();
    let mut response = json(&json!({ "ready": reasons.is_empty(), "reasons": reasons }));
    if !reasons.is_empty() {
        *response.status_mut() = StatusCode::SERVICE_UNAVAILABLE;
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
    }
    response
}

/// Everything that is counted, for Prometheus.
pub(crate) async fn metrics(State(app): State<Arc<App>>) -> Response {
    measure(&app).await;
    let text = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, text)], app.metrics.render()).into_response()
}

/// Live numbers as JSON.
pub(crate) async fn status(State(app): State<Arc<App>>) -> Response {
    let mut spools = Map::new();
    for (name, spool) in &app.spools {
        let shown = match spool.stats().await {
            Ok(stats) => {
                let mut object = stats_object(&stats, spool.unhealthy_reason());
                object["durability"] = spool.durability().as_str().into();
                object
            }
            Err(error) => json!({ "error": chain(&error) }),
        };
        spools.insert(name.clone(), shown);
    }
    let caches: Map<String, Value> = app
        .caches
        .iter()
        .map(|(name, cache)| {
            let mut object = cache_object(&cache.stats());
            object["bus"] = cache.coherence().map_or(Value::Null, |stats| bus_object(&stats));
            (name.clone(), object)
        })
        .collect();
    let reasons = app.not_ready();
    json(&json!({
        "version": env!("CARGO_PKG_VERSION"),
        "pid": std::process::id(),
        "uptime_ms": u64::try_from(app.uptime().as_millis()).unwrap_or(u64::MAX),
        "ready": reasons.is_empty(),
        "reasons": reasons,
        "caches": caches,
        "spools": spools,
        "consensus": { "durability": app.consensus.durability().as_str() },
        "operations": app.metrics.operations(),
    }))
}

/// What spools count besides, and what it is called in the metrics.
const DETAIL_COUNTERS: &[(&str, &str)] = &[
    ("compacted_bytes", "larder_spool_compacted_bytes_total"),
    ("scrubbed_bytes", "larder_spool_scrubbed_bytes_total"),
    ("scrub_passes", "larder_spool_scrub_passes_total"),
    ("gate_closings", "larder_spool_gate_closings_total"),
    ("gate_refused", "larder_spool_gate_refused_total"),
    ("read_errors", "larder_spool_read_errors_total"),
];

/// Sets the gauges to what is true now.
async fn measure(app: &App) {
    metrics::gauge!("larder_ready").set(if app.not_ready().is_empty() { 1.0 } else { 0.0 });
    metrics::gauge!("larder_uptime_seconds").set(app.uptime().as_secs_f64());
    for (name, spool) in &app.spools {
        let labels = [("spool", name.clone())];
        let healthy = if spool.unhealthy_reason().is_none() { 1.0 } else { 0.0 };
        metrics::gauge!("larder_spool_healthy", &labels).set(healthy);
        let Ok(stats) = spool.stats().await else { continue };
        metrics::gauge!("larder_spool_entries", &labels).set(float(stats.entries));
        metrics::gauge!("larder_spool_bytes", &labels).set(float(stats.bytes));
        metrics::gauge!("larder_spool_corrupt_entries", &labels).set(float(stats.corrupt));
        metrics::gauge!("larder_spool_disk_bytes", &labels).set(float(stats.disk_bytes));
        for condition in &stats.conditions {
            let labels = [("spool", name.clone()), ("condition", condition.name.to_owned())];
            // 0 is healthy, 1 degraded, 2 shedding.
            let level = f64::from(condition.state as u8);
            metrics::gauge!("larder_spool_condition", &labels).set(level);
        }
        for (detail, counter) in DETAIL_COUNTERS {
            if let Some((_, count)) = stats.details.iter().find(|(name, _)| name == detail) {
                metrics::counter!(*counter, &labels).absolute(*count);
            }
        }
    }
    for (name, cache) in &app.caches {
        let stats = cache.stats();
        if let Some(usage) = stats.usage {
            let labels = [("cache", name.clone())];
            metrics::gauge!("larder_cache_entries", &labels).set(float(usage.entries));
            metrics::gauge!("larder_cache_bytes", &labels).set(float(usage.bytes));
        }
        stats.tiers.into_iter().for_each(|tier| measure_tier(name, tier));
    }
}

/// The numbers of one tier of a cache. What it has answered is counted where that happens.
fn measure_tier(cache: &str, tier: TierStats) {
    let labels = [("cache", cache.to_owned()), ("tier", tier.path)];
    for (counter, count) in [
        ("larder_cache_tier_stale_hits_total", tier.stale_hits),
        ("larder_cache_tier_misses_total", tier.misses),
        ("larder_cache_tier_errors_total", tier.errors),
        ("larder_cache_tier_refills_total", tier.refills),
    ] {
        metrics::counter!(counter, &labels).absolute(count);
    }
    metrics::gauge!("larder_cache_tier_owed_keys", &labels).set(float(tier.owed_keys));
    metrics::gauge!("larder_cache_tier_unwritten_debts", &labels).set(float(tier.unwritten_debts));
    metrics::gauge!("larder_cache_tier_owes_all", &labels).set(f64::from(u8::from(tier.owes_all)));
    if let Some(guard) = tier.guard {
        // 0 is closed, 1 half-open, 2 open.
        let level = match guard.state {
            BreakerState::Closed => 0.0,
            BreakerState::HalfOpen => 1.0,
            _ => 2.0,
        };
        metrics::gauge!("larder_cache_tier_breaker", &labels).set(level);
    }
    if let Some(usage) = tier.usage {
        metrics::gauge!("larder_cache_tier_entries", &labels).set(float(usage.entries));
        metrics::gauge!("larder_cache_tier_bytes", &labels).set(float(usage.bytes));
    }
}

fn cache_object(stats: &CacheStats) -> Value {
    let usage = stats.usage;
    json!({
        "entries": usage.map(|usage| usage.entries),
        "bytes": usage.map(|usage| usage.bytes),
        "capacity": usage.and_then(|usage| usage.capacity),
        "hits": stats.hits, "stale_hits": stats.stale_hits, "misses": stats.misses,
        "invalidated": stats.invalidated, "puts": stats.puts, "removes": stats.removes,
        "errors": stats.errors, "loads": stats.loads, "load_errors": stats.load_errors,
        "tiers": stats.tiers.iter().map(tier_object).collect::<Vec<_>>(),
    })
}

/// How well a cache hears other processes; `null` for one without a bus.
fn bus_object(stats: &CoherenceStats) -> Value {
    json!({
        "trusted": stats.trusted, "peers": stats.peers,
        "sent": stats.sent, "send_errors": stats.send_errors, "left_out": stats.left_out,
        "received": stats.received, "changes": stats.changes, "gaps": stats.gaps,
        "unreadable": stats.unreadable, "refused_versions": stats.refused_versions,
        "forgotten": stats.forgotten, "subscriptions": stats.subscriptions,
    })
}

fn tier_object(tier: &TierStats) -> Value {
    let guard = tier.guard.map(|guard| {
        json!({
            "state": guard.state.as_str(),
            "retry_in_ms": guard.retry_in.map(|wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)),
            "opened": guard.opened, "timeouts": guard.timeouts,
            "failures": guard.failures, "refused": guard.refused,
        })
    });
    json!({
        "tier": tier.path,
        "hits": tier.hits, "stale_hits": tier.stale_hits, "misses": tier.misses,
        "errors": tier.errors, "refills": tier.refills,
        "owed_keys": tier.owed_keys, "owes_all": tier.owes_all,
        "unwritten_debts": tier.unwritten_debts,
        "breaker": guard,
        "entries": tier.usage.map(|usage| usage.entries),
        "bytes": tier.usage.map(|usage| usage.bytes),
        "capacity": tier.usage.and_then(|usage| usage.capacity),
    })
}

#[allow(clippy::cast_precision_loss, reason = "gauges are floats")]
fn float(number: u64) -> f64 {
    number as f64
}

/// An answer of one JSON value.
pub(crate) fn json(value: &Value) -> Response {
    let json = (header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    ([json], format!("{value}\n")).into_response()
}

/// An answer of JSON values, one a line.
pub(crate) fn ndjson(body: Body) -> Response {
    let ndjson = (header::CONTENT_TYPE, HeaderValue::from_static("application/x-ndjson"));
    ([ndjson], body).into_response()
}
