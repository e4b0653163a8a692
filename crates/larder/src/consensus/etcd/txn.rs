//! The transactions on a store's keys.
//!
//! Why one winner: a transaction compares and changes in one step of the cluster's log. Why nothing comes
//! back: keys of heads are never deleted, and a version is only put together with a head above all
//! before it.

use std::sync::Arc;

use bytes::Bytes;
use larder_core::{CaSResult, ConsensusError, Determinate, Effect, SeqNo, VersionedData};

use super::place::{Head, Place};
use crate::consensus::coalesce::Job;
use crate::driver::etcd::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use crate::driver::etcd::proto::request_op::Request;
use crate::driver::etcd::proto::response_op::Response;
use crate::driver::etcd::proto::{
    Compare, DeleteRangeRequest, KeyValue, PutRequest, RangeRequest, RequestOp, ResponseOp,
    TxnRequest, TxnResponse,
};
use crate::driver::etcd::{About, Client, TXN, Trouble};

/// The way to the cluster, and where the store's keys are there.
#[derive(Debug)]
pub(super) struct Store {
    pub(super) client: Client,
    pub(super) place: Place,
}

/// Jobs that go together or, if one of them is refused that way, apart.
trait Divisible: Job {
    /// Does them in one transaction, and answers each in order.
    fn all(
        store: &Store,
        jobs: &[Self],
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Trouble>> + Send;

    /// What each is answered after that.
    fn failed(
        store: &Store,
        jobs: &[Self],
        trouble: Trouble,
    ) -> impl Future<Output = Vec<Self::Answer>> + Send;
}

async fn divided<J: Divisible>(store: &Store, jobs: &[J]) -> Vec<J::Answer> {
    let mut answers = Vec::with_capacity(jobs.len());
    let mut rest = vec![jobs];
    while let Some(some) = rest.pop() {
        match J::all(store, some).await {
            Ok(more) => answers.extend(more),
            // Nothing was done: apart, those that are not the reason may pass.
            Err(trouble) if trouble.about() == About::OneOfMany && some.len() > 1 => {
                let (first, second) = some.split_at(some.len() / 2);
                rest.extend([second, first]);
            }
            Err(trouble) => answers.extend(J::failed(store, some, trouble).await),
        }
    }
    answers
}

/// One compare-and-set, with its arguments checked.
#[derive(Clone, Debug)]
pub(super) struct Swap {
    pub(super) key: Arc<str>,
    pub(super) expected: Option<SeqNo>,
    pub(super) new: VersionedData,
}

type Swapped = Result<CaSResult, ConsensusError>;

/// About what a swap needs besides keys and data, in bytes.
const SWAP_BYTES: usize = 200;

impl Job for Swap {
    type Answer = Swapped;
    type Tools = Arc<Store>;

    fn lane(&self) -> usize {
        0
    }

    fn owner(&self) -> Option<&Arc<str>> {
        Some(&self.key)
    }

    fn bytes(&self) -> usize {
        SWAP_BYTES + 4 * self.key.len() + self.new.data.len()
    }

    async fn run(store: &Arc<Store>, swaps: &[Self]) -> Vec<Swapped> {
        divided(store, swaps).await
    }
}

impl Divisible for Swap {
    async fn all(store: &Store, swaps: &[Self]) -> Result<Vec<Swapped>, Trouble> {
        swap(store, swaps).await
    }

