//! Every newer head of a key, or at least the latest.

use std::time::Duration;

use larder_core::clock::Words;
use larder_core::{Consensus, ConsensusError, SeqNo, VersionedData};
use tokio::time::{sleep, timeout};

use super::backoff::Backoff;

/// Follows the head of a key.
///
/// [`Watch::next`] gives heads with rising sequence numbers, and after the last change its version, however fast
/// changes come: what was replaced before anybody looked is left out. Nothing is kept meanwhile. For every
/// version in turn, scan from the one that was given last.
///
/// It is woken where the backend hears of changes ([`Consensus::changed`]), and looks by itself after a pause that
/// grows while nothing happens, so hints that are lost, late or wrong cost time and never a version.
///
/// # Examples
/// ```
/// use larder::recipes::Watch;
/// use larder::{Consensus, MemoryConsensus, SeqNo, VersionedData};
/// use std::sync::Arc;
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::ConsensusError> {
/// let store = Arc::new(MemoryConsensus::default());
/// let mut watch = Watch::new(Arc::clone(&store), "flags");
/// let on = VersionedData { seqno: SeqNo(1), data: "on".into() };
/// let (seen, _) = tokio::join!(watch.next(), store.compare_and_set("flags", None, on.clone()));
/// assert_eq!(seen?, on);
/// # Ok(()) }
/// ```
#[derive(Debug)]
pub struct Watch<C> {
    store: C,
    key: String,
    seen: Option<SeqNo>,
    backoff: Backoff,
    /// The last look failed: a pause comes before the next one.
    is_wary: bool,
}

impl<C: Consensus> Watch<C> {
    /// The shortest pause between two looks at a key that does not change, unless said otherwise.
    pub const PAUSE_LEAST: Duration = Duration::from_millis(20);
    /// The longest one: so much later than the change it is seen at most where no hints come, besides what a look
    /// takes.
    pub const PAUSE_MOST: Duration = Duration::from_secs(1);

    /// Follows `key`, from the head that it has now on.
    pub fn new(store: C, key: impl Into<String>) -> Self {
        let backoff = Backoff::new(Self::PAUSE_LEAST, Self::PAUSE_MOST, Words::random());
        Self { store, key: key.into(), seen: None, backoff, is_wary: false }
    }

    /// Gives no head up to `seen`.
    #[must_use]
    pub const fn after(mut self, seen: SeqNo) -> Self {
        self.seen = Some(seen);
        self
    }

    /// Looks after pauses between `least` and `most`; at least a millisecond.
    #[must_use]
    pub fn pausing(mut self, least: Duration, most: Duration) -> Self {
        self.backoff = self.backoff.between(least.max(Duration::from_millis(1)), most);
        self
    }

    /// Pauses as a seed decides, so that a simulation can be repeated; of several watchers each needs one of its own.
    /// Default: at random.
    #[must_use]
    pub fn seeded(mut self, seed: u64) -> Self {
        self.backoff = self.backoff.seeded(seed);
        self
    }

    /// The sequence number that was given last.
    pub const fn seen(&self) -> Option<SeqNo> {
        self.seen
    }

    /// Waits for a head with a higher sequence number than the last one that was given.
    ///
    /// Without end; put a time limit around it. After an error it can be asked again, and pauses first.
    ///
    /// # Errors
    /// Those of [`Consensus::head`].
    ///
    /// # Cancel safety
    /// Dropping the future loses nothing.
    pub async fn next(&mut self) -> Result<VersionedData, ConsensusError> {
        let mut is_woken = false;
        loop {
            if std::mem::take(&mut self.is_wary) {
                sleep(self.backoff.pause()).await;
            }
            let looked = self.store.head(&self.key).await;
            let head = looked.inspect_err(|_| self.is_wary = true)?;
            if let Some(head) = head.filter(|head| Some(head.seqno) > self.seen) {
                self.seen = Some(head.seqno);
                self.backoff.reset();
                return Ok(head);
            }
            if is_woken {
                // A backend that cries wolf is not asked without a pause.
                sleep(self.backoff.pause()).await;
            }
            let hint = self.store.changed(&self.key, self.seen);
            is_woken = timeout(self.backoff.pause(), hint).await.is_ok();
        }
    }
}
