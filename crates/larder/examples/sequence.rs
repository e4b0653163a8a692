//! Numbers that nobody gets twice, however many processes hand them out.
//!
//! `cargo run --example sequence -- log:./data/consensus 3`

use std::ops::Range;

use larder::recipes::{Nonced, update};
use larder::{Consensus, ConsensusError, SharedConsensus, VersionedData};

/// Hands out numbers of one sequence, a block at a time.
///
/// The key holds the first number that nobody has taken. A block belongs to the one whose update was
/// acknowledged; what a process does not hand out before it ends is a gap, which is normal. After an unknown
/// outcome no number of that block is handed out: the next call takes another one.
#[derive(Debug)]
pub struct Sequence<C> {
    store: Nonced<C>,
    key: String,
    block: u64,
    mine: Range<u64>,
}

impl<C: Consensus> Sequence<C> {
    /// The sequence under `key`, of which this process takes `block` numbers at a time.
    pub fn new(store: C, key: impl Into<String>, block: u64) -> Self {
        Self { store: Nonced::new(store), key: key.into(), block: block.max(1), mine: 0..0 }
    }

    /// A number that nobody else has got or will get.
    ///
    /// # Errors
    /// Those of [`update`]; call again.
    pub async fn next(&mut self) -> Result<u64, ConsensusError> {
        if let Some(number) = self.mine.next() {
            return Ok(number);
        }
        let block = self.block;
        let taken = update(&self.store, &self.key, |head| {
            Some((first_free(head) + block).to_be_bytes().to_vec().into())
        });
        let taken = taken.await?.into_head();
        // Versions below are of no use to anybody; if that fails, the next block tries again.
        if let Some(head) = &taken {
            drop(self.store.truncate(&self.key, head.seqno).await);
        }
        let end = first_free(taken.as_ref());
        self.mine = end.saturating_sub(block)..end;
        self.mine.next().ok_or_else(|| unreachable_block(block))
    }
}

/// The number that a version holds; nobody has taken any when there is none.
fn first_free(head: Option<&VersionedData>) -> u64 {
    let bytes = head.and_then(|head| head.data.first_chunk::<8>());
    bytes.map_or(0, |bytes| u64::from_be_bytes(*bytes))
}

fn unreachable_block(block: u64) -> ConsensusError {
    let error = larder::BackendError::new("sequence", "next", format!("an empty block: {block}"));
    ConsensusError::Indeterminate(error)
}

#[expect(clippy::print_stdout, reason = "its output is what it is for")]
#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let uri = arguments.next().unwrap_or_else(|| "memory:".to_owned());
    let count: u32 = arguments.next().map_or(Ok(3), |count| count.parse())?;
    let store: SharedConsensus = larder::open_consensus(&uri).await?;
    let mut sequence = Sequence::new(store, "sequence/orders", 10);
    for _ in 0..count {
        println!("{}", sequence.next().await?);
    }
    Ok(())
}
