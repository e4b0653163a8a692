//! The example with axum and PostgreSQL, run as it is.
//!
//! Without the programs of the server the test is ignored and listed as such; with
//! `LARDER_TEST_REQUIRE=postgres` (or `all`) it fails instead.

#![expect(clippy::unwrap_used, reason = "a step that fails fails the test")]

use std::net::SocketAddr;
use std::process::ExitCode;

use larder_testkit::service::PostgresServer;
use libtest_mimic::{Arguments, Failed, Trial};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

#[path = "../examples/axum.rs"]
#[expect(dead_code, reason = "its main is not run")]
mod example;

fn main() -> ExitCode {
    let missing = PostgresServer::missing();
    let required = std::env::var("LARDER_TEST_REQUIRE").unwrap_or_default();
    let required = required.split(',').any(|word| matches!(word.trim(), "all" | "postgres"));
    let is_missing = missing.is_some();
    let run = move || {
        if let Some(why) = missing {
            return Err(Failed::from(why));
        }
        let mut runtime = tokio::runtime::Builder::new_multi_thread();
        runtime.worker_threads(2).enable_all().build()?.block_on(products());
        Ok(())
    };
    let name = "products_are_cached_replaced_and_served_while_the_database_is_away";
    let trial = Trial::test(name, run).with_ignored_flag(is_missing && !required);
    libtest_mimic::run(&Arguments::from_args(), vec![trial]).exit_code()
}

/// Sends a request; the status, where the product came from, and the body.
async fn call(address: SocketAddr, request: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let head = format!("{request} HTTP/1.1\r\nhost: shop\r\nconnection: close\r\n\r\n");
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    let from = head.lines().find_map(|line| line.strip_prefix("x-from: ")).unwrap_or_default();
    (status, from.to_owned(), body.to_owned())
}

async fn products() {
    let server = PostgresServer::start().unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let app = example::app(&server.uri(), None).await.unwrap();
    tokio::spawn(async move { axum::serve(listener, app).await });

    assert_eq!(call(address, "GET /products/1").await.0, 404);
    assert_eq!(call(address, "PUT /products/1?name=chair&cents=4900").await.0, 204);
    // The note that there is no such product is gone as well.
    let chair = r#"{"name":"chair","cents":4900}"#.to_owned();
    assert_eq!(call(address, "GET /products/1").await, (200, "database".into(), chair.clone()));
    assert_eq!(call(address, "GET /products/1").await, (200, "memory".into(), chair));
    assert_eq!(call(address, "PUT /products/1?name=table&cents=9900").await.0, 204);
    let table = r#"{"name":"table","cents":9900}"#.to_owned();
    assert_eq!(call(address, "GET /products/1").await, (200, "database".into(), table.clone()));
    server.stop().unwrap();
    assert_eq!(call(address, "GET /products/1").await, (200, "memory".into(), table));
    assert_eq!(call(address, "GET /products/2").await.0, 503);
    let stats = call(address, "GET /stats").await.2;
    assert!(stats.contains("hits: 2") && stats.contains("load_errors: 1"), "{stats}");
}
