//! What is to become of one key, as a command to the server.

use std::sync::LazyLock;

use bytes::Bytes;
use larder_core::{CacheValue, Condition, DeleteStatus, KeyRef, Timestamp, Version, WriteStatus};
use redis::{Cmd, RedisWrite, Script, ToRedisArgs, Value};

use crate::cache::head;
use crate::driver::redis::{Place, Trouble, write_argument};

/// An entry that is written: head and data, put together only in the buffer that is sent.
pub(super) struct Entry<'a> {
    head: [u8; head::HEAD_LEN],
    data: &'a [u8],
}

/// One key's change.
pub(super) struct Change<'a> {
    pub(super) key: KeyRef<'a>,
    pub(super) condition: Condition,
    pub(super) now: Timestamp,
    pub(super) then: Then<'a>,
}

pub(super) enum Then<'a> {
    Remove,
    /// The milliseconds it may live, and what is written.
    Write(Option<u64>, Entry<'a>),
}

/// What became of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Done {
    /// The condition did not hold.
    Nothing,
    /// Done where nothing was.
    New,
    /// Done to something that was there.
    Over,
}

impl<'a> Then<'a> {
    /// Writes `value`, which is alive at `now`.
    pub(super) fn write(value: &'a CacheValue<Bytes>, now: Timestamp) -> Self {
        let entry = Entry { head: head::head(value), data: &value.data };
        Self::Write(value.expire.map(|expire| millis_left(expire, now)), entry)
    }
}

impl Change<'_> {
    pub(super) fn command(&self, place: Place<'_>) -> Cmd {
        match &self.then {
            // `SET` alone clears an expiry that was there.
            Then::Write(life, entry) if self.condition == Condition::Always => {
                let mut set = Cmd::with_capacity(5, place.len() + entry.len() + 32);
                set.arg("SET").arg(place).arg(entry);
                if let Some(life) = life {
                    set.arg("PX").arg(*life);
                }
                set
            }
            then => self.script(place, then),
        }
    }

    fn script(&self, place: Place<'_>, then: &Then<'_>) -> Cmd {
        let (word, version) = match self.condition {
            Condition::IfNewerThan(version) => ("newer", Some(version)),
            Condition::IfVersionIs(version) => ("is", version),
            _ => ("always", None),
        };
        let size = match then {
            Then::Remove => 0,
            Then::Write(_, entry) => entry.len(),
        };
        let mut call = Cmd::with_capacity(8, place.len() + size + 128);
        call.arg("EVALSHA").arg(SCRIPT.get_hash()).arg(1).arg(place).arg(word);
        match version.map(Version::to_bytes) {
            Some(version) => call.arg(&version[..]),
            None => call.arg(""),
        };
        call.arg(&head::time(self.now)[..]);
        match then {
            Then::Remove => call.arg("remove"),
            Then::Write(None, entry) => call.arg("keep").arg(entry),
            Then::Write(Some(life), entry) => call.arg(*life).arg(entry),
        };
        call
    }
}

impl Done {
    pub(super) fn of(answer: &Value) -> Result<Self, Trouble> {
        match answer {
            Value::Okay | Value::Int(1) => Ok(Self::New),
            Value::Int(2) => Ok(Self::Over),
            Value::Int(0) => Ok(Self::Nothing),
            _ => Err(Trouble::Odd { what: "neither done nor not done" }),
        }
    }

    pub(super) const fn written(self) -> WriteStatus {
        match self {
            Self::Nothing => WriteStatus::NOT_NEWER,
            Self::New | Self::Over => WriteStatus::WRITTEN,
        }
    }

    pub(super) const fn removed(self) -> DeleteStatus {
        match self {
            Self::Nothing | Self::New => DeleteStatus::Missing,
            Self::Over => DeleteStatus::Deleted(1),
        }
    }
}

pub(super) const SCRIPT_CODE: &str = include_str!("apply.lua");
static SCRIPT: LazyLock<Script> = LazyLock::new(|| Script::new(SCRIPT_CODE));

/// The life that is left, rounded up: the server must not drop an entry that still counts.
fn millis_left(expire: Timestamp, now: Timestamp) -> u64 {
    let left = expire.since(now);
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    let part = u64::from(!left.subsec_nanos().is_multiple_of(1_000_000));
    millis.saturating_add(part).max(1)
}

impl Entry<'_> {
    const fn len(&self) -> usize {
        head::HEAD_LEN + self.data.len()
    }
}

impl ToRedisArgs for Entry<'_> {
    fn write_redis_args<W: ?Sized + RedisWrite>(&self, out: &mut W) {
        write_argument(out, &[&self.head, self.data]);
    }
}

impl redis::ToSingleRedisArg for Entry<'_> {}
