//! Whether a server waits for standbys before it answers a commit, which its operator may change at any time.

use std::sync::{Mutex, PoisonError};

use super::Endpoint;

/// What is done about standbys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standbys {
    /// None is waited for, and none was seen.
    None,
    /// Some are there that are not waited for: a failover to one of them takes back what was committed.
    LeftBehind,
    /// A commit waits for them.
    WaitedFor,
}

/// What was last seen of it.
#[derive(Debug, Default)]
pub(super) struct Seen(Mutex<Option<Standbys>>);

impl Seen {
    /// Takes note of a look at a server. What has become worse is told once.
    pub(super) fn look(&self, endpoint: &Endpoint, now: Standbys) {
        let before = self.lock().replace(now);
        if before == Some(now) {
            return;
        }
        match (before, now) {
            (_, Standbys::LeftBehind) => tracing::warn!(
                target: "larder::postgres",
                "{endpoint} has standbys that it does not wait for: a failover to one of them takes back \
                 what was committed; set synchronous_standby_names"
            ),
            (Some(Standbys::WaitedFor), Standbys::None) => tracing::warn!(
                target: "larder::postgres",
                "{endpoint} does not wait for standbys any more: what it commits from now on is on one machine; \
                 synchronous_standby_names is empty"
            ),
            (Some(_), Standbys::WaitedFor) => tracing::info!(
                target: "larder::postgres", "{endpoint} waits for standbys from now on"
            ),
            _ => {}
        }
    }

    /// Takes note of whether a commit waited, which says nothing about standbys that are not waited for.
    pub(super) fn commit(&self, endpoint: &Endpoint, has_waited: bool) {
        if has_waited != self.are_waited_for() {
            self.look(endpoint, if has_waited { Standbys::WaitedFor } else { Standbys::None });
        }
    }

    pub(super) fn are_waited_for(&self) -> bool {
        *self.lock() == Some(Standbys::WaitedFor)
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Standbys>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
