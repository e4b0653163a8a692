//! A store that lets two writers win: the check of histories has to find it out.

use larder::consensus::EtcdConsensus;
use larder::{
    BoxError, CaSResult, Consensus, ConsensusError, Durability, KeyStream, SeqNo, SharedConsensus,
    VersionedData,
};
use larder_testkit::service::EtcdServer;
use larder_testkit::{CheckOptions, Contract, Outcome, Place, Subject, try_law};

/// A store that looks whether a head is the expected one, and then writes whatever it is by then.
#[derive(Debug)]
struct Unsound(EtcdConsensus);

impl Consensus for Unsound {
    fn list_keys(&self) -> KeyStream {
        self.0.list_keys()
    }

    async fn head(&self, key: &str) -> Result<Option<VersionedData>, ConsensusError> {
        self.0.head(key).await
    }

    async fn compare_and_set(
        &self,
        key: &str,
        expected: Option<SeqNo>,
        new: VersionedData,
    ) -> Result<CaSResult, ConsensusError> {
        let mut current = self.0.head(key).await?.map(|head| head.seqno);
        if current != expected {
            return Ok(CaSResult::ExpectationMismatch { current });
        }
        while current < Some(new.seqno) {
            match self.0.compare_and_set(key, current, new.clone()).await? {
                CaSResult::Committed => return Ok(CaSResult::Committed),
                CaSResult::ExpectationMismatch { current: found } => current = found,
            }
        }
        Ok(CaSResult::ExpectationMismatch { current })
    }

    async fn scan(
        &self,
        key: &str,
        from: SeqNo,
        limit: usize,
    ) -> Result<Vec<VersionedData>, ConsensusError> {
        self.0.scan(key, from, limit).await
    }

    async fn truncate(&self, key: &str, seqno: SeqNo) -> Result<usize, ConsensusError> {
        self.0.truncate(key, seqno).await
    }

    fn durability(&self) -> Durability {
        self.0.durability()
    }
}

pub(crate) async fn a_look_and_then_a_write_is_found_out() {
    let server = EtcdServer::shared().unwrap();
    let inner = EtcdConsensus::open(&format!("{}/unsound", server.uri())).await.unwrap();
    let store = SharedConsensus::new(Unsound(inner));
    let open = move || std::future::ready(Ok::<_, BoxError>(store.clone()));
    let subject = Subject::shared("unsound", Place::new(open));
    let laws = SharedConsensus::laws();
    let law = laws.iter().find(|law| law.name == "concurrent_histories_are_linearizable").unwrap();
    let outcome = try_law(&subject, law, CheckOptions::default()).await.outcome;
    assert!(matches!(outcome, Outcome::Broken(_)), "{outcome:?}");
}