    async fn failed(store: &Store, swaps: &[Self], trouble: Trouble) -> Vec<Swapped> {
        if trouble.about() == About::NoSpace {
            return without_space(store, swaps, &trouble).await;
        }
        // The transaction is one: what is known of it is known of each.
        let told = |_: &Self| Err(written(trouble.clone(), "compare_and_set"));
        swaps.iter().map(told).collect()
    }
}

/// Makes compare-and-sets of different keys in one transaction of transactions.
async fn swap(store: &Store, swaps: &[Swap]) -> Result<Vec<Swapped>, Trouble> {
    if let [one] = swaps {
        let answer = store.client.ask(TXN, swapping(&store.place, one)).await?;
        return Ok(vec![Ok(judge(one, &answer)?)]);
    }
    let each = swaps.iter().map(|one| Request::RequestTxn(swapping(&store.place, one)));
    let request = TxnRequest { success: each.map(op).collect(), ..TxnRequest::default() };
    let answer = store.client.ask(TXN, request).await?;
    if answer.responses.len() != swaps.len() {
        return Err(Trouble::Odd { what: "not an answer for each compare-and-set" });
    }
    let one = |(swap, answer): (&Swap, &ResponseOp)| match &answer.response {
        Some(Response::ResponseTxn(answer)) => Ok(Ok(judge(swap, answer)?)),
        _ => Err(Trouble::Odd { what: "no answer to a compare-and-set" }),
    };
    swaps.iter().zip(&answer.responses).map(one).collect()
}

/// The transaction of one compare-and-set.
fn swapping(place: &Place, swap: &Swap) -> TxnRequest {
    let Swap { key, expected, new } = swap;
    let head = place.head(key);
    let put = |key, value| op(Request::RequestPut(PutRequest { key, value }));
    TxnRequest {
        compare: match expected {
            None => vec![is_missing(&head)],
            Some(SeqNo(expected)) => vec![
                is(&head, CompareResult::Greater, Head::bound(*expected)),
                is(&head, CompareResult::Less, Head::bound(expected + 1)),
            ],
        },
        success: vec![
            put(head.clone(), Head::write(new)),
            put(place.version(key, new.seqno), new.data.clone()),
        ],
        failure: vec![look(head)],
    }
}

/// What the answer says of a compare-and-set.
fn judge(swap: &Swap, answer: &TxnResponse) -> Result<CaSResult, Trouble> {
    if answer.succeeded {
        return Ok(CaSResult::Committed);
    }
    let found = answer.responses.first().and_then(kvs);
    let found = found.ok_or(Trouble::Odd { what: "no look at a head that was not expected" })?;
    let current =
        found.first().map(|found| Head::read(&found.value).ok_or(ODD_HEAD)).transpose()?;
    let current = current.map(|head| head.seqno);
    if current == swap.expected {
        return Err(Trouble::Odd { what: "a head that is as expected and is not" });
    }
    Ok(CaSResult::ExpectationMismatch { current })
}

const ODD_HEAD: Trouble = Trouble::Odd { what: "a head in no known form" };

/// What became of compare-and-sets that were told that the quota is used up. The server either did not
/// begin, or had finished: whose head is as expected even now never came about.
async fn without_space(store: &Store, swaps: &[Swap], trouble: &Trouble) -> Vec<Swapped> {
    let keys: Vec<&str> = swaps.iter().map(|swap| &*swap.key).collect();
    let heads = heads(store, &keys).await;
    let told = |(at, swap): (usize, &Swap)| {
        let head = heads.as_ref().ok().and_then(|heads| heads.get(at));
        let is_as_expected =
            head.is_some_and(|head| head.as_ref().map(|head| head.seqno) == swap.expected);
        let trouble = trouble.clone();
        let trouble = if is_as_expected { trouble.without_effect() } else { trouble };
        Err(written(trouble, "compare_and_set"))
    };
    swaps.iter().enumerate().map(told).collect()
}

/// One look at a head.
#[derive(Clone, Debug)]
pub(super) struct Look(pub(super) Arc<str>);

impl Job for Look {
    type Answer = Result<Option<VersionedData>, ConsensusError>;
    type Tools = Arc<Store>;

    fn lane(&self) -> usize {
        0
    }

    fn owner(&self) -> Option<&Arc<str>> {
        None
    }

    fn bytes(&self) -> usize {
        self.0.len()
    }

    async fn run(store: &Arc<Store>, looks: &[Self]) -> Vec<Self::Answer> {
        divided(store, looks).await
    }
}

impl Divisible for Look {
    async fn all(store: &Store, looks: &[Self]) -> Result<Vec<Self::Answer>, Trouble> {
        let keys: Vec<&str> = looks.iter().map(|look| &*look.0).collect();
        Ok(newest(store, &keys).await?.into_iter().map(Ok).collect())
    }

