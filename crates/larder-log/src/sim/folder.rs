//! One simulated folder: its names, and which of them would survive.

use std::collections::BTreeMap;

use super::SimRandom;

/// A folder: its names now, the synced ones, and what happened between.
#[derive(Clone, Debug, Default)]
pub(super) struct Dir {
    pub(super) now: BTreeMap<String, u64>,
    synced: BTreeMap<String, u64>,
    volatile: Vec<DirOp>,
}

/// A change of names.
#[derive(Clone, Debug)]
pub(super) enum DirOp {
    Create(String, u64),
    Rename(String, String, u64),
    Unlink(String),
}

impl Dir {
    pub(super) fn apply(&mut self, op: DirOp) {
        op.apply(&mut self.now);
        self.volatile.push(op);
    }

    pub(super) fn sync(&mut self) {
        self.synced = self.now.clone();
        self.volatile.clear();
    }

    /// Any subset of the changes, in order.
    pub(super) fn survive(&self, random: &mut SimRandom) -> Self {
        let mut names = self.synced.clone();
        let mood = random.below(4);
        for op in &self.volatile {
            if mood == 0 || (mood > 1 && random.chance(2)) {
                op.apply(&mut names);
            }
        }
        Self { now: names.clone(), synced: names, volatile: Vec::new() }
    }
}

impl DirOp {
    fn apply(&self, names: &mut BTreeMap<String, u64>) {
        match self {
            Self::Create(name, id) => {
                names.insert(name.clone(), *id);
            }
            Self::Rename(from, to, id) => {
                names.remove(from);
                names.insert(to.clone(), *id);
            }
            Self::Unlink(name) => {
                names.remove(name);
            }
        }
    }
}
