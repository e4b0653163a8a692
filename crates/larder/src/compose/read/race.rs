//! Both layers at once, for the first hit.

use std::future::{Future, poll_fn};
use std::pin::{Pin, pin};
use std::task::Poll;

use larder_core::Failure;

use super::{Answer, CompositionReadPolicy, ReadResult, conclude};
use crate::compose::race::{RaceLoserPolicy, poll_once};
use crate::compose::{
    CompositionError, CompositionLayer, Freshness, LayerCall, Observer, Offload, Operation,
    PolicyKey, ReadRequest,
};

/// Asks both layers at once and returns the first hit; on a miss or an error it waits for the
/// other layer.
///
/// L1 goes first: a hit that it has without waiting decides, and L2 is not asked. When both hit at
/// the same moment, L1's counts.
///
/// With [`RaceLoserPolicy::Offload`] the slower call goes on in the background, one per key, layer
/// and composition at a time; its error is counted and reported there. That costs a few
/// allocations, because a call has to own what it needs to outlive its caller. With
/// [`RaceLoserPolicy::Drop`] it is cancelled, and nothing is allocated.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[allow(clippy::exhaustive_structs, reason = "callers choose the loser's fate by name")]
pub struct RaceReadPolicy {
    /// What happens to the slower call.
    pub loser: RaceLoserPolicy,
}

impl CompositionReadPolicy for RaceReadPolicy {
    fn l1_hit_decides(&self, _stale: bool) -> bool {
        true
    }

    async fn execute_with<K, T, E, O>(
        &self,
        request: ReadRequest<'_, K, O>,
        read_l1: impl LayerCall<Option<T>, E>,
        read_l2: impl LayerCall<Option<T>, E>,
    ) -> Result<ReadResult<T, E>, CompositionError<E>>
    where
        K: PolicyKey + ?Sized,
        T: Freshness,
        E: Failure,
        O: Offload,
    {
        match self.loser {
            RaceLoserPolicy::Drop => {
                let mut l1 = pin!(read_l1.call());
                match poll_once(&mut l1).await {
                    Poll::Ready(said) => after_l1(&request, said, read_l2.call()).await,
                    Poll::Pending => {
                        let mut l2 = pin!(read_l2.call());
                        first_hit(&request, &mut l1, &mut l2).await.conclude(&request)
                    }
                }
            }
            RaceLoserPolicy::Offload => {
                // Owned and boxed before its first poll: a call that has begun cannot move.
                let mut l1 = Box::pin(read_l1.call_owned());
                match poll_once(&mut l1).await {
                    Poll::Ready(said) => after_l1(&request, said, read_l2.call()).await,
                    Poll::Pending => {
                        let mut l2 = Box::pin(read_l2.call_owned());
                        let finish = first_hit(&request, &mut l1, &mut l2).await;
                        match &finish {
                            Finish::First(CompositionLayer::L1, _) => {
                                goes_on(&request, CompositionLayer::L2, l2);
                            }
                            Finish::First(CompositionLayer::L2, _) => {
                                goes_on(&request, CompositionLayer::L1, l1);
                            }
                            Finish::Both(..) => {}
                        }
                        finish.conclude(&request)
                    }
                }
            }
        }
    }
}

/// How a race ended.
enum Finish<T, E> {
    /// This layer hit while the other one was still at work.
    First(CompositionLayer, T),
    /// Both layers have answered.
    Both(Answer<T, E>, Answer<T, E>),
}

impl<T: Freshness, E: Failure> Finish<T, E> {
    fn conclude<K: ?Sized, O>(
        self,
        request: &ReadRequest<'_, K, O>,
    ) -> Result<ReadResult<T, E>, CompositionError<E>> {
        match self {
            Self::First(source, value) => Ok(ReadResult::hit(value, source)),
            Self::Both(l1, l2) => conclude(request, l1, l2, |_, _| CompositionLayer::L1),
        }
    }
}

/// L1 answered without waiting, so there is no race: L2 is asked only if L1 did not hit.
async fn after_l1<K, T, E, O>(
    request: &ReadRequest<'_, K, O>,
    said: Result<Option<T>, E>,
    l2: impl Future<Output = Result<Option<T>, E>>,
) -> Result<ReadResult<T, E>, CompositionError<E>>
where
    K: ?Sized,
    T: Freshness,
    E: Failure,
{
    let finish = match Answer::judge(said, request) {
        Answer::Hit(value) => Finish::First(CompositionLayer::L1, value),
        l1 => Finish::Both(l1, Answer::judge(l2.await, request)),
    };
    finish.conclude(request)
}

/// Runs both calls until one hits or both have answered.
async fn first_hit<K, T, E, O>(
    request: &ReadRequest<'_, K, O>,
    l1: &mut (impl Future<Output = Result<Option<T>, E>> + Unpin),
    l2: &mut (impl Future<Output = Result<Option<T>, E>> + Unpin),
) -> Finish<T, E>
where
    K: ?Sized,
    T: Freshness,
{
    let (mut answer1, mut answer2) = (None, None);
    poll_fn(|context| {
        if answer1.is_none()
            && let Poll::Ready(said) = Pin::new(&mut *l1).poll(context)
        {
            answer1 = Some(Answer::judge(said, request));
        }
        if answer2.is_none()
            && let Poll::Ready(said) = Pin::new(&mut *l2).poll(context)
        {
            answer2 = Some(Answer::judge(said, request));
        }
        match (answer1.take(), answer2.take()) {
            (Some(Answer::Hit(value)), None) => {
                Poll::Ready(Finish::First(CompositionLayer::L1, value))
            }
            (None, Some(Answer::Hit(value))) => {
                Poll::Ready(Finish::First(CompositionLayer::L2, value))
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

/// Lets the slower call go on in the background, for its failure to be counted there.
fn goes_on<K, T, E, O>(
    request: &ReadRequest<'_, K, O>,
    loser: CompositionLayer,
    call: impl Future<Output = Result<Option<T>, E>> + Send + 'static,
) where
    K: PolicyKey + ?Sized,
    E: Failure,
    O: Offload,
{
    let kind = match loser {
        CompositionLayer::L1 => "race-read-l1",
        CompositionLayer::L2 => "race-read-l2",
    };
    let key = request.key.offload_key(kind).within(request.observer.scope());
    let observer: Observer = request.observer.clone();
    let task = async move {
        if let Err(error) = call.await {
            observer.background_failed(Operation::Read, loser, &error);
        }
    };
    if let Err(refused) = request.offload.register(key, task) {
        request.observer.background_refused(Operation::Read, loser, refused.reason);
    }
}
