//! A spool with a gate, whose place can be damaged: right, and wrong in one way each.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use bytes::Bytes;
use larder_core::channel::channel;
use larder_core::{
    BackendError, BoxError, Durability, Effect, EnumerateHandle, ListingSender, ManualClock,
    MemorySpool, SharedSpool, Spool, SpoolCondition, SpoolEntry, SpoolError, SpoolHealth, SpoolId,
    SpoolSender, SpoolStats, Timestamp,
};
use larder_testkit::{Contract, Harm, Need, Place, Subject};

use crate::{broken, is_caught_by};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    TakesStores,
    WritesWhatItRefuses,
    RefusesRemoves,
    RefusesToCleanUp,
    SaysNothing,
    TellsSecrets,
    NeverOpensAgain,
    ForgetsDamageAtTheNextOpen,
    DoesNotRememberTheAcknowledgement,
    AcknowledgesInSilence,
    CompactsAwayTheDamage,
    ShedsForRot,
    ServesRot,
}

/// What lies at the place, whoever has it open.
#[derive(Debug, Default)]
struct Lying {
    payloads: Mutex<BTreeMap<SpoolId, Bytes>>,
    rotten: Mutex<Vec<SpoolId>>,
    /// A part was lost and nobody has acknowledged it.
    torn: AtomicBool,
    was_shut: AtomicBool,
}

#[derive(Clone, Debug)]
struct Gated {
    inner: MemorySpool,
    lying: Arc<Lying>,
    defect: Defect,
    closed: Arc<AtomicBool>,
    shut: bool,
    torn: Arc<AtomicBool>,
}

fn subject(defect: Defect) -> Subject<SharedSpool> {
    Subject::new(format!("{defect:?}"), move || {
        let clock = ManualClock::default();
        let inner = MemorySpool::new(clock.shared(), MemorySpool::BYTES_MAX, 1 << 20);
        let lying = Arc::new(Lying::default());
        let open = |shut: bool| {
            let (inner, lying) = (inner.clone(), Arc::clone(&lying));
            move || {
                let (inner, lying) = (inner.clone(), Arc::clone(&lying));
                let torn = lying.torn.load(Ordering::SeqCst);
                if torn && defect == Defect::ForgetsDamageAtTheNextOpen {
                    lying.torn.store(false, Ordering::SeqCst);
                }
                let again = lying.was_shut.fetch_or(shut, Ordering::SeqCst);
                let shut = shut || (again && defect == Defect::NeverOpensAgain);
                let (closed, torn) = (Arc::default(), Arc::new(AtomicBool::new(torn)));
                let gated = Gated { inner, lying, defect, closed, shut, torn };
                std::future::ready(Ok::<_, BoxError>(SharedSpool::new(gated)))
            }
        };
        let place = Place::new(open(false)).with_closed_gate(open(true)).with_clock(clock);
        let lying = Arc::clone(&lying);
        Ok(place.with_harm(move |harm| {
            lying.harm(harm);
            Ok(())
        }))
    })
    .offering([Need::Clock, Need::Reopen, Need::Gate, Need::Damage])
}

impl Lying {
    fn harm(&self, harm: Harm<'_>) {
        let mut payloads = self.payloads.lock().unwrap();
        match harm {
            Harm::Loss => {
                let half = payloads.len() / 2;
                while payloads.len() > half {
                    payloads.pop_first();
                }
                self.torn.store(true, Ordering::SeqCst);
            }
            Harm::Rot(rotten) => {
                let ids = payloads.iter().filter(|(_, data)| *data == rotten).map(|(id, _)| *id);
                self.rotten.lock().unwrap().extend(ids);
            }
        }
    }
}

impl Gated {
    fn alive(&self) -> Result<(), SpoolError> {
        if self.closed.load(Ordering::SeqCst) {
            return Err(SpoolError::ShuttingDown { effect: Effect::NotApplied });
        }
        Ok(())
    }

