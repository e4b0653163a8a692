//! How an enumeration ends: complete, or early and why.

use std::fmt;
use std::pin::Pin;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::SpoolError;

/// What an enumeration sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "plain counts")]
pub struct EnumerateSummary {
    /// Entries sent, damaged ones not included.
    pub items: u64,
    /// Damaged entries sent.
    pub corrupt: u64,
    /// The sum of the payloads in bytes.
    pub bytes: u64,
}

/// An enumeration ended before it had sent everything.
#[derive(Debug, thiserror::Error)]
#[error("the enumeration ended early, after {} entries", so_far.items)]
#[non_exhaustive]
pub struct EnumerateAborted {
    /// What had been sent by then.
    pub so_far: EnumerateSummary,
    /// Why; `None` when the receiver was dropped.
    #[source]
    pub cause: Option<SpoolError>,
}

impl EnumerateAborted {
    /// An enumeration that ended early.
    pub const fn new(so_far: EnumerateSummary, cause: Option<SpoolError>) -> Self {
        Self { so_far, cause }
    }
}

/// Tells whether an enumeration was complete: a future of its end.
///
/// The end of the channel does not tell that. Dropping the handle does not end the enumeration.
pub struct EnumerateHandle(Arc<Ending>);

/// The backend's side of an [`EnumerateHandle`]: counts what is sent and reports the end.
///
/// Dropped without [`EnumerateReport::complete`] it reports an abort.
pub struct EnumerateReport {
    ending: Arc<Ending>,
    summary: EnumerateSummary,
    reported: bool,
}

type End = Result<EnumerateSummary, EnumerateAborted>;

#[derive(Default)]
struct Ending {
    state: Mutex<EndState>,
    ended: Condvar,
}

#[derive(Default)]
struct EndState {
    end: Option<End>,
    waker: Option<Waker>,
}

impl Ending {
    fn lock(&self) -> MutexGuard<'_, EndState> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EnumerateHandle {
    /// A handle and the report that fulfils it.
    pub fn pair() -> (Self, EnumerateReport) {
        let ending = Arc::new(Ending::default());
        let report = EnumerateReport {
            ending: Arc::clone(&ending),
            summary: EnumerateSummary::default(),
            reported: false,
        };
        (Self(ending), report)
    }

    /// Blocks this thread until the enumeration ends.
    ///
    /// # Errors
    /// [`EnumerateAborted`] when not everything was sent.
    pub fn wait(self) -> End {
        let mut state = self.0.lock();
        loop {
            if let Some(end) = state.end.take() {
                return end;
            }
            state = self.0.ended.wait(state).unwrap_or_else(PoisonError::into_inner);
        }
    }
}

impl Future for EnumerateHandle {
    type Output = End;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<End> {
        let waker = context.waker().clone();
        let mut state = self.0.lock();
        if let Some(end) = state.end.take() {
            return Poll::Ready(end);
        }
        let replaced = state.waker.replace(waker);
        // A waker may drop anything, so it does not end under the lock.
        drop(state);
        drop(replaced);
        Poll::Pending
    }
}

impl EnumerateReport {
    /// Counts an entry of `bytes` that was sent.
    pub fn item(&mut self, bytes: u64) {
        self.summary.items += 1;
        self.summary.bytes = self.summary.bytes.saturating_add(bytes);
    }

    /// Counts a damaged entry that was sent.
    pub fn corrupt(&mut self) {
        self.summary.corrupt += 1;
    }

    /// Everything was sent.
    pub fn complete(mut self) {
        let summary = self.summary;
        self.report(Ok(summary));
    }

    /// The enumeration ends here; no `cause` means that the receiver was dropped.
    pub fn abort(mut self, cause: Option<SpoolError>) {
        let summary = self.summary;
        self.report(Err(EnumerateAborted::new(summary, cause)));
    }

    fn report(&mut self, end: End) {
        self.reported = true;
        let mut state = self.ending.lock();
        state.end = Some(end);
        let waker = state.waker.take();
        drop(state);
        self.ending.ended.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }
}

impl Drop for EnumerateReport {
    fn drop(&mut self) {
        if !self.reported {
            let summary = self.summary;
            self.report(Err(EnumerateAborted::new(summary, None)));
        }
    }
}

impl fmt::Debug for EnumerateHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnumerateHandle").finish_non_exhaustive()
    }
}

impl fmt::Debug for EnumerateReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("EnumerateReport").field("summary", &self.summary).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_handle_tells_complete_from_aborted() {
        let (handle, mut report) = EnumerateHandle::pair();
        report.item(7);
        report.corrupt();
        report.complete();
        let summary = handle.await.unwrap();
        assert_eq!(summary, EnumerateSummary { items: 1, corrupt: 1, bytes: 7 });

        let (handle, mut report) = EnumerateHandle::pair();
        report.item(1);
        drop(report);
        let aborted = handle.await.unwrap_err();
        assert_eq!(aborted.so_far.items, 1);
        assert!(aborted.cause.is_none());
    }

    #[test]
    fn a_blocking_caller_sees_an_end_reported_by_another_thread() {
        let (handle, report) = EnumerateHandle::pair();
        let reporter = std::thread::spawn(move || report.complete());
        assert!(handle.wait().is_ok());
        reporter.join().unwrap();
    }
}
