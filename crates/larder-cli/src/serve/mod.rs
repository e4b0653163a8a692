//! `larder serve`: the daemon.
//!
//! | room | what it holds |
//! |---|---|
//! | [`config`] | the config file |
//! | [`state`] | the open stores, and everything else that requests share |
//! | [`connections`] | accepting, bounding and draining connections |
//! | [`http`] | the routes |
//! | [`metrics`] | counters, for Prometheus and for the status |
//! | [`shutdown`] | signals |

mod caches;
pub(crate) mod config;
mod connections;
mod http;
mod metrics;
mod page;
mod shutdown;
mod stall;
mod state;

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::net::TcpListener;
use tracing::info;

use self::config::Config;
use self::state::App;
use crate::args::ServeArgs;
use crate::exit::{Exit, plain};
use crate::output::Output;
use crate::signals::Signals;

pub(crate) async fn run(args: ServeArgs, output: &mut Output) -> Result<(), Exit> {
    let config = read_config(args)?;
    refuse_strangers(config.listen)?;
    log_to_stderr();
    let metrics = metrics::install()?;
    // The port comes before the folders: when it is taken nothing has been touched.
    let listener = bind(config.listen).await?;
    let address = local_address(&listener)?;
    let signals = Signals::listen()?;
    let app = Arc::new(App::open(config, metrics).await?);

    let line = format!("listening on http://{address}");
    output.line(&serde_json::json!({ "listening": format!("http://{address}") }), &line)?;
    output.flush()?;
    info!(%address, version = env!("CARGO_PKG_VERSION"), "serving");

    let served = shutdown::until_told(signals, &app, listener).await;
    let closed = app.close().await;
    served.and(closed)
}

/// The config file, or the defaults, with the flags on top.
fn read_config(args: ServeArgs) -> Result<Config, Exit> {
    let mut config = match &args.config {
        Some(file) => Config::read_raw(file)?,
        None => Config::default(),
    };
    if let Some(listen) = args.listen {
        config.listen = listen;
    }
    if let Some(data) = args.data {
        config.data = data;
    }
    config.complete()
}

/// Without TLS and tokens only this machine is served.
fn refuse_strangers(listen: SocketAddr) -> Result<(), Exit> {
    if listen.ip().is_loopback() {
        return Ok(());
    }
    Err(Exit::usage(format!(
        "cannot listen on {listen}: without TLS and tokens only loopback addresses are served, \
         such as 127.0.0.1:7070"
    )))
}

async fn bind(listen: SocketAddr) -> Result<TcpListener, Exit> {
    TcpListener::bind(listen).await.map_err(|error| {
        let help = match error.kind() {
            std::io::ErrorKind::AddrInUse => ": stop what runs there, or choose another --listen",
            _ => "",
        };
        Exit::unavailable(format!("cannot listen on {listen}: {}{help}", plain(&error)))
    })
}

fn local_address(listener: &TcpListener) -> Result<SocketAddr, Exit> {
    listener
        .local_addr()
        .map_err(|error| Exit::unavailable(format!("the port has no address: {}", plain(&error))))
}

fn log_to_stderr() {
    let filter = tracing_subscriber::EnvFilter::try_from_env("LARDER_LOG")
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let terminal = std::io::IsTerminal::is_terminal(&std::io::stderr());
    // Fails only when a subscriber is there already; then that one serves.
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(terminal)
        // A log that cannot be written, as on a full disk, must not take requests down with it: the
        // complaint about it would go to the same place, and panic there.
        .log_internal_errors(false)
        .try_init();
}
