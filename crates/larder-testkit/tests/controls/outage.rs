//! Two tiers as one of which the far one goes away: right, and wrong in one way each.

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use larder_core::reference::ReferenceTier;
use larder_core::{BoxError, ManualClock, SharedTier};
use larder_testkit::{CheckOptions, Contract, Need, Outage, Outcome, Place, Subject, try_law};

use crate::broken;

mod debts;
mod pair;

use debts::Debts;
use pair::Pair;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Defect {
    None,
    /// What the far tier has missed is asked for there all the same.
    ServesWhatIsOwed,
    /// What is owed stays owed.
    NeverPays,
    /// What was missed first is what is paid.
    PaysTheOldest,
    /// Each change of a key is a debt of its own.
    CountsEveryChange,
    /// Whatever the far tier has by then is replaced.
    UndoesWhatOthersWrote,
    /// Only an error of the far tier is a debt, not a call without an answer.
    ForgetsWhatWasGivenUp,
    /// A clear that the far tier has missed is an error and nothing else.
    ForgetsClears,
    /// A clear that the far tier has missed is no error.
    SaysThatItIsCleared,
    /// Every key is told apart.
    GrowsWithoutBound,
    /// At the bound nothing more is remembered.
    ForgetsAtTheBound,
    /// The ledger is not written.
    KeepsDebtsInMemory,
    /// What was paid stays in the ledger.
    NeverStrikesOut,
    /// The ledger has room for keys only.
    WritesDownKeysOnly,
}

fn subject(defect: Defect) -> Subject<SharedTier<Bytes>> {
    Subject::new(format!("{defect:?}"), move || {
        let (clock, outage) = (ManualClock::default(), Outage::default());
        let far = SharedTier::new(ReferenceTier::new("far", clock.shared()));
        let ledger = Arc::<Mutex<Debts>>::default();
        let (process, past, away) = (clock.clone(), far.clone(), outage.clone());
        let open = move || {
            let debts = match defect {
                Defect::KeepsDebtsInMemory => Arc::default(),
                _ => Arc::clone(&ledger),
            };
            debts.lock().unwrap().read_again(defect);
            let pair = Pair::new(&process, away.over(far.clone()), debts, defect);
            std::future::ready(Ok::<_, BoxError>(SharedTier::new(pair)))
        };
        Ok(Place::new(open).with_clock(clock).with_outage(outage, past))
    })
    .offering([Need::Clock, Need::Outage, Need::Reopen])
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_defect_every_law_is_kept() {
    assert_eq!(broken(&subject(Defect::None)).await, Vec::<&str>::new());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_defect_is_caught_by_the_law_for_it() {
    let caught = [
        (Defect::ServesWhatIsOwed, "what_a_part_has_missed_is_not_served"),
        (Defect::NeverPays, "what_a_part_has_missed_is_made_up_for"),
        (Defect::PaysTheOldest, "of_what_a_part_has_missed_the_newest_counts"),
        (Defect::CountsEveryChange, "of_what_a_part_has_missed_the_newest_counts"),
        (Defect::UndoesWhatOthersWrote, "what_others_have_written_since_is_spared"),
        (Defect::UndoesWhatOthersWrote, "what_a_part_has_missed_outlives_the_process"),
        (Defect::ForgetsWhatWasGivenUp, "a_change_that_was_given_up_is_not_undone"),
        (Defect::ForgetsClears, "a_clear_that_a_part_has_missed_is_not_undone"),
        (Defect::SaysThatItIsCleared, "a_clear_that_a_part_has_missed_is_not_undone"),
        (Defect::GrowsWithoutBound, "however_much_a_part_has_missed_nothing_is_undone"),
        (Defect::ForgetsAtTheBound, "however_much_a_part_has_missed_nothing_is_undone"),
        (Defect::KeepsDebtsInMemory, "what_a_part_has_missed_outlives_the_process"),
        (Defect::NeverStrikesOut, "what_a_part_has_missed_outlives_the_process"),
        (Defect::WritesDownKeysOnly, "that_a_part_has_missed_everything_outlives_the_process"),
    ];
    let laws = SharedTier::<Bytes>::laws();
    for (defect, name) in caught {
        let law = laws.iter().find(|law| law.name == name).unwrap();
        // What is waited for in vain has to end some time.
        let limit =
            std::time::Duration::from_secs(if defect == Defect::NeverPays { 3 } else { 60 });
        let options = CheckOptions::default().with_time_limit(limit);
        let outcome = try_law(&subject(defect), law, options).await.outcome;
        assert!(matches!(outcome, Outcome::Broken(_)), "{name} does not catch {defect:?}");
    }
}
