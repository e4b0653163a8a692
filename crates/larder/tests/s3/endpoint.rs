//! The endpoint itself: what the other tests rest on, asked by a client that is not ours.

use std::sync::Arc;

use futures_util::future::join_all;
use larder_testkit::service::{S3Process, S3Server};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::path::Path;
use object_store::{ObjectStore as _, ObjectStoreExt as _, PutMode, PutPayload, UpdateVersion};

/// A client for the endpoint of an address.
fn client(uri: &str) -> AmazonS3 {
    // Another test of this process may have done it.
    let _ = tokio_rustls::rustls::crypto::ring::default_provider().install_default();
    let (place, endpoint) = uri.split_once("?endpoint=").unwrap();
    let (login, _) = place.strip_prefix("s3://").unwrap().rsplit_once('@').unwrap();
    let (key, secret) = login.split_once(':').unwrap();
    AmazonS3Builder::new()
        .with_endpoint(endpoint)
        .with_bucket_name("shelf")
        .with_access_key_id(key)
        .with_secret_access_key(secret)
        .with_allow_http(true)
        .build()
        .unwrap()
}

fn bytes(text: String) -> PutPayload {
    PutPayload::from(text.into_bytes())
}

async fn race(client: &Arc<AmazonS3>, name: &str, mode: PutMode) -> usize {
    let racing = (0..16).map(|racer| {
        let (client, mode, name) = (Arc::clone(client), mode.clone(), Path::from(name));
        let put =
            async move { client.put_opts(&name, bytes(format!("{racer}")), mode.into()).await };
        tokio::spawn(put)
    });
    let done = join_all(racing.collect::<Vec<_>>()).await;
    done.into_iter().filter(|done| done.as_ref().unwrap().is_ok()).count()
}

pub(crate) async fn of_many_that_name_one_etag_one_wins() {
    let server = S3Server::start().unwrap();
    let client = Arc::new(client(&server.uri("")));
    let name = Path::from("raced");
    for round in 0..20 {
        let first = client.put(&name, bytes(format!("round {round}"))).await.unwrap();
        let version = UpdateVersion { e_tag: first.e_tag, version: None };
        assert_eq!(race(&client, "raced", PutMode::Update(version)).await, 1, "round {round}");
    }
}

pub(crate) async fn of_many_that_create_one_wins() {
    let server = S3Server::start().unwrap();
    let client = Arc::new(client(&server.uri("")));
    for round in 0..20 {
        assert_eq!(race(&client, &format!("new {round}"), PutMode::Create).await, 1);
    }
}

pub(crate) async fn what_was_acknowledged_is_there_after_a_kill() {
    let (inner, outer) = (S3Server::start().unwrap(), S3Process::start().unwrap());
    for round in 0..5 {
        for uri in [inner.uri(""), outer.uri("")] {
            let client = client(&uri);
            let name = Path::from(format!("odd name/ü {round}"));
            client.put(&name, bytes(format!("kept {round}"))).await.unwrap();
        }
        inner.restart().unwrap();
        outer.restart().unwrap();
        for uri in [inner.uri(""), outer.uri("")] {
            let client = client(&uri);
            for before in 0..=round {
                let name = Path::from(format!("odd name/ü {before}"));
                let kept = client.get(&name).await.unwrap().bytes().await.unwrap();
                assert_eq!(kept, format!("kept {before}"));
            }
        }
    }
}
