//! A server of the test kit behind a way that is cut, held up and slowed down.

use std::sync::Arc;
use std::time::Duration;

use larder_testkit::{Proxy, Random};
use tokio::time::sleep;

/// A server that can be killed and started again with what it holds.
pub(crate) trait Service: Send + Sync + 'static {
    fn kill(&self);
    fn restart(&self) -> Result<(), String>;
}

/// One that can be stopped where it is (SIGSTOP) and let go on.
#[cfg(any(feature = "etcd", feature = "postgres"))]
pub(crate) trait Stops: Service {
    fn pause(&self) -> Result<(), String>;
    fn resume(&self) -> Result<(), String>;
}

macro_rules! services {
    ($($feature:literal: $server:ident $(, $stops:ident)?;)+) => {$(
        #[cfg(feature = $feature)]
        impl Service for larder_testkit::service::$server {
            fn kill(&self) {
                self.kill();
            }

            fn restart(&self) -> Result<(), String> {
                self.restart()
            }
        }

        $(#[cfg(feature = $feature)]
        impl $stops for larder_testkit::service::$server {
            fn pause(&self) -> Result<(), String> {
                self.pause()
            }

            fn resume(&self) -> Result<(), String> {
                self.resume()
            }
        })?
    )+};
}

services! {
    "etcd": EtcdServer, Stops;
    "postgres": PostgresServer, Stops;
    "s3": S3Process;
}

/// A server and the way to it.
pub(crate) struct Behind<S> {
    server: Arc<S>,
    pub(crate) proxy: Proxy,
}

impl<S: Service> Behind<S> {
    /// `server`, which listens on `port`.
    pub(crate) fn new(server: S, port: u16) -> Self {
        Self { server: Arc::new(server), proxy: Proxy::to_port(port).unwrap() }
    }

    /// Where it is found.
    pub(crate) fn port(&self) -> u16 {
        self.proxy.address().port()
    }

    pub(crate) fn server(&self) -> &Arc<S> {
        &self.server
    }

    /// Ends it at once and starts it again.
    pub(crate) async fn kill(&self) {
        aside(&self.server, |server| {
            server.kill();
            server.restart().unwrap();
        })
        .await;
    }

    /// The same, some time from now.
    pub(crate) async fn kill_soon(&self, random: &mut Random) {
        sleep(Duration::from_millis(random.word() % 60)).await;
        self.kill().await;
    }
}

#[cfg(any(feature = "etcd", feature = "postgres"))]
impl<S: Stops> Behind<S> {
    pub(crate) async fn stand_still(&self, moment: Duration) {
        aside(&self.server, |server| server.pause().unwrap()).await;
        sleep(moment).await;
        aside(&self.server, |server| server.resume().unwrap()).await;
    }
}

/// Does something to a server that takes its time.
pub(crate) async fn aside<S: Send + Sync + 'static, T: Send + 'static>(
    server: &Arc<S>,
    act: impl FnOnce(&S) -> T + Send + 'static,
) -> T {
    let server = Arc::clone(server);
    tokio::task::spawn_blocking(move || act(&server)).await.unwrap()
}

/// How long something goes wrong.
pub(crate) fn moment(random: &mut Random) -> Duration {
    Duration::from_millis(10 + random.word() % 60)
}
