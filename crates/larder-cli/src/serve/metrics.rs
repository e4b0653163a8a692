//! What is counted: for Prometheus, and in plain numbers for the status.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::http::Method;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use serde_json::{Map, Value};

use crate::exit::Exit;

const REQUESTS: &str = "larder_http_requests_total";
const DURATION: &str = "larder_http_request_duration_seconds";
const SECONDS: &[f64] =
    &[0.000_1, 0.000_25, 0.000_5, 0.001, 0.002_5, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1.0, 5.0];
/// How often the recorder tidies up what it collected.
const UPKEEP: Duration = Duration::from_secs(5);

/// The counters of the daemon.
#[derive(Debug)]
pub(crate) struct Metrics {
    prometheus: PrometheusHandle,
    operations: [Counted; OPERATIONS.len()],
}

#[derive(Debug, Default)]
struct Counted {
    requests: AtomicU64,
    failures: AtomicU64,
}

/// The operations that the status counts: method, route and name.
const OPERATIONS: &[(Method, &str, &str)] = &[
    (Method::GET, "/v1/cache/{cache}/{key}", "cache_get"),
    (Method::PUT, "/v1/cache/{cache}/{key}", "cache_put"),
    (Method::DELETE, "/v1/cache/{cache}/{key}", "cache_remove"),
    (Method::DELETE, "/v1/cache/{cache}", "cache_remove_tag"),
    (Method::POST, "/v1/spool/{spool}", "spool_store_new"),
    (Method::PUT, "/v1/spool/{spool}/{id}", "spool_store"),
    (Method::GET, "/v1/spool/{spool}/{id}", "spool_load"),
    (Method::DELETE, "/v1/spool/{spool}/{id}", "spool_remove"),
    (Method::GET, "/v1/spool/{spool}", "spool_list"),
    (Method::POST, "/v1/spool/{spool}/compact", "spool_compact"),
    (Method::GET, "/v1/consensus", "consensus_keys"),
    (Method::GET, "/v1/consensus/{key}", "consensus_head"),
    (Method::PUT, "/v1/consensus/{key}", "consensus_compare_and_set"),
    (Method::GET, "/v1/consensus/{key}/versions", "consensus_scan"),
    (Method::DELETE, "/v1/consensus/{key}/versions", "consensus_truncate"),
];

/// Makes the recorder that everything in this process counts into.
pub(crate) fn install() -> Result<Metrics, Exit> {
    let failed =
        |error: &dyn std::fmt::Display| Exit::failed(format!("cannot set up the metrics: {error}"));
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_duration_seconds".to_owned()), SECONDS)
        .map_err(|error| failed(&error))?
        .build_recorder();
    let prometheus = recorder.handle();
    metrics::set_global_recorder(recorder).map_err(|error| failed(&error))?;
    metrics::describe_counter!(REQUESTS, "Requests by method, route and status");
    metrics::describe_histogram!(DURATION, "Seconds from the head of a request to its answer");
    let upkeep = prometheus.clone();
    tokio::spawn(async move {
        loop {
            tokio::time::sleep(UPKEEP).await;
            upkeep.run_upkeep();
        }
    });
    Ok(Metrics { prometheus, operations: std::array::from_fn(|_| Counted::default()) })
}

impl Metrics {
    /// Counts one request. `route` is the pattern, never the path: paths hold keys.
    pub(crate) fn request(&self, method: &Method, route: &str, status: u16, took: Duration) {
        let at = OPERATIONS.iter().position(|(m, r, _)| m == method && *r == route);
        if let Some(counted) = at.and_then(|at| self.operations.get(at)) {
            counted.requests.fetch_add(1, Ordering::Relaxed);
            if status >= 500 {
                counted.failures.fetch_add(1, Ordering::Relaxed);
            }
        }
        let method = known_method(method);
        let labels = [
            ("method", method.to_owned()),
            ("route", route.to_owned()),
            ("status", status.to_string()),
        ];
        metrics::counter!(REQUESTS, &labels).increment(1);
        metrics::histogram!(DURATION, &labels[..2]).record(took.as_secs_f64());
    }

    /// Requests and failures by operation.
    pub(crate) fn operations(&self) -> Value {
        let mut object = Map::new();
        for ((_, _, name), counted) in OPERATIONS.iter().zip(&self.operations) {
            let numbers = serde_json::json!({
                "requests": counted.requests.load(Ordering::Relaxed),
                "failures": counted.failures.load(Ordering::Relaxed),
            });
            object.insert((*name).to_owned(), numbers);
        }
        object.into()
    }

    /// Everything in the text format of Prometheus.
    pub(crate) fn render(&self) -> String {
        self.prometheus.render()
    }
}

/// The method as a label; invented ones share one, so that clients cannot grow the metrics.
fn known_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::PUT => "PUT",
        Method::POST => "POST",
        Method::DELETE => "DELETE",
        Method::HEAD => "HEAD",
        Method::OPTIONS => "OPTIONS",
        _ => "other",
    }
}
