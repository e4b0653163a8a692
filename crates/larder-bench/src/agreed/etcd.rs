//! etcd without larder: a transaction for each call, on a connection as its usual client has it.

use ::larder::clock::random_u64;
use bytes::Bytes;
use tonic::client::Grpc;
use tonic::codegen::http::uri::PathAndQuery;
use tonic::transport::Channel;
use tonic_prost::ProstCodec;

use self::proto::compare::{CompareResult, CompareTarget, TargetUnion};
use self::proto::request_op::Request;
use self::proto::{Compare, PutRequest, RangeRequest, RequestOp, TxnRequest, TxnResponse};
use super::{Agreed, next};
use crate::error::Result;
use crate::subject::Work;

/// The same messages as larder's.
#[path = "../../../larder/src/driver/etcd/proto.rs"]
#[allow(
    dead_code,
    missing_docs,
    unreachable_pub,
    clippy::all,
    clippy::pedantic,
    reason = "made by a program"
)]
mod proto;

/// One key for the head with its number in front, compared and put in one transaction; nothing else is kept.
pub(crate) struct BareTxn {
    channel: Channel,
    prefix: String,
}

impl BareTxn {
    pub(crate) async fn connect(port: u16) -> Result<Self> {
        let endpoint = Channel::from_shared(format!("http://127.0.0.1:{port}"))?;
        let channel = endpoint.tcp_nodelay(true).connect().await?;
        Ok(Self { channel, prefix: format!("bare{:016x}/", random_u64()) })
    }

    async fn ask<Q, A>(&self, path: &'static str, request: Q) -> Result<A>
    where
        Q: prost::Message + 'static,
        A: prost::Message + Default + 'static,
    {
        let mut grpc = Grpc::new(self.channel.clone());
        grpc.ready().await?;
        let codec = ProstCodec::<Q, A>::default();
        let path = PathAndQuery::from_static(path);
        Ok(grpc.unary(tonic::Request::new(request), path, codec).await?.into_inner())
    }

    fn place(&self, key: &str) -> Bytes {
        format!("{}{key}", self.prefix).into()
    }
}

impl Agreed for BareTxn {
    fn swap<'a>(&'a self, key: &'a str, from: Option<u64>, data: Bytes) -> Work<'a, ()> {
        Box::pin(async move {
            let key = self.place(key);
            // A head is at least its number, and below the next one.
            let bound = |seqno: u64| Bytes::copy_from_slice(&seqno.to_be_bytes());
            let is = |result: CompareResult, target: CompareTarget, to| Compare {
                result: result.into(),
                target: target.into(),
                key: key.clone(),
                target_union: Some(to),
            };
            let value = [&next(from).to_be_bytes()[..], &[0], &data].concat();
            let put = PutRequest { key: key.clone(), value: value.into() };
            let look = RangeRequest { key: key.clone(), ..RangeRequest::default() };
            let op = |request| vec![RequestOp { request: Some(request) }];
            let request = TxnRequest {
                compare: match from {
                    None => {
                        let none = TargetUnion::CreateRevision(0);
                        vec![is(CompareResult::Equal, CompareTarget::Create, none)]
                    }
                    Some(from) => [(CompareResult::Greater, from), (CompareResult::Less, from + 1)]
                        .map(|(result, to)| {
                            is(result, CompareTarget::Value, TargetUnion::Value(bound(to)))
                        })
                        .to_vec(),
                },
                success: op(Request::RequestPut(put)),
                failure: op(Request::RequestRange(look)),
            };
            let answer: TxnResponse = self.ask("/etcdserverpb.KV/Txn", request).await?;
            if answer.succeeded { Ok(()) } else { Err("a mismatch, and nobody else writes".into()) }
        })
    }

    fn head<'a>(&'a self, key: &'a str) -> Work<'a, ()> {
        Box::pin(async move {
            let look = RangeRequest { key: self.place(key), ..RangeRequest::default() };
            let found: proto::RangeResponse = self.ask("/etcdserverpb.KV/Range", look).await?;
            if found.kvs.is_empty() { Err("there is no head".into()) } else { Ok(()) }
        })
    }
}
