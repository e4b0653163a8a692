//! The settings of a tiered cache.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{SharedClock, SystemClock};
use metrics::counter;

use super::debts::Debts;
use super::layer::Layer;
use super::ledger::DebtLedger;
use super::order::Order;
use super::payer::{Alarm, Attendance};
use super::repairs::Repairs;
use super::tally::LayerTally;
use super::{RefillCounters, Tiered};
use crate::compose::{
    AnyOffload, CompositionLayer, Observer, OnLayerError, OptimisticParallelWritePolicy,
    RefillPolicy, SequentialReadPolicy,
};

/// The settings of a [`Tiered`] cache.
#[derive(Debug)]
pub struct TieredBuilder<L1, L2, R = SequentialReadPolicy, W = OptimisticParallelWritePolicy> {
    l1: L1,
    l2: L2,
    read: R,
    write: W,
    settings: Settings,
}

/// What has the same type whatever the layers and policies are.
#[derive(Debug)]
struct Settings {
    label: String,
    refill: RefillPolicy,
    l1_ttl_max: Option<Duration>,
    on_layer_error: OnLayerError,
    clock: SharedClock,
    offload: AnyOffload,
    ledger: Option<DebtLedger>,
}

impl<L1, L2> TieredBuilder<L1, L2> {
    pub(super) fn new(l1: L1, l2: L2) -> Self {
        Self {
            l1,
            l2,
            read: SequentialReadPolicy,
            write: OptimisticParallelWritePolicy,
            settings: Settings {
                label: String::from("tiered"),
                refill: RefillPolicy::Always,
                l1_ttl_max: None,
                on_layer_error: OnLayerError::Miss,
                clock: SystemClock::shared(),
                offload: AnyOffload::default(),
                ledger: None,
            },
        }
    }
}

impl<L1, L2, R, W> TieredBuilder<L1, L2, R, W> {
    /// The name in metrics, events and source paths. Default: `tiered`.
    #[must_use]
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.settings.label = label.into();
        self
    }

    /// When each layer is read. Default: [`SequentialReadPolicy`].
    #[must_use]
    pub fn read<P>(self, read: P) -> TieredBuilder<L1, L2, P, W> {
        let Self { l1, l2, write, settings, .. } = self;
        TieredBuilder { l1, l2, read, write, settings }
    }

    /// When each layer is written. Default: [`OptimisticParallelWritePolicy`].
    #[must_use]
    pub fn write<P>(self, write: P) -> TieredBuilder<L1, L2, R, P> {
        let Self { l1, l2, read, settings, .. } = self;
        TieredBuilder { l1, l2, read, write, settings }
    }

    /// Whether a hit of L2 fills L1. Default: [`RefillPolicy::Always`].
    #[must_use]
    pub fn refill(mut self, refill: RefillPolicy) -> Self {
        self.settings.refill = refill;
        self
    }

    /// How long a copy may live in L1 at most. Default: as long as in L2.
    ///
    /// The bound on how long this process serves what another one has replaced, as long as no
    /// message tells it.
    #[must_use]
    pub fn l1_ttl_max(mut self, ttl_max: Duration) -> Self {
        self.settings.l1_ttl_max = Some(ttl_max);
        self
    }

    /// What a miss beside a layer that failed means. Default: [`OnLayerError::Miss`].
    #[must_use]
    pub fn on_layer_error(mut self, meaning: OnLayerError) -> Self {
        self.settings.on_layer_error = meaning;
        self
    }

    /// What decides about expiry. Default: the system clock.
    #[must_use]
    pub fn clock(mut self, clock: SharedClock) -> Self {
        self.settings.clock = clock;
        self
    }

    /// Where the losers of races go on. Default: a bounded executor of its own.
    #[must_use]
    pub fn offload(mut self, offload: impl Into<AnyOffload>) -> Self {
        self.settings.offload = offload.into();
        self
    }

    /// Writes down what layers owe, so that it outlives the process; with what was written down before.
    /// Default: it is in memory only.
    ///
    /// Paying what is owed from before begins with the first write or remove, or when a
    /// [`Cache`](crate::cache::Cache) is built over the tier.
    #[must_use]
    pub fn debts(mut self, ledger: DebtLedger) -> Self {
        self.settings.ledger = Some(ledger);
        self
    }

    /// The tiered cache.
    pub fn build(self) -> Tiered<L1, L2, R, W> {
        let Self { l1, l2, read, write, settings } = self;
        let Settings { label, refill, l1_ttl_max, on_layer_error, clock, offload, ledger } =
            settings;
        let (alarm, repairs) = (Arc::<Alarm>::default(), Arc::<Repairs>::default());
        let debts = |layer: CompositionLayer| {
            let debts = Debts::new(&label, layer, Arc::clone(&alarm), Arc::clone(&repairs));
            Arc::new(match &ledger {
                Some(ledger) => {
                    let (ledger, owed) = ledger.of(layer, &label);
                    debts.written_in(ledger, owed, || clock.instant())
                }
                None => debts,
            })
        };
        let refills = |outcome: &'static str| {
            counter!(
                "larder_cache_refills_total",
                "composition" => label.clone(),
                "outcome" => outcome
            )
        };
        Tiered {
            l1: Arc::new(Layer {
                tier: l1,
                which: CompositionLayer::L1,
                debts: debts(CompositionLayer::L1),
                tally: LayerTally::new(&label, CompositionLayer::L1),
                ttl_max: l1_ttl_max,
            }),
            l2: Arc::new(Layer {
                tier: l2,
                which: CompositionLayer::L2,
                debts: debts(CompositionLayer::L2),
                tally: LayerTally::new(&label, CompositionLayer::L2),
                ttl_max: None,
            }),
            read,
            write,
            refill,
            on_layer_error,
            clock,
            offload,
            order: Arc::new(Order::new()),
            observer: Observer::new(label.as_str()),
            refills: RefillCounters {
                done: refills("done"),
                not_newer: refills("not-newer"),
                superseded: refills("superseded"),
                failed: refills("failed"),
            },
            attendance: Attendance(Arc::clone(&alarm)),
            repairs,
        }
    }
}
