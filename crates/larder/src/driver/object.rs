//! Object stores that speak the protocol of S3: single requests, each sent once, and what their errors mean.
//!
//! Nothing is repeated here or below: whoever repeats a conditional PUT has to know how to tell his own success
//! from that of somebody else. The client of `object_store` would, on its own account, and takes a connection that
//! ended before the answer for a request that was never sent.

use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::StreamExt as _;
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey, S3ConditionalPut};
use object_store::list::{PaginatedListOptions, PaginatedListStore as _};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, ObjectStore as _, PutMode, PutOptions, PutPayload, RetryConfig,
    UpdateVersion,
};
use tokio::time::timeout_at;

mod endpoint;
mod trouble;
mod wire;

pub(crate) use endpoint::Endpoint;
pub(crate) use trouble::Trouble;
use wire::{Connector, Sent};

/// The way to a bucket. Names are those below the prefix of the address.
#[derive(Debug)]
pub(crate) struct Store {
    client: AmazonS3,
    endpoint: Endpoint,
    /// How long a single request may take.
    limit: Duration,
    is_aws: bool,
}

/// What names one state of an object: its ETag, as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Tag(String);

impl Tag {
    /// One that no object has.
    pub(crate) fn of_nothing() -> Self {
        Self("\"00000000000000000000000000000000\"".to_owned())
    }
}

/// An object as it was when it was read.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) bytes: Bytes,
    pub(crate) tag: Tag,
}

/// Names of objects, in the order of the store, and how to go on.
#[derive(Debug)]
pub(crate) struct Page {
    pub(crate) names: Vec<String>,
    pub(crate) next: Option<String>,
}

impl Store {
    /// The way to a bucket, with `limit` for each request. Nothing is sent before the first one; reads the
    /// certificates of authorities.
    pub(crate) fn new(endpoint: Endpoint, limit: Duration) -> Result<Self, Trouble> {
        let unfit = |why: String| Trouble::Unfit { place: endpoint.to_string(), what: why.into() };
        let mut builder = AmazonS3Builder::from_env()
            .with_bucket_name(&endpoint.bucket)
            .with_conditional_put(S3ConditionalPut::ETagMatch)
            .with_retry(RetryConfig { max_retries: 0, ..RetryConfig::default() })
            // The signature covers the body: what was changed on the way is refused.
            .with_unsigned_payload(false)
            .with_skip_signature(false)
            // Not every store can remove many at once.
            .with_disable_bulk_delete(true);
        if let Some(url) = &endpoint.url {
            builder = builder
                .with_config(AmazonS3ConfigKey::S3Endpoint, url)
                .with_virtual_hosted_style_request(false);
        }
        if let Some(region) = &endpoint.region {
            builder = builder.with_region(region);
        }
        if let Some(login) = &endpoint.login {
            builder = builder.with_credentials(login.provider());
        }
        let given = [AmazonS3ConfigKey::S3Endpoint, AmazonS3ConfigKey::Endpoint];
        let url = given.iter().find_map(|key| builder.get_config_value(key));
        let is_secure = !url.as_ref().is_some_and(|url| url.starts_with("http://"));
        let connector = Connector::new(&endpoint, is_secure, limit).map_err(unfit)?;
        let client = builder.with_http_connector(connector).build();
        let client = client.map_err(|error| unfit(endpoint::told(&error)))?;
        Ok(Self { client, endpoint, limit, is_aws: url.is_none() })
    }

    /// Where it is, without who we are there.
    pub(crate) fn place(&self) -> String {
        self.endpoint.to_string()
    }

    /// Whether it is the service of Amazon.
    pub(crate) const fn is_aws(&self) -> bool {
        self.is_aws
    }