    fn reason(&self) -> Option<&'static str> {
        let rot = !self.lying.rotten.lock().unwrap().is_empty();
        if self.shut && self.defect == Defect::TellsSecrets {
            return Some("/var/spool has 17 bytes left");
        }
        if self.shut {
            return Some("too little of something");
        }
        let torn = self.torn.load(Ordering::SeqCst);
        (torn || (rot && self.defect == Defect::ShedsForRot)).then_some("a part is lost")
    }

    fn is_there(&self, id: SpoolId) -> bool {
        self.lying.payloads.lock().unwrap().contains_key(&id)
    }

    fn is_rotten(&self, id: SpoolId) -> bool {
        self.defect != Defect::ServesRot && self.lying.rotten.lock().unwrap().contains(&id)
    }
}

fn corrupt(id: SpoolId) -> SpoolError {
    SpoolError::Corrupt { id: Some(id), what: "rot".into() }
}

impl Spool for Gated {
    async fn load(&self, id: SpoolId) -> Result<Bytes, SpoolError> {
        self.alive()?;
        if !self.is_there(id) {
            return Err(SpoolError::NotFound { id });
        }
        if self.is_rotten(id) {
            return Err(corrupt(id));
        }
        self.inner.load(id).await
    }

    async fn load_many(&self, ids: &[SpoolId]) -> Vec<Result<Bytes, SpoolError>> {
        let mut answers = Vec::new();
        for id in ids {
            answers.push(self.load(*id).await);
        }
        answers
    }

    async fn store(
        &self,
        id: SpoolId,
        data: Bytes,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.store_many(vec![(id, data)], force_sync, deadline).await
    }

    async fn store_many(
        &self,
        entries: Vec<(SpoolId, Bytes)>,
        force_sync: bool,
        deadline: Option<Instant>,
    ) -> Result<(), SpoolError> {
        self.alive()?;
        let refusal = self.reason().filter(|_| self.defect != Defect::TakesStores);
        if refusal.is_none() || self.defect == Defect::WritesWhatItRefuses {
            self.inner.store_many(entries.clone(), force_sync, deadline).await?;
            self.lying.payloads.lock().unwrap().extend(entries);
        }
        refusal.map_or(Ok(()), |reason| Err(SpoolError::Unhealthy { reason }))
    }

    async fn remove(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.remove_many(vec![id], false).await
    }

    async fn remove_durable(&self, id: SpoolId) -> Result<(), SpoolError> {
        self.remove_many(vec![id], true).await
    }

    async fn remove_many(&self, ids: Vec<SpoolId>, durable: bool) -> Result<(), SpoolError> {
        self.alive()?;
        if let Some(reason) = self.reason().filter(|_| self.defect == Defect::RefusesRemoves) {
            return Err(SpoolError::Unhealthy { reason });
        }
        self.lying.payloads.lock().unwrap().retain(|id, _| !ids.contains(id));
        self.inner.remove_many(ids, durable).await
    }

    fn enumerate(
        &self,
        sender: SpoolSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        self.alive()?;
        let (inner_sender, mut receiver) = channel(64);
        drop(self.inner.enumerate(inner_sender, start_time)?);
        let (handle, mut report) = EnumerateHandle::pair();
        let spool = self.clone();
        std::thread::spawn(move || {
            while let Some(SpoolEntry::Item { id, data }) = receiver.recv_blocking() {
                let entry = if spool.is_rotten(id) {
                    report.corrupt();
                    SpoolEntry::Corrupt { id: Some(id), error: corrupt(id) }
                } else if spool.is_there(id) {
                    report.item(u64::try_from(data.len()).unwrap_or(0));
                    SpoolEntry::Item { id, data }
                } else {
                    continue;
                };
                if sender.send_blocking(entry).is_err() {
                    return report.abort(None);
                }
            }
            report.complete();
        });
        Ok(handle)
    }

    fn list(
        &self,
        sender: ListingSender,
        start_time: Timestamp,
    ) -> Result<EnumerateHandle, SpoolError> {
        self.alive()?;
        self.inner.list(sender, start_time)
    }