    async fn failed(_: &Store, looks: &[Self], trouble: Trouble) -> Vec<Self::Answer> {
        looks.iter().map(|_| Err(unread(trouble.clone(), "head"))).collect()
    }
}

/// Versions that are fetched together, when their data are not with the heads.
const APART_AT_ONCE: usize = 8;
/// How often a head is looked at again whose version was truncated in between.
const ATTEMPTS: usize = 16;

/// The newest versions of `keys`.
async fn newest(store: &Store, keys: &[&str]) -> Result<Vec<Option<VersionedData>>, Trouble> {
    let mut newest = vec![None; keys.len()];
    let mut left: Vec<usize> = (0..keys.len()).collect();
    for _ in 0..ATTEMPTS {
        let some: Vec<&str> = left.iter().map(|at| keys[*at]).collect();
        let mut apart = Vec::new();
        for (at, head) in left.into_iter().zip(heads(store, &some).await?) {
            match head {
                None => {}
                Some(Head { seqno, data: Some(data) }) => {
                    newest[at] = Some(VersionedData { seqno, data });
                }
                Some(Head { seqno, data: None }) => apart.push((at, seqno)),
            }
        }
        left = Vec::new();
        for some in apart.chunks(APART_AT_ONCE) {
            let places = some.iter().map(|(at, seqno)| store.place.version(keys[*at], *seqno));
            let found = get(store, places).await?;
            for ((at, seqno), found) in some.iter().zip(found) {
                match found {
                    Some(data) => newest[*at] = Some(VersionedData { seqno: *seqno, data }),
                    // It is no head any more, and was truncated: there is a newer one.
                    None => left.push(*at),
                }
            }
        }
        if left.is_empty() {
            return Ok(newest);
        }
    }
    Err(Trouble::Odd { what: "a head without its version" })
}

/// The heads of `keys`, all of one moment.
async fn heads(store: &Store, keys: &[&str]) -> Result<Vec<Option<Head>>, Trouble> {
    let values = get(store, keys.iter().map(|key| store.place.head(key))).await?;
    let head =
        |value: Option<Bytes>| value.map(|value| Head::read(&value).ok_or(ODD_HEAD)).transpose();
    values.into_iter().map(head).collect()
}

/// The values of places, all of one moment.
async fn get(
    store: &Store,
    places: impl ExactSizeIterator<Item = Bytes>,
) -> Result<Vec<Option<Bytes>>, Trouble> {
    let count = places.len();
    let request = TxnRequest { success: places.map(look).collect(), ..TxnRequest::default() };
    let answer = store.client.ask(TXN, request).await?;
    if answer.responses.len() != count {
        return Err(Trouble::Odd { what: "not an answer for each look" });
    }
    let value = |answer: &ResponseOp| {
        let found = kvs(answer).ok_or(Trouble::Odd { what: "no answer to a look" })?;
        Ok(found.first().map(|found| found.value.clone()))
    };
    answer.responses.iter().map(value).collect()
}

/// Deletes the versions of `key` below `seqno`, if its head is not below.
pub(super) async fn truncate(
    store: &Store,
    key: &str,
    seqno: SeqNo,
) -> Result<usize, ConsensusError> {
    let head = store.place.head(key);
    let (from, below) = store.place.versions(key, SeqNo::MIN, seqno);
    let delete = DeleteRangeRequest { key: from, range_end: below };
    let request = TxnRequest {
        compare: vec![is(&head, CompareResult::Greater, Head::bound(seqno.0))],
        success: vec![op(Request::RequestDeleteRange(delete))],
        failure: vec![look(head)],
    };
    let write = |trouble| written(trouble, "truncate");
    let answer = store.client.ask(TXN, request).await.map_err(write)?;
    let odd = || write(Trouble::Odd { what: "no answer to a truncation" });
    let response = answer.responses.first().ok_or_else(odd)?;
    if let (true, Some(Response::ResponseDeleteRange(gone))) =
        (answer.succeeded, &response.response)
    {
        return usize::try_from(gone.deleted).map_err(|_| odd());
    }
    let found = kvs(response).ok_or_else(odd)?.first().ok_or(Determinate::NoSuchKey)?;
    let head = Head::read(&found.value).ok_or_else(odd)?.seqno;
    Err(Determinate::AboveHead { seqno, head }.into())
}

/// Deletes everything that there is.
pub(super) async fn clear(store: &Store) -> Result<(), Trouble> {
    let (key, range_end) = store.place.everything();
    let delete = op(Request::RequestDeleteRange(DeleteRangeRequest { key, range_end }));
    let request = TxnRequest { success: vec![delete], ..TxnRequest::default() };
    store.client.ask(TXN, request).await.map(drop)
}

fn op(request: Request) -> RequestOp {
    RequestOp { request: Some(request) }
}

fn look(key: Bytes) -> RequestOp {
    op(Request::RequestRange(RangeRequest { key, ..RangeRequest::default() }))
}

/// That there is no such key, and never was: keys of heads are not deleted.
fn is_missing(key: &Bytes) -> Compare {
    Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(0)),
    }
}

/// That the value of a key, which has to be there, is so in the order of bytes.
fn is(key: &Bytes, result: CompareResult, value: Bytes) -> Compare {
    Compare {
        result: result.into(),
        target: CompareTarget::Value.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::Value(value)),
    }
}

fn kvs(answer: &ResponseOp) -> Option<&[KeyValue]> {
    match &answer.response {
        Some(Response::ResponseRange(range)) => Some(&range.kvs),
        _ => None,
    }
}

/// The error of a call that changes something.
pub(super) fn written(trouble: Trouble, operation: &'static str) -> ConsensusError {
    match trouble.effect() {
        Effect::NotApplied => Determinate::Backend(trouble.in_write(operation)).into(),
        Effect::Unknown => ConsensusError::Indeterminate(trouble.in_write(operation)),
    }
}

/// The error of a call that changes nothing.
pub(super) fn unread(trouble: Trouble, operation: &'static str) -> ConsensusError {
    Determinate::Backend(trouble.in_read(operation)).into()
}
