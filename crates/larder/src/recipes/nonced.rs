//! Versions that are told apart although their data is the same.

use larder_core::clock::fill_random;
use larder_core::consensus::check_compare_and_set;
use larder_core::{
    BackendError, CaSResult, Consensus, ConsensusError, Determinate, Durability, Effect, KeyStream,
    SeqNo, VersionedData,
};

use super::{Resolution, resolve};

/// A consensus store that puts a random number in front of all data, so that no two writers ever write the same
/// bytes, and that finds out by itself what became of a compare-and-set of unknown outcome.
///
/// Who counts from 4 to 5 writes what everybody else does who counts from 4: when the answer is lost, the bytes
/// alone do not tell whose version it is. With 128 random bits they do.
///
/// All who use a key have to use it through this; data of others is an error of the read, never guessed at.
///
/// # Guarantees
/// | | |
/// |---|---|
/// | durability, consistency | those of the store behind |
/// | limits | [`Nonced::BYTES`] bytes of each version are taken |
///
/// A compare-and-set is `Indeterminate` only when the store cannot be read afterwards either, when it may still
/// land, or when later versions were truncated already.
///
/// ```
/// use larder::recipes::Nonced;
/// use larder::{Consensus, MemoryConsensus, SeqNo, VersionedData};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() -> Result<(), larder::ConsensusError> {
/// let store = Nonced::new(MemoryConsensus::default());
/// let five = VersionedData { seqno: SeqNo(5), data: "5".into() };
/// store.compare_and_set("count", None, five.clone()).await?;
/// assert_eq!(store.head("count").await?, Some(five));
/// # Ok(()) }
/// ```
#[derive(Clone, Debug)]
pub struct Nonced<C> {
    store: C,
}

/// What data begins with that has a number in front.
const FORM: [u8; 4] = *b"LNc1";

impl<C> Nonced<C> {
    /// How many bytes stand in front of the data.
    pub const BYTES: usize = FORM.len() + 16;

    /// `store`, with numbers in front of all data.
    pub const fn new(store: C) -> Self {
        Self { store }
    }

    /// The store behind, with the data as it is kept.
    pub const fn inner(&self) -> &C {
        &self.store
    }

    /// `new` as it is kept, with a number that nobody else has.
    pub fn seal(new: &VersionedData) -> VersionedData {
        let mut nonce = [0; 16];
        fill_random(&mut nonce);
        let data = [&FORM[..], &nonce, &new.data].concat().into();
        VersionedData { seqno: new.seqno, data }
    }

    /// A version as it was written.
    ///
    /// # Errors
    /// [`Determinate::Backend`] when it was not written by way of this type.
    pub fn unseal(kept: &VersionedData) -> Result<VersionedData, ConsensusError> {
        if kept.data.len() < Self::BYTES || !kept.data.starts_with(&FORM) {
            let what = format!("version {} was not written through Nonced", kept.seqno);
            let error = BackendError::new("nonced", "read", what).effect_is(Effect::NotApplied);
            return Err(Determinate::Backend(error).into());
        }
        Ok(VersionedData { seqno: kept.seqno, data: kept.data.slice(Self::BYTES..) })
    }
}

#[deny(clippy::missing_trait_methods)]
impl<C: Consensus> Consensus for Nonced<C> {
    fn list_keys(&self) -> KeyStream {
        self.store.list_keys()
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.store.head(key).await?.as_ref().map(Self::unseal).transpose()
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        check_compare_and_set(key, expected, &new)?;
        let kept = Self::seal(&new);
        let error = match self.store.compare_and_set(key, expected, kept.clone()).await {
            Err(error @ ConsensusError::Indeterminate(_)) => error,
            known => return known,
        };
        match resolve(&self.store, key, expected, &kept).await {
            Ok(Resolution::Committed) => Ok(CaSResult::Committed),
            // The head has left what was expected, for ever.
            Ok(Resolution::Lost) => match self.store.head(key).await {
                Ok(head) => {
                    Ok(CaSResult::ExpectationMismatch { current: head.map(|head| head.seqno) })
                }
                Err(_) => Err(LOST.into()),
            },
            Ok(Resolution::Open | Resolution::Unknown) | Err(_) => Err(error),
        }
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        let kept = self.store.scan(key, from, limit).await?;
        kept.iter().map(Self::unseal).collect()
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        self.store.truncate(key, seqno).await
    }

    async fn changed(&self, key: &str, seen: Option<SeqNo>) {
        self.store.changed(key, seen).await;
    }

    fn durability(&self) -> Durability {
        self.store.durability()
    }
}

const LOST: Determinate =
    Determinate::Unavailable { reason: "it lost, and to whom could not be read" };

#[cfg(test)]
mod tests {
    use larder_core::{Failure as _, MemoryConsensus};

    use super::*;

    fn version(seqno: u64, data: &'static str) -> VersionedData {
        VersionedData { seqno: SeqNo(seqno), data: data.into() }
    }

    #[tokio::test]
    async fn the_same_data_is_never_the_same_bytes() {
        let store = Nonced::new(MemoryConsensus::default());
        store.compare_and_set("k", None, version(1, "5")).await.unwrap();
        store.compare_and_set("k", Some(SeqNo(1)), version(2, "5")).await.unwrap();
        assert_eq!(store.scan("k", SeqNo(0), 9).await.unwrap(), [version(1, "5"), version(2, "5")]);
        let kept = store.inner().scan("k", SeqNo(0), 9).await.unwrap();
        assert_ne!(kept[0].data, kept[1].data);
        assert_eq!(kept[0].data.len(), 1 + Nonced::<MemoryConsensus>::BYTES);
    }

    #[tokio::test]
    async fn what_somebody_else_wrote_is_an_error_and_stays() {
        let store = MemoryConsensus::default();
        store.compare_and_set("k", None, version(1, "bare")).await.unwrap();
        let store = Nonced::new(store);
        let error = store.head("k").await.unwrap_err();
        assert_eq!(error.effect(), Effect::NotApplied);
        assert!(store.scan("k", SeqNo(0), 9).await.is_err());
        let lost = CaSResult::ExpectationMismatch { current: Some(SeqNo(1)) };
        assert_eq!(store.compare_and_set("k", None, version(2, "x")).await.unwrap(), lost);
    }
}
