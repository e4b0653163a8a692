//! Every consensus store.

use std::sync::Arc;

use larder::consensus::{Measured, Timeout};
use larder::recipes::Nonced;
use larder::registry::OpenError;
use larder::{AddressError, MemoryConsensus, SharedConsensus};
use larder_testkit::{Need, Place, Subject, subjects};

use crate::Candidate;

pub(crate) fn all() -> Vec<Candidate<SharedConsensus>> {
    vec![
        subjects::memory_consensus().into(),
        Subject::new("memory-uri", || Ok(Place::new(|| larder::open_consensus("memory:")))).into(),
        Subject::new("arc-of-memory", || {
            let inner = SharedConsensus::new(MemoryConsensus::default());
            let store = SharedConsensus::new(Arc::new(inner));
            Ok(Place::new(move || std::future::ready(Ok::<_, OpenError>(store.clone()))))
        })
        .into(),
        around("timeout", |store| {
            SharedConsensus::new(Timeout::new(store, std::time::Duration::from_secs(20)))
        }),
        around("measured", |store| SharedConsensus::new(Measured::new(store, "laws"))),
        around("nonced", |store| SharedConsensus::new(Nonced::new(store))),
        log(),
        #[cfg(feature = "postgres")]
        postgres(),
        #[cfg(feature = "postgres-tls")]
        postgres_tls(),
        #[cfg(feature = "etcd")]
        etcd(),
        #[cfg(feature = "etcd-tls")]
        etcd_tls(),
        #[cfg(feature = "s3")]
        s3(),
    ]
}

/// A prefix for each place, on one server.
#[cfg(feature = "etcd")]
fn etcd() -> Candidate<SharedConsensus> {
    use larder_testkit::service::EtcdServer;
    let subject = Subject::new("etcd", || {
        let server = EtcdServer::shared()?;
        let uri = format!("{}/law_{:016x}?timeout=20s", server.uri(), larder::clock::random_u64());
        let open = move || {
            let uri = uri.clone();
            async move { larder::open_consensus(&uri).await }
        };
        Ok(Place::new(open).keeping(server))
    })
    .offering([Need::Reopen]);
    Candidate { subject, missing: EtcdServer::missing() }
}

/// The same over TLS.
#[cfg(feature = "etcd-tls")]
fn etcd_tls() -> Candidate<SharedConsensus> {
    use larder_testkit::service::{Authority, EtcdServer};
    let subject = Subject::new("etcd-tls", || {
        let authority = Authority::new()?;
        let server = EtcdServer::start_with_tls(&authority.certify("localhost")?, &[])?;
        let port = server.tls_port().ok_or("a port for TLS")?;
        let uri =
            format!("etcds://localhost:{port}/law?timeout=20s&ca={}", authority.file().display());
        let open = move || {
            let uri = uri.clone();
            async move { larder::open_consensus(&uri).await }
        };
        Ok(Place::new(open).keeping((server, authority)))
    })
    .offering([Need::Reopen]);
    Candidate { subject, missing: EtcdServer::missing() }
}

/// A store in memory with something around it.
fn around(name: &str, wrap: fn(MemoryConsensus) -> SharedConsensus) -> Candidate<SharedConsensus> {
    let place = move || {
        let store = wrap(MemoryConsensus::default());
        Ok(Place::new(move || std::future::ready(Ok::<_, OpenError>(store.clone()))))
    };
    Subject::new(name, place).into()
}

/// A server and a schema for each place.
#[cfg(feature = "postgres")]
fn postgres() -> Candidate<SharedConsensus> {
    use larder_testkit::service::PostgresServer;
    let subject = Subject::new("postgres", || {
        // What does not sync is refused.
        let server = PostgresServer::start_with(&["fsync=on"])?;
        let schema = larder::clock::random_u64();
        let uri = format!("{}?schema=law_{schema:016x}&timeout=20s", server.uri());
        let open = move || {
            let uri = uri.clone();
            async move { larder::open_consensus(&uri).await }
        };
        Ok(Place::new(open).keeping(server))
    })
    .offering([Need::Reopen]);
    Candidate { subject, missing: PostgresServer::missing() }
}

/// The same over TLS.
#[cfg(feature = "postgres-tls")]
fn postgres_tls() -> Candidate<SharedConsensus> {
    use larder_testkit::service::{Authority, PostgresServer};
    let subject = Subject::new("postgres-tls", || {
        let authority = Authority::new()?;
        let server =
            PostgresServer::start_with_tls(&authority.certify("localhost")?, &["fsync=on"])?;
        let (port, ca) = (server.port(), authority.file().display());
        let uri = format!(
            "postgres://larder@localhost:{port}/postgres?timeout=20s&sslmode=verify-full&ca={ca}"
        );
        let open = move || {
            let uri = uri.clone();
            async move { larder::open_consensus(&uri).await }
        };
        Ok(Place::new(open).keeping((server, authority)))
    })
    .offering([Need::Reopen]);
    Candidate { subject, missing: PostgresServer::missing() }
}

/// An endpoint of S3 for each place.
#[cfg(feature = "s3")]
fn s3() -> Candidate<SharedConsensus> {
    use larder_testkit::service::S3Server;
    Subject::new("s3", || {
        let server = S3Server::start()?;
        let uri = format!("{}&timeout=20s", server.uri("law"));
        let open = move || {
            let uri = uri.clone();
            async move { larder::open_consensus(&uri).await }
        };
        Ok(Place::new(open).keeping(server))
    })
    .offering([Need::Reopen])
    .into()
}

/// The embedded engine in a temporary folder.
fn log() -> Candidate<SharedConsensus> {
    let subject = Subject::new("log", || {
        let folder = tempfile::tempdir()?;
        let uri = format!("log:{}", folder.path().display());
        let open = move || {
            let uri = uri.clone();
            async move { larder::open_consensus(&uri).await }
        };
        Ok(Place::new(open).keeping(folder))
    })
    .offering([Need::Reopen, Need::SecondOpen]);
    Candidate { subject, missing: missing() }
}

/// Whether this build has the embedded engine at all.
fn missing() -> Option<String> {
    let opened = crate::runtime().ok()?.block_on(larder::open_consensus("log:"));
    match opened {
        Err(OpenError::Address(error @ AddressError::UnknownScheme { .. })) => {
            Some(error.to_string())
        }
        _ => None,
    }
}
