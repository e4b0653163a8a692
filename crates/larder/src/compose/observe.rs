//! What the outside sees of a composition: counters and events.
//!
//! Counters, each with the label `composition` (the name given to [`Observer::new`]):
//!
//! | name | further labels | counts |
//! |---|---|---|
//! | `larder_compose_layer_errors_total` | `operation`, `layer` | each error of a layer, also one that ended in the background |
//! | `larder_compose_degraded_total` | `operation` | operations that went on without a layer |
//! | `larder_compose_failed_total` | `operation` | operations that failed |
//! | `larder_compose_background_refused_total` | `operation`, `layer` | calls that lost a race and that the background refused |
//! | `larder_compose_background_lost_total` | `operation`, `layer` | background writes that were cut off before they ended |
//!
//! `operation` is `read`, `write` or `remove`; `layer` is `l1` or `l2`.
//!
//! Events have the target `larder::compose`, the fields `composition`, `operation`, `layer` and
//! `error`, and these levels:
//!
//! - *error*: an operation failed because of its layers;
//! - *warn*: it went on without one, or a background call failed, was cut off or (a write) refused;
//! - *debug*: a background read was refused;
//! - *trace*: nothing is wrong.
//!
//! Keys and values appear in none of them.

use std::error::Error;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use larder_core::error::chain;
use metrics::{Counter, counter, describe_counter};

use super::{CompositionError, CompositionLayer, RefusedReason};

/// Counts and reports what goes wrong in one composition. Clones share it.
///
/// A composite makes one and lends it to every call. Policies of your own report through it as
/// well, so that no error of a layer is silent.
#[derive(Clone)]
pub struct Observer(Arc<Inner>);

struct Inner {
    name: String,
    scope: u64,
    operations: [Counters; 3],
}

/// What is attempted on the layers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Operation {
    /// A read.
    Read,
    /// A write.
    Write,
    /// A remove.
    Remove,
}

impl Operation {
    /// The word used in metrics and events: `read`, `write` or `remove`.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Remove => "remove",
        }
    }
}

impl Observer {
    /// An observer whose counters are labelled `composition = name`.
    ///
    /// The counters are registered here, once, with the recorder that is installed now.
    pub fn new(name: impl Into<String>) -> Self {
        static SCOPES: AtomicU64 = AtomicU64::new(1);
        let name = name.into();
        let operations = [Operation::Read, Operation::Write, Operation::Remove]
            .map(|operation| Counters::register(&name, operation));
        Self(Arc::new(Inner { name, scope: SCOPES.fetch_add(1, Ordering::Relaxed), operations }))
    }

    /// The name of the composition.
    pub fn name(&self) -> &str {
        &self.0.name
    }

    /// A number that no other observer of this process has. It keeps the background work of two
    /// compositions apart that share an offload and have keys in common.
    pub fn scope(&self) -> u64 {
        self.0.scope
    }

