//! The objects behind the protocol of S3.

use std::sync::Arc;
use std::time::Duration;

use larder_core::{Clock as _, SystemClock};
use s3s::auth::SimpleAuth;
use s3s::dto::{
    DeleteObjectInput, DeleteObjectOutput, ETag, ETagCondition, GetObjectInput, GetObjectOutput,
    ListObjectsV2Input, ListObjectsV2Output, Object as Listed, PutObjectInput, PutObjectOutput,
    StreamingBlob, Timestamp,
};
use s3s::service::{S3Service, S3ServiceBuilder};
use s3s::{Body, S3, S3Request, S3Response, S3Result, s3_error};
use tokio::sync::watch;
use tokio::time::timeout;

use super::fault::{Faults, S3Quirk};
use super::objects::{Condition, Objects, Unwritten};
use super::{ACCESS_KEY, BUCKET, SECRET_KEY};

/// The largest object.
const BYTES_MAX: usize = 512 << 20;
/// The most objects in one page of a listing, as in S3.
const PAGE_MAX: i32 = 1_000;
/// How long a store that looks before it writes leaves others to look, if none does.
const LOOK_MAX: Duration = Duration::from_secs(1);

/// What S3 does with objects.
#[derive(Clone, Debug)]
pub(super) struct Adapter {
    objects: Arc<Objects>,
    faults: Arc<Faults>,
    /// How many PUTs of a store that looks before it writes have looked.
    looks: Arc<watch::Sender<u64>>,
}

impl Adapter {
    pub(super) fn new(objects: Arc<Objects>, faults: Arc<Faults>) -> Self {
        Self { objects, faults, looks: Arc::default() }
    }

    /// Notes that somebody has looked, and waits until somebody else has.
    async fn looked(&self) {
        let mut looks = self.looks.subscribe();
        let mut mine = 0;
        self.looks.send_modify(|looks| {
            *looks += 1;
            mine = *looks;
        });
        // A PUT that nobody competes with is carried out as well.
        let _ = timeout(LOOK_MAX, looks.wait_for(|looks| *looks > mine)).await;
    }

    /// The whole protocol, with signatures.
    pub(super) fn service(self) -> S3Service {
        let mut builder = S3ServiceBuilder::new(self);
        builder.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        builder.build()
    }
}

fn check(bucket: &str) -> S3Result<()> {
    if bucket == BUCKET { Ok(()) } else { Err(s3_error!(NoSuchBucket)) }
}

fn refused(why: Unwritten) -> s3s::S3Error {
    match why {
        Unwritten::Precondition => s3_error!(PreconditionFailed),
        Unwritten::NoSuchKey => s3_error!(NoSuchKey),
        Unwritten::Disk(error) => s3_error!(error, InternalError),
    }
}

/// What a PUT asks for, as far as the store listens.
fn condition(input: &PutObjectInput, quirk: Option<S3Quirk>) -> Condition {
    match (&input.if_none_match, &input.if_match) {
        (Some(_), _) if quirk != Some(S3Quirk::IgnoresIfNoneMatch) => Condition::Absent,
        (None, Some(ETagCondition::ETag(tag))) if quirk != Some(S3Quirk::IgnoresIfMatch) => {
            Condition::Is(tag.value().to_owned())
        }
        _ => Condition::Always,
    }
}

fn now() -> Timestamp {
    let since = Duration::from_nanos(SystemClock.now().as_nanos());
    Timestamp::from(std::time::UNIX_EPOCH + since)
}

#[async_trait::async_trait]
impl S3 for Adapter {
    async fn put_object(
        &self,
        request: S3Request<PutObjectInput>,
    ) -> S3Result<S3Response<PutObjectOutput>> {
        let mut input = request.input;
        check(&input.bucket)?;
        let quirk = self.faults.quirk();
        let condition = condition(&input, quirk);
        let body = input.body.take().ok_or_else(|| s3_error!(MissingRequestBodyError))?;
        let bytes = Body::from(body).store_all_limited(BYTES_MAX).await;
        let bytes = bytes.map_err(|_| s3_error!(EntityTooLarge))?;
        let tag = if quirk == Some(S3Quirk::LooksThenWrites) {
            self.objects.holds(&input.key, &condition).map_err(refused)?;
            self.looked().await;
            self.objects.overwrite(&input.key, bytes).map_err(Unwritten::Disk)
        } else {
            self.objects.put(&input.key, bytes, &condition)
        };
        let tag = tag.map_err(refused)?;
        Ok(S3Response::new(PutObjectOutput {
            e_tag: Some(ETag::Strong(tag)),
            ..Default::default()
        }))
    }

    async fn get_object(
        &self,
        request: S3Request<GetObjectInput>,
    ) -> S3Result<S3Response<GetObjectOutput>> {
        let input = request.input;
        check(&input.bucket)?;
        let object = self.objects.get(&input.key).ok_or_else(|| s3_error!(NoSuchKey))?;
        Ok(S3Response::new(GetObjectOutput {
            content_length: i64::try_from(object.bytes.len()).ok(),
            body: Some(StreamingBlob::from(Body::from(object.bytes))),
            e_tag: Some(ETag::Strong(object.tag)),
            last_modified: Some(now()),
            ..Default::default()
        }))
    }

    async fn delete_object(
        &self,
        request: S3Request<DeleteObjectInput>,
    ) -> S3Result<S3Response<DeleteObjectOutput>> {
        check(&request.input.bucket)?;
        let deleted = self.objects.delete(&request.input.key);
        deleted.map_err(|error| s3_error!(error, InternalError))?;
        Ok(S3Response::new(DeleteObjectOutput::default()))
    }

    async fn list_objects_v2(
        &self,
        request: S3Request<ListObjectsV2Input>,
    ) -> S3Result<S3Response<ListObjectsV2Output>> {
        let input = request.input;
        check(&input.bucket)?;
        let prefix = input.prefix.clone().unwrap_or_default();
        // The token is the last name of the page before.
        let after = input.continuation_token.or(input.start_after).unwrap_or_default();
        let limit = input.max_keys.unwrap_or(PAGE_MAX).clamp(1, PAGE_MAX);
        let (found, is_cut) =
            self.objects.list(&prefix, &after, usize::try_from(limit).unwrap_or(1));
        let next = found.last().filter(|_| is_cut).map(|(name, _)| name.clone());
        let contents: Vec<Listed> = found
            .into_iter()
            .map(|(name, object)| Listed {
                key: Some(name),
                size: i64::try_from(object.bytes.len()).ok(),
                e_tag: Some(ETag::Strong(object.tag)),
                last_modified: Some(now()),
                ..Default::default()
            })
            .collect();
        Ok(S3Response::new(ListObjectsV2Output {
            name: Some(input.bucket),
            prefix: input.prefix,
            max_keys: Some(limit),
            key_count: i32::try_from(contents.len()).ok(),
            is_truncated: Some(is_cut),
            next_continuation_token: next,
            contents: Some(contents),
            ..Default::default()
        }))
    }
}
