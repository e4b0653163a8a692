//! What a server says beside an answer, and whether the answer still means what it should.

use std::sync::{Arc, Mutex, PoisonError};

use tokio_postgres::AsyncMessage;
use tokio_postgres::error::Severity;

/// The warning of a connection that an answer has to be doubted for.
///
/// A statement that has committed and then waits for a standby can be told by an operator to wait no longer
/// (`pg_cancel_backend`). Its answer is that of every other commit; only a warning in front of it says that the standby
/// may not have it.
#[derive(Clone, Debug, Default)]
pub(super) struct Warning(Arc<Mutex<Option<&'static str>>>);

/// Where the server gives up waiting for standbys. Its words are in the language of the server, its code is that of
/// all warnings.
const WAITS_FOR_STANDBYS: &str = "SyncRepWaitForLSN";
/// Where the server warns that it will run out of transaction numbers, about the database and not the statement.
const COUNTS_TRANSACTIONS: [&str; 4] =
    ["GetNewTransactionId", "SetTransactionIdLimit", "GetNewMultiXactId", "SetMultiXactIdLimit"];

impl Warning {
    /// Takes note of what the server says.
    pub(super) fn hear(&self, message: &AsyncMessage) {
        let AsyncMessage::Notice(notice) = message else { return };
        if notice.parsed_severity() != Some(Severity::Warning) {
            return;
        }
        if let Some(doubt) = doubt(notice.routine().unwrap_or_default()) {
            *self.lock() = Some(doubt);
        }
    }

    /// What was said before is over: another statement begins.
    pub(super) fn forget(&self) {
        *self.lock() = None;
    }

    /// Why an answer has to be doubted, if it has to be.
    pub(super) fn doubt(&self) -> Option<&'static str> {
        *self.lock()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<&'static str>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a warning from a place in the server leaves in doubt. One that nobody has looked at does.
fn doubt(routine: &str) -> Option<&'static str> {
    if routine == WAITS_FOR_STANDBYS {
        return Some("it was told not to wait for its standbys any longer");
    }
    (!COUNTS_TRANSACTIONS.contains(&routine)).then_some("it warned meanwhile, see its log")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_warnings_that_are_known_to_be_harmless_leave_no_doubt() {
        assert!(doubt("SyncRepWaitForLSN").unwrap().contains("standbys"));
        assert!(doubt("exec_stmt_raise").unwrap().contains("log"));
        assert!(doubt("").is_some());
        for routine in COUNTS_TRANSACTIONS {
            assert_eq!(doubt(routine), None, "{routine}");
        }
    }
}
