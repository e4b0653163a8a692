//! A bus whose server dies and loses connections.

use std::time::Duration;

use bytes::Bytes;
use larder::bus::{Bus, BusError, PostgresBus, Topic};
use larder::{Effect, Failure, Retry};
use larder_testkit::service::PostgresServer;

use crate::place::{number, uri, within};

fn topic(text: &str) -> Topic {
    Topic::new(text).unwrap()
}

pub(crate) async fn a_subscription_ends_with_its_connection_and_another_one_can_be_had() {
    let server = PostgresServer::start().unwrap();
    let bus = PostgresBus::attach(&uri(&server, "timeout=5s")).unwrap();
    let mut subscription = bus.subscribe(&topic("news")).await.unwrap();
    bus.publish(&topic("news"), Bytes::from("first")).await.unwrap();
    bus.publish(&topic("other"), Bytes::from("not ours")).await.unwrap();
    assert_eq!(subscription.next().await.unwrap(), "first");
    for turn in 0..2 {
        if turn == 0 {
            server.terminate("larder").unwrap();
        } else {
            server.kill();
            server.restart().unwrap();
        }
        let error = subscription.next().await.unwrap_err();
        assert!(matches!(error, BusError::Backend(_)), "{error:?}");
        assert_eq!((error.effect(), error.retry()), (Effect::Unknown, Retry::Later));
        subscription = bus.subscribe(&topic("news")).await.unwrap();
        while bus.publish(&topic("news"), Bytes::from("again")).await.is_err() {}
        assert_eq!(subscription.next().await.unwrap(), "again");
    }
}

pub(crate) async fn a_server_that_is_away_or_stands_still_fails_calls_in_time() {
    let server = PostgresServer::start().unwrap();
    let bus = PostgresBus::attach(&uri(&server, "timeout=300ms")).unwrap();
    let limit = Duration::from_millis(300);
    server.pause().unwrap();
    assert!(within(limit, bus.subscribe(&topic("news"))).await.is_err());
    assert!(within(limit, bus.publish(&topic("news"), Bytes::new())).await.is_err());
    server.kill();
    let error = within(limit, bus.subscribe(&topic("news"))).await.unwrap_err();
    assert_eq!((error.effect(), error.retry()), (Effect::NotApplied, Retry::Later), "{error:?}");
}

pub(crate) async fn a_subscription_that_is_dropped_leaves_no_connection() {
    let server = PostgresServer::start().unwrap();
    let bus = PostgresBus::attach(&uri(&server, "timeout=5s")).unwrap();
    let ours = "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'larder'";
    let subscriptions = [
        bus.subscribe(&topic("news")).await.unwrap(),
        bus.subscribe(&topic("news")).await.unwrap(),
    ];
    assert_eq!(number(&server, ours), 2);
    drop(subscriptions);
    for turn in 0.. {
        if number(&server, ours) == 0 {
            break;
        }
        assert!(turn < 1_000, "connections are left");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
}

pub(crate) async fn what_others_notify_there_ends_the_subscription() {
    let server = PostgresServer::start().unwrap();
    let bus = PostgresBus::attach(&uri(&server, "timeout=5s")).unwrap();
    let mut subscription = bus.subscribe(&topic("news")).await.unwrap();
    let channel = channel_of("\"larder\"/news ");
    // Of another topic with the same hash: not for us.
    server.query(&format!("NOTIFY {channel}, 'other/news eA=='")).unwrap();
    server.query(&format!("NOTIFY {channel}, '\"larder\"/news eA=='")).unwrap();
    assert_eq!(subscription.next().await.unwrap(), "x");
    server.query(&format!("NOTIFY {channel}, '\"larder\"/news ?'")).unwrap();
    assert!(matches!(subscription.next().await, Err(BusError::Backend(_))));
}

/// As `docs/postgres.md` has it.
fn channel_of(prefix: &str) -> String {
    let mut hash = 14_695_981_039_346_656_037_u64;
    for byte in prefix.bytes() {
        hash = (hash ^ u64::from(byte)).wrapping_mul(1_099_511_628_211);
    }
    format!("larder_{hash:016x}")
}