    async fn cleanup(&self) -> Result<(), SpoolError> {
        self.alive()?;
        match self.reason().filter(|_| self.defect == Defect::RefusesToCleanUp) {
            Some(reason) => Err(SpoolError::Unhealthy { reason }),
            None => Ok(()),
        }
    }

    async fn shutdown(&self) -> Result<(), SpoolError> {
        self.closed.store(true, Ordering::SeqCst);
        Ok(())
    }

    async fn advise_low_memory(&self) -> Result<isize, SpoolError> {
        self.alive().map(|()| 0)
    }

    async fn compact(&self) -> Result<(), SpoolError> {
        self.alive()?;
        if self.torn.load(Ordering::SeqCst) && self.defect != Defect::CompactsAwayTheDamage {
            return Err(BackendError::new("memory", "compact", "a part is lost").into());
        }
        Ok(())
    }

    fn unhealthy_reason(&self) -> Option<&'static str> {
        self.reason().filter(|_| self.defect != Defect::SaysNothing)
    }

    async fn acknowledge(&self) -> Result<Vec<String>, SpoolError> {
        self.alive()?;
        let torn = self.torn.swap(false, Ordering::SeqCst);
        let told = torn && self.defect != Defect::AcknowledgesInSilence;
        if self.defect != Defect::DoesNotRememberTheAcknowledgement {
            self.lying.torn.store(false, Ordering::SeqCst);
        }
        Ok(told.then(|| "a half is lost".to_owned()).into_iter().collect())
    }

    async fn stats(&self) -> Result<SpoolStats, SpoolError> {
        self.alive()?;
        let mut stats = self.inner.stats().await?;
        stats.corrupt = self.lying.rotten.lock().unwrap().len() as u64;
        if let Some(reason) = self.reason() {
            let mut condition = SpoolCondition::new("gate", reason);
            condition.state = SpoolHealth::Shedding;
            condition.since = Some(Timestamp::EPOCH);
            stats.conditions.push(condition);
        }
        Ok(stats)
    }

    fn durability(&self) -> Durability {
        self.inner.durability()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_defect_every_law_of_the_gate_is_kept() {
    // What the reference holds does not count as there at open, which laws of other themes ask for.
    let mut broken = broken(&subject(Defect::None)).await;
    broken.retain(|name| {
        SharedSpool::laws().iter().any(|l| l.name == *name && l.theme == "the gate")
    });
    assert_eq!(broken, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_defect_of_a_gate_is_caught() {
    let refuses = "a_closed_gate_refuses_every_store";
    let passes = "a_closed_gate_lets_loads_and_removes_pass";
    let damage = "structural_damage_closes_the_gate_until_it_is_acknowledged";
    for (defect, laws) in [
        (Defect::TakesStores, [refuses, damage].as_slice()),
        (Defect::WritesWhatItRefuses, &[refuses, "a_gate_opens_when_its_cause_has_passed"]),
        (Defect::RefusesRemoves, &[passes, "structural_damage_spares_the_rest"]),
        (Defect::RefusesToCleanUp, &["a_closed_gate_stands_in_no_way_of_maintenance"]),
        (Defect::SaysNothing, &["a_closed_gate_says_why", refuses, damage]),
        (Defect::TellsSecrets, &["a_closed_gate_says_why"]),
        (Defect::NeverOpensAgain, &["a_gate_opens_when_its_cause_has_passed"]),
        (Defect::ForgetsDamageAtTheNextOpen, &[damage]),
        (Defect::DoesNotRememberTheAcknowledgement, &[damage]),
        (Defect::AcknowledgesInSilence, &[damage]),
        (Defect::CompactsAwayTheDamage, &["structural_damage_spares_the_rest"]),
        (Defect::ShedsForRot, &["one_rotten_payload_closes_nothing"]),
        (Defect::ServesRot, &["one_rotten_payload_closes_nothing"]),
    ] {
        is_caught_by(subject(defect), laws).await;
    }
}
