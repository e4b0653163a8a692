//! The signals that ask a command to end.

use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::exit::{Exit, plain};

/// SIGTERM and SIGINT, which end nothing by themselves any more once somebody listens.
#[derive(Debug)]
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    pub(crate) fn listen() -> Result<Self, Exit> {
        let to = |kind| {
            signal(kind).map_err(|error| {
                Exit::failed(format!("cannot listen to signals: {}", plain(&error)))
            })
        };
        Ok(Self {
            terminate: to(SignalKind::terminate())?,
            interrupt: to(SignalKind::interrupt())?,
        })
    }

    pub(crate) async fn next(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
