//! One schedule: a history from a seed, the place where it ends, and what has to hold afterwards.

use std::fmt;
use std::str::FromStr;

use larder_log::sim::{Fault, SimDisk, SimRandom};

use crate::control::Breakage;
use crate::orphan;
use crate::rot::{self, Rot};
use crate::verdict::print_files;
use crate::world::{Death, Weather, World};

/// What kind of history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// A death at any step.
    Crash(Weather),
    /// The same under a log that is broken on purpose.
    Control(Breakage),
    /// A death at any step; then, after its recovery, the manifest is lost with each death.
    Orphan,
    /// Rot of a log at rest.
    Rot(Rot),
}

impl Kind {
    /// The kinds that have to hold, by name.
    pub(crate) const ALL: &[(&str, Self)] = &[
        ("fair", Self::Crash(Weather::Fair)),
        ("failing", Self::Crash(Weather::Failing)),
        ("lying", Self::Crash(Weather::Lying)),
        ("orphan", Self::Orphan),
        ("bit", Self::Rot(Rot::Bit)),
        ("stretches", Self::Rot(Rot::Stretches)),
    ];
}

/// A schedule, printed as `fair:17:93`: kind, seed, and the step at which power fails.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Schedule {
    pub(crate) kind: Kind,
    pub(crate) seed: u64,
    pub(crate) at: Option<u64>,
}

impl Schedule {
    /// Runs it. Returns the number of steps at which power could have failed.
    pub(crate) fn run(&self) -> Result<u64, String> {
        match self.kind {
            Kind::Crash(weather) => self.crash(weather, None),
            Kind::Control(breakage) => self.crash(Weather::Fair, Some(breakage)),
            Kind::Orphan => self.crash(Weather::Fair, None),
            Kind::Rot(rot) => rot::run(self.seed, rot).map(|_| 0),
        }
        .map_err(|error| format!("{self}: {error}"))
    }

    fn crash(&self, weather: Weather, breakage: Option<Breakage>) -> Result<u64, String> {
        let (disk, seed) = (SimDisk::new(self.seed), self.seed);
        if let Some(at) = self.at {
            disk.plan(at, Fault::Crash);
        }
        weather.plan(&disk, seed);
        let mut world = World::create(disk.clone(), seed, weather, breakage);
        let mut random = SimRandom::new(seed ^ 0xabcd);
        let ops = 8 + random.below(24);
        for _ in 0..ops {
            if disk.is_dead() {
                break;
            }
            world.act(&mut random)?;
        }
        let steps = disk.steps();
        let crash_seed = seed ^ (self.at.unwrap_or(0) << 32);
        // A process that dies leaves the page cache; with the power everything unsynced is in doubt.
        let process = SimRandom::new(crash_seed).chance(5);
        let death = if process { Death::Process } else { Death::Power };
        let checked = if self.kind == Kind::Orphan {
            orphan::check(&mut world, death, crash_seed)
        } else {
            world.die_and_check(death, crash_seed)
        };
        if checked.is_err() && std::env::var_os("LARDER_CRASH_REPLAY").is_some() {
            print_files(&world.disk);
        }
        checked.map(|()| steps)
    }
}

impl fmt::Display for Schedule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = Kind::ALL.iter().find(|(_, kind)| *kind == self.kind);
        write!(f, "{}:{}", name.map_or("control", |(name, _)| name), self.seed)?;
        self.at.map_or(Ok(()), |at| write!(f, ":{at}"))
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || format!("{text:?} is not a schedule, such as fair:17:93");
        let mut parts = text.split(':');
        let name = parts.next();
        let kind = Kind::ALL.iter().find(|(known, _)| Some(*known) == name).ok_or_else(wrong)?.1;
        let number = |part: Option<&str>| part.map(|part| part.parse().map_err(|_| wrong()));
        let seed = number(parts.next()).ok_or_else(wrong)??;
        Ok(Self { kind, seed, at: number(parts.next()).transpose()? })
    }
}
