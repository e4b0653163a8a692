//! Ids of spool entries: UUIDs that carry the time of their creation.

use std::fmt;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use uuid::{Builder, Uuid, Variant, Version};

use crate::clock::{Clock, fill_random};
use crate::{Effect, Failure, Retry, Timestamp};

/// The id of a spool entry, shown as 32 lower-case hexadecimal digits.
///
/// New ids are UUIDs of version 7, so they sort by creation to the millisecond; version 1 is
/// accepted. Ids of other kinds can be stored and loaded too; they only have no creation time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SpoolId([u8; 16]);

/// Why something is not a spool id, or has no creation time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SpoolIdError {
    /// The text is not 32 hexadecimal digits.
    #[error("{text:?} is not a spool id: expected 32 hexadecimal digits")]
    NotAnId {
        /// The first characters of the text.
        text: String,
    },
    /// The slice is not 16 bytes long.
    #[error("{len} bytes are not a spool id: expected 16")]
    WrongLength {
        /// Its length in bytes.
        len: usize,
    },
    /// The id is valid but of a kind that carries no time.
    #[error("the id {id} carries no creation time: it is not a UUID of version 1 or 7")]
    NoTime {
        /// The id.
        id: SpoolId,
    },
}

impl Failure for SpoolIdError {
    fn effect(&self) -> Effect {
        Effect::NotApplied
    }

    fn retry(&self) -> Retry {
        Retry::Never
    }
}

impl SpoolId {
    /// A new id created at the time of `clock`.
    pub fn new(clock: &(impl Clock + ?Sized)) -> Self {
        Self::created_at(clock.now())
    }

    /// A new id created at `time`; the id keeps whole milliseconds.
    pub fn created_at(time: Timestamp) -> Self {
        let mut random = [0; 10];
        fill_random(&mut random);
        Self(
            Builder::from_unix_timestamp_millis(time.as_millis(), &random).into_uuid().into_bytes(),
        )
    }

    /// The id made of these 16 bytes.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// The id in `slice`.
    ///
    /// # Errors
    /// [`SpoolIdError::WrongLength`] unless it is 16 bytes long.
    pub fn from_slice(slice: &[u8]) -> Result<Self, SpoolIdError> {
        let bytes = slice.try_into().map_err(|_| SpoolIdError::WrongLength { len: slice.len() })?;
        Ok(Self(bytes))
    }

    /// The id spelled by the end of `path`: `.../0190a1b2c3d4...` or split into folders, as in
    /// `.../01/90/a1/b2/c3d4...`.
    ///
    /// # Errors
    /// [`SpoolIdError::NotAnId`] when the last components do not spell exactly 32 digits.
    pub fn from_path(path: &Path) -> Result<Self, SpoolIdError> {
        let mut digits = String::new();
        for component in path.components().rev() {
            let part = component.as_os_str().to_string_lossy();
            digits.insert_str(0, &part);
            if digits.len() >= 32 {
                break;
            }
        }
        digits.parse().map_err(|_| not_an_id(&path.display().to_string()))
    }

    /// The 16 bytes of the id.
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// When the id was created.
    ///
    /// # Errors
    /// [`SpoolIdError::NoTime`] for an id that is not a UUID of version 1 or 7.
    pub fn created(&self) -> Result<Timestamp, SpoolIdError> {
        let no_time = SpoolIdError::NoTime { id: *self };
        let uuid = self.timed().ok_or_else(|| no_time.clone())?;
        let (seconds, nanos) = uuid.get_timestamp().ok_or(no_time)?.to_unix();
        Ok(Timestamp::EPOCH.saturating_add(Duration::new(seconds, nanos)))
    }

    /// How long ago the id was created; zero when its time is still to come.
    ///
    /// # Errors
    /// As [`SpoolId::created`].
    pub fn age(&self, now: Timestamp) -> Result<Duration, SpoolIdError> {
        Ok(now.since(self.created()?))
    }

    /// A new id with the creation time of this one, for an entry that stands in for it.
    ///
    /// # Errors
    /// [`SpoolIdError::NoTime`] when this id has no time to clone.
    pub fn derive_new_with_cloned_timestamp(&self) -> Result<Self, SpoolIdError> {
        let uuid = self.timed().ok_or(SpoolIdError::NoTime { id: *self })?;
        let mut bytes = self.0;
        if uuid.get_version() == Some(Version::SortRand) {
            fill_random(&mut bytes[6..]);
            bytes[6] = 0x70 | (bytes[6] & 0x0F);
        } else {
            // The clock sequence and the node are all that is not time. The multicast bit marks a
            // node that is no hardware address.
            fill_random(&mut bytes[8..]);
            bytes[10] |= 0x01;
        }
        bytes[8] = 0x80 | (bytes[8] & 0x3F);
        Ok(Self(bytes))
    }

