//! How much of a file system is left, and how much has to be.

/// What a file system has left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(clippy::exhaustive_structs, reason = "other disks build it")]
pub struct Space {
    /// Its size in bytes; 0 where it has none to tell.
    pub total_bytes: u64,
    /// Bytes that this process may still use.
    pub free_bytes: u64,
    /// Its inodes; 0 where it makes them as needed.
    pub total_inodes: u64,
    /// Inodes that this process may still use.
    pub free_inodes: u64,
}

/// What has to stay free. Below it puts are refused, until a fifth more than that is free.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[expect(clippy::exhaustive_enums, reason = "a share, an amount or nothing")]
pub enum FreeLimit {
    /// Nothing.
    #[default]
    Off,
    /// So many hundredths of the whole, 100 at most.
    Percent(u8),
    /// So many bytes, or inodes.
    Amount(u64),
}

impl FreeLimit {
    /// What has to be free of `total`.
    pub fn of(self, total: u64) -> u64 {
        match self {
            Self::Off => 0,
            Self::Percent(percent) => {
                let part = u128::from(total) * u128::from(percent.min(100)) / 100;
                u64::try_from(part).unwrap_or(u64::MAX)
            }
            Self::Amount(amount) => amount,
        }
    }

    /// Whether less is `free`. A file system that knows no `total` knows no limit either. Once it was
    /// `short` more is asked for, but never more than half of what lies above the limit.
    pub(crate) fn is_short(self, free: u64, total: u64, short: bool) -> bool {
        let limit = self.of(total);
        let margin = (limit / 5).min(total.saturating_sub(limit) / 2);
        total > 0 && free < limit.saturating_add(if short { margin } else { 0 })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_share_and_an_amount_say_what_has_to_stay_free() {
        let tenth = FreeLimit::Percent(10);
        assert!(tenth.is_short(99, 1000, false) && !tenth.is_short(100, 1000, false));
        let amount = FreeLimit::Amount(500);
        assert!(amount.is_short(499, 1000, false) && !amount.is_short(500, 1000, false));
        assert!(!FreeLimit::Off.is_short(0, 1000, true));
        assert!(!FreeLimit::Percent(0).is_short(0, 1000, true));
        assert_eq!(FreeLimit::Percent(255).of(u64::MAX), u64::MAX);
    }

    #[test]
    fn a_fifth_more_has_to_be_free_again_and_that_can_always_be_reached() {
        let tenth = FreeLimit::Percent(10);
        assert!(tenth.is_short(119, 1000, true) && !tenth.is_short(120, 1000, true));
        let most = FreeLimit::Percent(95);
        assert!(most.is_short(974, 1000, true) && !most.is_short(975, 1000, true));
    }

    #[test]
    fn a_file_system_that_counts_no_inodes_is_not_out_of_them() {
        // As btrfs and others do: none in all, none free.
        for limit in [FreeLimit::Percent(10), FreeLimit::Amount(1000)] {
            assert!(!limit.is_short(0, 0, false) && !limit.is_short(0, 0, true), "{limit:?}");
        }
    }
}
