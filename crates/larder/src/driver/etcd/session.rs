//! What a member has to be like, and what has to be there, before anything is kept in its cluster.

use bytes::Bytes;
use larder_core::Retry;
use prost::Message;

use super::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use super::proto::request_op::Request;
use super::proto::{
    AuthenticateRequest, Compare, PutRequest, RangeRequest, RequestOp, StatusRequest, TxnRequest,
};
use super::wire::{AUTHENTICATE, STATUS, Wire};
use super::{Call, OPEN_MAX, RANGE, TXN, Trouble, Way};

/// The oldest release that is used: what is older is not served any more.
const RELEASE_MIN: (u32, u32) = (3, 4);

/// The number of a layout of keys, and where it is kept: those of another number must not be mixed.
#[derive(Clone, Debug)]
pub(crate) struct Layout {
    pub(crate) key: Bytes,
    pub(crate) number: u32,
}

/// Connects to the member that is number `at`, introduces us, and looks whether it is fit.
pub(super) async fn open(way: &Way, at: usize) -> Result<Wire, Trouble> {
    let mut wire = Wire::connect(&way.endpoint, at).await?;
    if let Some(login) = &way.endpoint.login {
        let request =
            AuthenticateRequest { name: login.user.clone(), password: login.password.clone() };
        let answer = early(&wire, AUTHENTICATE, request).await?;
        wire = wire.with_token(&answer.token)?;
    }
    examine(&wire).await?;
    enter(&wire, &way.layout).await?;
    Ok(wire)
}

/// Asks before anything that matters is sent.
async fn early<Q, A>(wire: &Wire, call: Call<Q, A>, request: Q) -> Result<A, Trouble>
where
    Q: Message + 'static,
    A: Message + Default + 'static,
{
    wire.ask(call, request, OPEN_MAX).await.map_err(|trouble| wire.early(trouble))
}

/// Looks whether this is a member that may be asked.
async fn examine(wire: &Wire) -> Result<(), Trouble> {
    let unfit = |what, retry| Err(Trouble::Unfit { place: wire.place().to_owned(), what, retry });
    let status = early(wire, STATUS, StatusRequest {}).await?;
    if release(&status.version) < RELEASE_MIN {
        return unfit("its release is older than etcd 3.4", Retry::Never);
    }
    if status.is_learner {
        return unfit("it is a learner: give the addresses of voting members", Retry::Later);
    }
    if status.leader == 0 {
        return unfit("it knows no leader: most of its cluster is away", Retry::Later);
    }
    if status.errors.iter().any(|error| error.contains("CORRUPT")) {
        return unfit("its data are corrupt: see `etcdctl alarm list`", Retry::Never);
    }
    if status.errors.iter().any(|error| error.contains("NOSPACE")) {
        tracing::warn!(
            target: "larder::etcd",
            "{} takes no writes: its quota is used up; compact, defragment, then `etcdctl alarm disarm`",
            wire.place()
        );
    }
    Ok(())
}

fn release(version: &str) -> (u32, u32) {
    let mut numbers = version.split('.').map(|number| number.parse().unwrap_or(0));
    (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0))
}

/// Notes the layout unless there is one, and compares it with the one that is known here.
async fn enter(wire: &Wire, layout: &Layout) -> Result<(), Trouble> {
    let Layout { key, number } = layout;
    let look = RangeRequest { key: key.clone(), ..RangeRequest::default() };
    // Looking first: a cluster that is full takes nothing that could be a write.
    if let Some(found) = early(wire, RANGE, look.clone()).await?.kvs.pop() {
        return compare(wire, &found.value, *number);
    }
    let is_missing = Compare {
        result: CompareResult::Equal.into(),
        target: CompareTarget::Create.into(),
        key: key.clone(),
        target_union: Some(TargetUnion::CreateRevision(0)),
    };
    let value = Bytes::from(number.to_string());
    let note = Request::RequestPut(PutRequest { key: key.clone(), value });
    let request = TxnRequest {
        compare: vec![is_missing],
        success: vec![RequestOp { request: Some(note) }],
        failure: Vec::new(),
    };
    early(wire, TXN, request).await?;
    let found = early(wire, RANGE, look).await?.kvs.pop();
    compare(wire, &found.map(|found| found.value).unwrap_or_default(), *number)
}

fn compare(wire: &Wire, found: &[u8], number: u32) -> Result<(), Trouble> {
    if found == number.to_string().as_bytes() {
        return Ok(());
    }
    let found = String::from_utf8_lossy(found).chars().take(20).collect::<String>();
    Err(Trouble::Foreign {
        place: wire.place().to_owned(),
        what: format!("its keys have layout {found:?}, this one knows {number}"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn releases_are_compared_as_numbers() {
        assert!(release("3.10.0") > release("3.4.23"));
        assert!(release("3.4.0-rc.1") >= RELEASE_MIN);
        assert!(release("3.3.25") < RELEASE_MIN && release("2") < RELEASE_MIN);
        assert!(release("") < RELEASE_MIN && release("x.y") < RELEASE_MIN);
    }
}
