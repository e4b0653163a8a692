//! What can close the gate.

/// Why puts are refused, or may come to be. The gravest is the least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[non_exhaustive]
pub enum Reason {
    /// A write or a sync failed, so what is on disk is unknown. Until the log is opened again.
    WriteFailed,
    /// The folder, or the segment file in use, is no longer where it was. Until the log is opened
    /// again.
    FolderGone,
    /// Segment files are missing, foreign or cut short. Until
    /// [`Log::acknowledge`](crate::Log::acknowledge).
    Structural,
    /// Less space is free than [`LogOptions::min_free_space`](crate::LogOptions::min_free_space).
    /// Passes.
    LowSpace,
    /// Fewer inodes are free than
    /// [`LogOptions::min_free_inodes`](crate::LogOptions::min_free_inodes). Passes.
    LowInodes,
    /// Puts have found the disk full for a while. Passes.
    NoSpace,
    /// Records could not be read in several places. Passes.
    ReadErrors,
    /// Batches have waited too long for too long. Passes.
    Backlog,
}

impl Reason {
    /// Every reason, the gravest first.
    pub const ALL: [Self; 8] = [
        Self::WriteFailed,
        Self::FolderGone,
        Self::Structural,
        Self::LowSpace,
        Self::LowInodes,
        Self::NoSpace,
        Self::ReadErrors,
        Self::Backlog,
    ];

    /// A short name for metrics.
    pub const fn name(self) -> &'static str {
        match self {
            Self::WriteFailed => "write-failed",
            Self::FolderGone => "folder-gone",
            Self::Structural => "structural-damage",
            Self::LowSpace => "low-space",
            Self::LowInodes => "low-inodes",
            Self::NoSpace => "no-space",
            Self::ReadErrors => "read-errors",
            Self::Backlog => "backlog",
        }
    }

    /// The reason in words that are safe to show to strangers.
    pub const fn text(self) -> &'static str {
        match self {
            Self::WriteFailed => "an earlier write or sync failed, it must be opened again",
            Self::FolderGone => "its files are no longer in their place, it must be opened again",
            Self::Structural => "segment files are damaged, an operator must acknowledge it",
            Self::LowSpace => "too little space is free",
            Self::LowInodes => "too few inodes are free",
            Self::NoSpace => "no space has been left for a while",
            Self::ReadErrors => "stored data could not be read in several places",
            Self::Backlog => "writes wait too long",
        }
    }

    /// It ends by itself when its cause does.
    pub const fn passes(self) -> bool {
        !matches!(self, Self::WriteFailed | Self::FolderGone | Self::Structural)
    }

    /// Puts are refused because of room that is missing, or is kept for others.
    pub const fn is_about_space(self) -> bool {
        matches!(self, Self::LowSpace | Self::LowInodes | Self::NoSpace)
    }

    /// Deletes cannot be written either.
    pub(crate) const fn forbids_writing(self) -> bool {
        matches!(self, Self::WriteFailed | Self::FolderGone)
    }

    pub(crate) const fn code(self) -> u8 {
        self as u8 + 1
    }

    pub(crate) fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(usize::from(code.checked_sub(1)?)).copied()
    }
}
