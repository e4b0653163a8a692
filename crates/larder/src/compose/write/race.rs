//! Both layers at once; the first success is enough.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use larder_core::Failure;

use super::{CompositionWritePolicy, both};
use crate::compose::race::RaceLoserPolicy;
use crate::compose::{
    CompositionError, CompositionLayer, Counted, LayerCall, LayerOutcome, Observer, Offload,
    OffloadKey, Operation, Outcome, PolicyKey, WriteRequest,
};

/// Writes both layers at once and returns at the first success that counts; while there is none it
/// waits for both.
///
/// Both layers have been polled at least once before it returns, so each of them has seen the
/// write. `Ok` promises that at least one layer that [counts](WriteRequest::counted) has the value.
///
/// With [`RaceLoserPolicy::Offload`] the other call goes on in the background: it is
/// [`LayerOutcome::Background`], and its failure is counted and reported there. When the background
/// refuses it, or with [`RaceLoserPolicy::Drop`], it is dropped half-way: the layer is
/// [`LayerOutcome::NotTried`], may or may not hold the value, and has to be repaired by somebody.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "callers choose the loser's fate by name")]
pub struct RaceWritePolicy {
    /// What happens to the slower call.
    pub loser: RaceLoserPolicy,
}

impl CompositionWritePolicy for RaceWritePolicy {
    fn needs_both(&self) -> bool {
        false
    }

    async fn execute_with<K, A, E, O>(
        &self,
        request: WriteRequest<'_, K, O>,
        write_l1: impl LayerCall<A, E>,
        write_l2: impl LayerCall<A, E>,
    ) -> Result<Outcome<E, A>, CompositionError<E>>
    where
        K: PolicyKey + ?Sized,
        A: Send + 'static,
        E: Failure,
        O: Offload,
    {
        match self.loser {
            RaceLoserPolicy::Drop => {
                let (mut l1, mut l2) = (pin!(write_l1.call()), pin!(write_l2.call()));
                let finish = first_success(request.counted, &mut l1, &mut l2).await;
                finish.conclude(&request, |_| LayerOutcome::NotTried)
            }
            RaceLoserPolicy::Offload => {
                // Owned and boxed before their first poll: a call that has begun cannot move.
                let mut l1 = Box::pin(write_l1.call_owned());
                let mut l2 = Box::pin(write_l2.call_owned());
                let finish = first_success(request.counted, &mut l1, &mut l2).await;
                finish.conclude(&request, |loser| match loser {
                    CompositionLayer::L1 => goes_on(&request, loser, l1),
                    CompositionLayer::L2 => goes_on(&request, loser, l2),
                })
            }
        }
    }
}

/// How a race ended.
enum Finish<A, E> {
    /// This layer succeeded, which is enough, while the other one was still at work.
    First(CompositionLayer, A),
    /// Both layers have answered.
    Both(Result<A, E>, Result<A, E>),
}

impl<A, E: Failure> Finish<A, E> {
    /// The outcome, where `part_with` decides the fate of a call that is still at work.
    fn conclude<K: ?Sized, O>(
        self,
        request: &WriteRequest<'_, K, O>,
        part_with: impl FnOnce(CompositionLayer) -> LayerOutcome<E, A>,
    ) -> Result<Outcome<E, A>, CompositionError<E>> {
        match self {
            Self::First(CompositionLayer::L1, answer) => {
                Ok(Outcome { l1: LayerOutcome::Done(answer), l2: part_with(CompositionLayer::L2) })
            }
            Self::First(CompositionLayer::L2, answer) => {
                Ok(Outcome { l1: part_with(CompositionLayer::L1), l2: LayerOutcome::Done(answer) })
            }
            Self::Both(l1, l2) => both::conclude(Operation::Write, request, false, l1, l2),
        }
    }
}

/// Runs both calls until one that counts succeeds or both have answered.
///
/// Every round polls both, so neither call is left unpolled when the first one succeeds at once.
async fn first_success<A, E>(
    counted: Counted,
    l1: &mut (impl Future<Output = Result<A, E>> + Unpin),
    l2: &mut (impl Future<Output = Result<A, E>> + Unpin),
) -> Finish<A, E> {
    let (mut answer1, mut answer2) = (None, None);
    poll_fn(|context| {
        if answer1.is_none()
            && let Poll::Ready(answer) = Pin::new(&mut *l1).poll(context)
        {
            answer1 = Some(answer);
        }
        if answer2.is_none()
            && let Poll::Ready(answer) = Pin::new(&mut *l2).poll(context)
        {
            answer2 = Some(answer);
        }
        match (answer1.take(), answer2.take()) {
            (Some(Ok(answer)), None) if counted.l1() => {
                Poll::Ready(Finish::First(CompositionLayer::L1, answer))
            }
            (None, Some(Ok(answer))) if counted.l2() => {
                Poll::Ready(Finish::First(CompositionLayer::L2, answer))
            }
            (Some(l1), Some(l2)) => Poll::Ready(Finish::Both(l1, l2)),
            (l1, l2) => {
                (answer1, answer2) = (l1, l2);
                Poll::Pending
            }
        }
    })
    .await
}

/// Lets the slower call go on in the background, where its end is watched.
fn goes_on<K, A, E, O>(
    request: &WriteRequest<'_, K, O>,
    loser: CompositionLayer,
    call: impl Future<Output = Result<A, E>> + Send + 'static,
) -> LayerOutcome<E, A>
where
    K: ?Sized,
    A: 'static,
    E: Failure,
    O: Offload,
{
    // Never named by its key: two writes of one key carry different values.
    let key = OffloadKey::unique("race-write").within(request.observer.scope());
    let watch = LoserWatch { observer: request.observer.clone(), loser, at_work: false };
    let task = watch.follow(call);
    match request.offload.register(key, task) {
        Ok(_) => LayerOutcome::Background,
        Err(refused) => {
            request.observer.background_refused(Operation::Write, loser, refused.reason);
            LayerOutcome::NotTried
        }
    }
}

/// Reports a background write that was cut off: by a time limit, a drain or a panic.
struct LoserWatch {
    observer: Observer,
    loser: CompositionLayer,
    /// Whether the write was begun in the background and has not ended.
    at_work: bool,
}

impl LoserWatch {
    /// Sees `call` to its end. Does nothing before the first poll.
    async fn follow<A, E: Failure>(mut self, call: impl Future<Output = Result<A, E>>) {
        self.at_work = true;
        let answer = call.await;
        self.at_work = false;
        if let Err(error) = answer {
            self.observer.background_failed(Operation::Write, self.loser, &error);
        }
    }
}

impl Drop for LoserWatch {
    fn drop(&mut self) {
        if self.at_work {
            self.observer.background_lost(Operation::Write, self.loser);
        }
    }
}
