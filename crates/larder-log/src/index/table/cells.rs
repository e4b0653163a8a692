//! Memory of a table.

use std::ops::{Deref, DerefMut};

use memmap2::MmapMut;

/// Memory from this size on comes straight from the system, as the allocators do it at first.
///
/// But when a table has grown, and its old memory was freed, that of the GNU C library takes the next
/// ones from its heap and keeps them: ten million entries then took 645 MiB in place of 542, and 1,075
/// after memory was to be given back.
const MAPPED_MIN: usize = 128 << 10;

/// A fixed number of cells, zeroed at first.
#[derive(Debug)]
pub(super) enum Cells<const N: usize> {
    Heap(Vec<[u8; N]>),
    Mapped(MmapMut),
}

impl<const N: usize> Cells<N> {
    pub(super) fn zeroed(count: usize) -> Self {
        if count * N >= MAPPED_MIN
            && let Ok(mapped) = MmapMut::map_anon(count * N)
        {
            return Self::Mapped(mapped);
        }
        Self::Heap(vec![[0; N]; count])
    }
}

impl<const N: usize> Default for Cells<N> {
    fn default() -> Self {
        Self::Heap(Vec::new())
    }
}

impl<const N: usize> Deref for Cells<N> {
    type Target = [[u8; N]];

    fn deref(&self) -> &Self::Target {
        match self {
            Self::Heap(cells) => cells,
            Self::Mapped(bytes) => bytes.as_chunks().0,
        }
    }
}

impl<const N: usize> DerefMut for Cells<N> {
    fn deref_mut(&mut self) -> &mut Self::Target {
        match self {
            Self::Heap(cells) => cells,
            Self::Mapped(bytes) => bytes.as_chunks_mut().0,
        }
    }
}
