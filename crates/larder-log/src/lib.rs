//! The embedded engine of larder: a segmented, checksummed, group-committed log.
//!
//! It stores records under [`Slot`]s and knows nothing of what they mean. What it promises:
//!
//! - A batch is applied as a whole or not at all, also across a crash. With [`Durability::Power`] its
//!   answer comes after a sync; one sync serves everybody who waits.
//! - A torn tail is told from corruption: what was never promised is cut, what was promised and is
//!   damaged is reported, entry by entry, and never served or removed.
//! - After a failed write or sync nothing is pretended: the log stops writing until it is opened
//!   again, and opening does not trust what only the page cache may hold.
//! - One open log per folder; a second open fails and changes nothing.
//!
//! What it is not: ordered, replicated, compressed, or larger than memory in its number of entries.
//! The format is described in `docs/format/log-v1.md`.
//!
//! | module | holds |
//! |---|---|
//! | `log`, `options`, `batch`, `ticket`, `budget`, `error` | what callers see |
//! | `writer`, `group`, `recycle` | the committer, and files that it writes again |
//! | `reader`, `sweep`, `index` | reading one entry, and all of them |
//! | `folder`, `recover`, `scan`, `tail` | opening |
//! | `verify`, `dump`, `walk` | checking from outside |
//! | `compact`, `scrub`, `pace`, `rot`, `acknowledge`, `damage`, `health`, `spare` | space and damage |
//! | `record`, `segment`, `manifest` | the format |
//! | `io`, `lock`, `clock`, `sim` | the only doors to the disk and to time, and a simulated disk |

mod acknowledge;
mod batch;
mod budget;
mod clock;
mod compact;
mod crc32c;
mod damage;
mod dump;
mod error;
mod folder;
mod footer;
mod group;
mod health;
mod index;
mod io;
mod lock;
mod log;
mod manifest;
mod mend;
mod options;
mod pace;
mod park;
mod reader;
mod record;
mod recover;
mod recycle;
mod rot;
mod scan;
mod scrub;
mod segment;
mod shared;
#[cfg(feature = "sim")]
pub mod sim;
mod spare;
mod sweep;
mod tail;
mod tally;
mod ticket;
mod verify;
mod walk;
mod writer;

pub use batch::{Batch, Durability, Slot};
pub use budget::{Admission, Permit};
pub use compact::{CompactMode, CompactReport, Forgotten};
pub use damage::{Damage, DamageKind};
pub use dump::{DumpItem, dump, dump_with};
pub use error::{Effect, Error, OpenError, ReadError, SubmitError, WriteError};
pub use health::{Condition, FreeLimit, HealthReport, HealthState, Reason, Space};
pub use io::{Advice, DirEntry, DiskIo, File, FileIdentity, Io, Lock, PathKind, StoreFault};
pub use lock::{LockError, LockState};
pub use log::{Log, Stats};
pub use options::LogOptions;
pub use reader::{Entries, Entry, Now};
pub use recover::Recovery;
pub use scrub::ScrubReport;
pub use sweep::{Sweep, Swept};
pub use ticket::{Annulment, Outcome, Ticket};
pub use verify::{SegmentReport, VerifyReport, verify, verify_with};
pub use writer::{Committer, Next};