    fn timed(&self) -> Option<Uuid> {
        let uuid = Uuid::from_bytes(self.0);
        let carries_time = matches!(uuid.get_version(), Some(Version::Mac | Version::SortRand));
        (carries_time && uuid.get_variant() == Variant::RFC4122).then_some(uuid)
    }
}

impl FromStr for SpoolId {
    type Err = SpoolIdError;

    /// Reads 32 hexadecimal digits of either case.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let digits = text.as_bytes();
        if digits.len() != 32 {
            return Err(not_an_id(text));
        }
        let mut bytes = [0; 16];
        for (byte, pair) in bytes.iter_mut().zip(digits.chunks_exact(2)) {
            let (high, low) = (hex(pair[0]), hex(pair[1]));
            *byte =
                high.zip(low).map(|(high, low)| high << 4 | low).ok_or_else(|| not_an_id(text))?;
        }
        Ok(Self(bytes))
    }
}

impl fmt::Display for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::LowerHex::fmt(Uuid::from_bytes(self.0).as_simple(), f)
    }
}

impl fmt::Debug for SpoolId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SpoolId({self})")
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

fn not_an_id(text: &str) -> SpoolIdError {
    let mut shown: String = text.chars().take(40).collect();
    if shown.len() < text.len() {
        shown.push('…');
    }
    SpoolIdError::NotAnId { text: shown }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ManualClock;

    const V1: &str = "c232ab00941411ecb3c89f6bdeced846";
    const V4: &str = "f47ac10b58cc4372a5670e02b2c3d479";

    #[test]
    fn a_new_id_knows_its_creation_to_the_millisecond() {
        let clock = ManualClock::default();
        clock.advance(Duration::from_micros(1_234_567));
        let id = SpoolId::new(&clock);
        assert_eq!(id.created().unwrap().as_millis(), clock.now().as_millis());
        clock.advance(Duration::from_secs(9));
        assert_eq!(id.age(clock.now()).unwrap().as_secs(), 9);
    }

    #[test]
    fn ids_sort_by_creation() {
        let early = SpoolId::created_at(Timestamp::from_millis(1_000));
        let late = SpoolId::created_at(Timestamp::from_millis(1_001));
        assert!(early < late);
    }

    #[test]
    fn a_version_1_id_has_a_time_and_a_version_4_id_has_none() {
        let v1: SpoolId = V1.parse().unwrap();
        assert_eq!(v1.created().unwrap().as_millis(), 1_645_557_742_000);
        let v4: SpoolId = V4.parse().unwrap();
        assert_eq!(v4.created(), Err(SpoolIdError::NoTime { id: v4 }));
    }

    #[test]
    fn a_derived_id_differs_but_keeps_the_time() {
        for id in [SpoolId::created_at(Timestamp::from_millis(77)), V1.parse().unwrap()] {
            let derived = id.derive_new_with_cloned_timestamp().unwrap();
            assert_ne!(derived, id);
            assert_eq!(derived.created(), id.created());
        }
        let v4: SpoolId = V4.parse().unwrap();
        assert!(v4.derive_new_with_cloned_timestamp().is_err());
    }

    #[test]
    fn text_round_trips_and_other_text_is_refused() {
        let id: SpoolId = V4.parse().unwrap();
        assert_eq!(id.to_string(), V4);
        assert_eq!(V4.to_uppercase().parse::<SpoolId>().unwrap(), id);
        for bad in
            ["", "12", &V4[1..], &format!("{V4}0"), &V4.replace('f', "g"), "é".repeat(16).as_str()]
        {
            assert!(bad.parse::<SpoolId>().is_err(), "{bad}");
        }
    }

    #[test]
    fn paths_may_be_flat_or_split_into_folders() {
        let id: SpoolId = V4.parse().unwrap();
        for path in
            [format!("/spool/data/{V4}"), format!("d/{}/{}/{}", &V4[..2], &V4[2..4], &V4[4..])]
        {
            assert_eq!(SpoolId::from_path(Path::new(&path)).unwrap(), id);
        }
        assert!(SpoolId::from_path(Path::new("/spool/lock")).is_err());
    }

    #[test]
    fn a_slice_has_to_be_sixteen_bytes() {
        assert!(SpoolId::from_slice(&[0; 16]).is_ok());
        assert_eq!(SpoolId::from_slice(&[0; 15]), Err(SpoolIdError::WrongLength { len: 15 }));
    }
}