    /// Notes that `operation` went on without `layer`.
    pub fn degraded<E: Error + 'static>(
        &self,
        operation: Operation,
        layer: CompositionLayer,
        error: &E,
    ) {
        let counters = self.counters(operation);
        counters.layer(layer).errors.increment(1);
        counters.degraded.increment(1);
        let what = match operation {
            Operation::Read => "degraded: a layer failed and the other one decided",
            Operation::Write | Operation::Remove => "partial: one layer failed, the other has it",
        };
        tracing::warn!(
            target: "larder::compose",
            composition = self.name(),
            operation = operation.as_str(),
            layer = layer.as_str(),
            error = chain(error),
            "{what}"
        );
    }

    /// Notes that `operation` failed.
    pub fn failed<E: Error + 'static>(&self, operation: Operation, error: &CompositionError<E>) {
        let counters = self.counters(operation);
        for layer in [CompositionLayer::L1, CompositionLayer::L2] {
            if error.of(layer).is_some() {
                counters.layer(layer).errors.increment(1);
            }
        }
        counters.failed.increment(1);
        let layer = match error {
            CompositionError::Layer { layer, .. } => layer.as_str(),
            CompositionError::BothLayersFailed(_) => "both",
        };
        tracing::error!(
            target: "larder::compose",
            composition = self.name(),
            operation = operation.as_str(),
            layer,
            error = chain(error),
            "failed"
        );
    }

    /// Notes that a call which went on in the background after `operation` returned has failed.
    pub fn background_failed<E: Error + 'static>(
        &self,
        operation: Operation,
        layer: CompositionLayer,
        error: &E,
    ) {
        self.counters(operation).layer(layer).errors.increment(1);
        tracing::warn!(
            target: "larder::compose",
            composition = self.name(),
            operation = operation.as_str(),
            layer = layer.as_str(),
            error = chain(error),
            "a background call failed"
        );
    }

    /// Notes that the background refused the call to `layer`, which was dropped.
    ///
    /// A write is warned about, because the layer now lacks it. A read is told at debug level
    /// only: nobody was going to use its answer, and an overload would fill the log.
    pub fn background_refused(
        &self,
        operation: Operation,
        layer: CompositionLayer,
        reason: RefusedReason,
    ) {
        self.counters(operation).layer(layer).refused.increment(1);
        macro_rules! tell {
            ($level:ident) => {
                tracing::$level!(
                    target: "larder::compose",
                    composition = self.name(),
                    operation = operation.as_str(),
                    layer = layer.as_str(),
                    reason = reason.as_str(),
                    "the background refused a call that lost a race"
                )
            };
        }
        match operation {
            Operation::Read => tell!(debug),
            Operation::Write | Operation::Remove => tell!(warn),
        }
    }

    /// Notes that a background call to `layer` was cut off before it ended.
    pub fn background_lost(&self, operation: Operation, layer: CompositionLayer) {
        self.counters(operation).layer(layer).lost.increment(1);
        tracing::warn!(
            target: "larder::compose",
            composition = self.name(),
            operation = operation.as_str(),
            layer = layer.as_str(),
            "a background call was cut off before it ended"
        );
    }

    /// Notes that both layers took part. Costs nothing while the trace level is off.
    pub fn complete(&self, operation: Operation) {
        tracing::trace!(
            target: "larder::compose",
            composition = self.name(),
            operation = operation.as_str(),
            "both layers took part"
        );
    }

    fn counters(&self, operation: Operation) -> &Counters {
        let [read, write, remove] = &self.0.operations;
        match operation {
            Operation::Read => read,
            Operation::Write => write,
            Operation::Remove => remove,
        }
    }
}

impl fmt::Debug for Observer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Observer").field(&self.name()).finish()
    }
}

const LAYER_ERRORS: &str = "larder_compose_layer_errors_total";
const DEGRADED: &str = "larder_compose_degraded_total";
const FAILED: &str = "larder_compose_failed_total";
const REFUSED: &str = "larder_compose_background_refused_total";
const LOST: &str = "larder_compose_background_lost_total";

struct Counters {
    degraded: Counter,
    failed: Counter,
    l1: LayerCounters,
    l2: LayerCounters,
}

struct LayerCounters {
    errors: Counter,
    refused: Counter,
    lost: Counter,
}

impl Counters {
    fn register(name: &str, operation: Operation) -> Self {
        describe_counter!(LAYER_ERRORS, "errors of a layer, also of calls in the background");
        describe_counter!(DEGRADED, "operations that went on without a layer");
        describe_counter!(FAILED, "operations that failed");
        describe_counter!(REFUSED, "calls that lost a race and that the background refused");
        describe_counter!(LOST, "background writes that were cut off before they ended");
        let composition = name.to_owned();
        let operation = operation.as_str();
        let layer = |layer: CompositionLayer| {
            let of = |counter: &'static str| {
                counter!(
                    counter,
                    "composition" => composition.clone(),
                    "operation" => operation,
                    "layer" => layer.as_str()
                )
            };
            LayerCounters { errors: of(LAYER_ERRORS), refused: of(REFUSED), lost: of(LOST) }
        };
        let of = |counter: &'static str| counter!(counter, "composition" => composition.clone(), "operation" => operation);
        Self {
            degraded: of(DEGRADED),
            failed: of(FAILED),
            l1: layer(CompositionLayer::L1),
            l2: layer(CompositionLayer::L2),
        }
    }

    fn layer(&self, layer: CompositionLayer) -> &LayerCounters {
        match layer {
            CompositionLayer::L1 => &self.l1,
            CompositionLayer::L2 => &self.l2,
        }
    }
}