    /// Reads an object of at most `bytes_max` bytes, once; `None`: there is none.
    pub(crate) async fn get(
        &self,
        name: &str,
        bytes_max: u64,
        until: Instant,
    ) -> Result<Option<Found>, Trouble> {
        let got = self.within(until, async {
            let sent = Sent::default();
            let options = GetOptions { extensions: sent.carried(), ..GetOptions::default() };
            let found = match self.client.get_opts(&self.path(name), options).await {
                Ok(found) => found,
                Err(error) => return Err(self.trouble(&error, &sent)),
            };
            if found.meta.size > bytes_max {
                return Err(Trouble::TooLarge { bytes: found.meta.size, bytes_max });
            }
            let tag = found.meta.e_tag.clone().map(Tag).ok_or(NO_TAG)?;
            let bytes = found.bytes().await.map_err(|error| self.trouble(&error, &sent))?;
            Ok(Found { bytes, tag })
        });
        match got.await {
            Ok(found) => Ok(Some(found)),
            Err(trouble) if trouble.is_no_such_key() => Ok(None),
            Err(trouble) => Err(trouble),
        }
    }

    /// Writes an object if it still is the one with this tag, or if there is none (`None`); once.
    ///
    /// # Cancel safety
    /// What is dropped may be carried out, at any later time.
    pub(crate) async fn put(
        &self,
        name: &str,
        bytes: Bytes,
        tag: Option<&Tag>,
        until: Instant,
    ) -> Result<Tag, Trouble> {
        let mode = match tag {
            None => PutMode::Create,
            Some(Tag(tag)) => {
                PutMode::Update(UpdateVersion { e_tag: Some(tag.clone()), version: None })
            }
        };
        self.within(until, async {
            let sent = Sent::default();
            let extensions = sent.carried();
            let options = PutOptions { mode, extensions, ..PutOptions::default() };
            let path = self.path(name);
            let put = self.client.put_opts(&path, PutPayload::from(bytes), options);
            let put = put.await.map_err(|error| self.trouble(&error, &sent))?;
            put.e_tag.map(Tag).ok_or(NO_TAG)
        })
        .await
    }

    /// Removes an object, whatever it is.
    pub(crate) async fn delete(&self, name: &str, until: Instant) -> Result<(), Trouble> {
        let path = self.path(name);
        self.within(until, async move {
            let one = futures_util::stream::once(async move { Ok(path) }).boxed();
            let mut deleting = self.client.delete_stream(one);
            match deleting.next().await {
                Some(Err(error)) => Err(self.trouble(&error, &Sent::of_one_that_may_have_gone())),
                Some(Ok(_)) | None => Ok(()),
            }
        })
        .await
    }

    /// The names of objects that begin with `prefix`, page by page.
    pub(crate) async fn list(
        &self,
        prefix: &str,
        from: Option<String>,
        until: Instant,
    ) -> Result<Page, Trouble> {
        self.within(until, async {
            let sent = Sent::default();
            let extensions = sent.carried();
            let options =
                PaginatedListOptions { page_token: from, extensions, ..Default::default() };
            let page = self.client.list_paginated(Some(&self.endpoint.name(prefix)), options).await;
            let page = page.map_err(|error| self.trouble(&error, &sent))?;
            let objects = page.result.objects.into_iter();
            let above = self.endpoint.name("");
            let within =
                |name: String| name.strip_prefix(&above).map_or(name.clone(), str::to_owned);
            let names = objects.map(|object| within(object.location.to_string())).collect();
            Ok(Page { names, next: page.page_token })
        })
        .await
    }

    fn path(&self, name: &str) -> Path {
        Path::from(self.endpoint.name(name))
    }

    /// Gives a request its time.
    async fn within<T>(
        &self,
        until: Instant,
        request: impl Future<Output = Result<T, Trouble>>,
    ) -> Result<T, Trouble> {
        use larder_core::{Clock as _, SystemClock};
        let until = until.min(SystemClock.instant() + self.limit);
        let late = |_| Err(Trouble::Late { place: self.place(), limit: self.limit });
        timeout_at(tokio::time::Instant::from_std(until), request).await.unwrap_or_else(late)
    }

    /// What an error of the client means: what was seen on the wire, if it came to that.
    fn trouble(&self, error: &Error, sent: &Sent) -> Trouble {
        let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(error);
        while let Some(error) = cause {
            if let Some(trouble) = error.downcast_ref::<Trouble>() {
                return trouble.clone();
            }
            cause = error.source();
        }
        let place = self.place();
        if sent.is_set() {
            Trouble::Lost { place, why: "the answer makes no sense or was cut off".to_owned() }
        } else {
            Trouble::NoLogin { place }
        }
    }
}

const NO_TAG: Trouble = Trouble::Odd { what: "an object without an ETag" };
