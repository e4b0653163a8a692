//! Connections of an endpoint, and the faults on them.

use std::io;
use std::net::TcpListener as Listener;
use std::sync::Arc;
use std::time::Duration;

use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use s3s::Body;
use s3s::service::S3Service;
use tokio::net::TcpListener;

use super::fault::{Faults, S3Fault, S3Refusal};

/// A late request that nobody lets come is carried out after this time.
const LATE_MAX: Duration = Duration::from_mins(1);
const BODY_MAX: usize = 512 << 20;

/// Serves every connection until it is dropped.
pub(super) async fn serve(listener: Listener, service: S3Service, faults: Arc<Faults>) {
    let Ok(listener) = TcpListener::from_std(listener) else { return };
    // With the set, connections end when this does.
    let mut connections = tokio::task::JoinSet::new();
    while let Ok((stream, _)) = listener.accept().await {
        while connections.try_join_next().is_some() {}
        let (service, faults) = (service.clone(), Arc::clone(&faults));
        connections.spawn(async move {
            let answer = service_fn(|request| answer(&service, &faults, request));
            // A connection that ends early is what a test asked for.
            let _ = hyper::server::conn::http1::Builder::new()
                .serve_connection(TokioIo::new(stream), answer)
                .await;
        });
    }
}

/// An error here ends the connection.
async fn answer(
    service: &S3Service,
    faults: &Arc<Faults>,
    request: Request<Incoming>,
) -> io::Result<Response<Body>> {
    let fault = faults.next(request.method() == Method::PUT);
    let (head, body) = request.into_parts();
    // It is here as a whole before anything happens: what is late needs no connection.
    let mut body = Body::from(body);
    let bytes = body.store_all_limited(BODY_MAX).await.map_err(io::Error::other)?;
    let request = Request::from_parts(head, Body::from(bytes));
    match fault {
        None => call(service, request).await,
        Some(S3Fault::Refused(refusal)) => Ok(refuse(refusal)),
        Some(S3Fault::DoneButRefused(refusal)) => {
            call(service, request).await?;
            Ok(refuse(refusal))
        }
        Some(S3Fault::RequestLost) => Err(lost()),
        Some(S3Fault::ReplyLost) => {
            call(service, request).await?;
            Err(lost())
        }
        Some(S3Fault::Slow(delay)) => {
            tokio::time::sleep(delay).await;
            call(service, request).await
        }
        Some(S3Fault::Hangs) => {
            faults.until_calm().await;
            call(service, request).await
        }
        Some(S3Fault::Late) => {
            let (service, (go, told)) = (service.clone(), faults.enlist());
            tokio::spawn(async move {
                let _ = tokio::time::timeout(LATE_MAX, go).await;
                if let Ok(response) = call(&service, request).await {
                    // Whoever let it come may have gone.
                    let _ = told.send(response.status().as_u16());
                }
            });
            Err(lost())
        }
    }
}

async fn call(service: &S3Service, request: Request<Body>) -> io::Result<Response<Body>> {
    service.call(request).await.map_err(|error| io::Error::other(format!("{error:?}")))
}

fn lost() -> io::Error {
    io::Error::other("lost on purpose")
}

fn refuse(refusal: S3Refusal) -> Response<Body> {
    let (status, code) = refusal.status_and_code();
    let body = code.map_or_else(String::new, |code| {
        format!(
            "<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>on purpose</Message></Error>"
        )
    });
    let mut response = Response::new(Body::from(body));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or_default();
    response
}
