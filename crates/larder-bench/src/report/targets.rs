//! What larder sets out to reach, next to what was measured.

use super::table::{aligned, median, number, ratio};
use crate::near;
use crate::row::Row;
use crate::workload::consensus::{
    BARE_TXN, ETCD, LOG, POSTGRES, READ_COMMITTED, SERIALIZABLE, SYNC_STORE,
};

/// How many times a figure of `to` that of `subject` is to be, in one cell and round.
struct Target {
    workload: &'static str,
    /// None: all that there are.
    cells: &'static [&'static str],
    figure: &'static str,
    subject: &'static str,
    /// Empty: the figure itself counts.
    to: &'static str,
    bound: Bound,
}

#[derive(Clone, Copy)]
enum Bound {
    AtLeast(f64),
    AtMost(f64),
}

const ALL: &[Target] = &[
    of_the_bare_log(&["1 KiB x 64"], 0.7),
    of_the_bare_log(&["1 KiB x 512"], 0.6),
    of_the_bare_log(&["16 KiB x 64", "16 KiB x 512", "256 KiB x 64", "256 KiB x 512"], 0.8),
    of_a_raw_append("larder", 0.55),
    of_a_raw_append("larder, blocking", 0.8),
    Target {
        workload: "calm",
        cells: &["1 KiB x 8"],
        figure: "p99_us",
        subject: "larder, background",
        to: "larder, quiet",
        bound: Bound::AtMost(3.0),
    },
    Target {
        workload: "far",
        cells: &["100 B x 1", "100 B x 64", "100 B x 512", "10 KiB x 64"],
        figure: "ops_per_s",
        subject: "larder",
        to: crate::workload::BARE_CLIENT,
        bound: Bound::AtLeast(0.9),
    },
    hit(near::FACE, near::BARE, Bound::AtMost(1.5)),
    hit(near::NESTED, near::BARE, Bound::AtMost(1.5)),
    hit(near::NOW, near::BARE, Bound::AtMost(1.3)),
    hit("hitbox", near::FACE, Bound::AtLeast(10.0)),
    stampede(near::FACE),
    stampede(near::NESTED),
    stampede("larder, three tiers"),
    Target {
        workload: "outage",
        cells: &[],
        figure: "p99_us_of_the_worst_client",
        subject: crate::workload::STOPPED,
        to: "",
        bound: Bound::AtMost(crate::workload::P99_MAX_US),
    },
    Target {
        workload: "outage",
        cells: &[],
        figure: "hung",
        subject: crate::workload::STOPPED,
        to: "",
        bound: Bound::AtMost(0.0),
    },
    Target {
        workload: "ratio",
        cells: &[],
        figure: crate::workload::BEHIND,
        subject: near::FACE,
        to: "",
        bound: Bound::AtMost(1.0),
    },
    agreed("swap", &["512 B x 256"], POSTGRES, SERIALIZABLE, 5.0),
    agreed("swap", &["512 B x 256"], POSTGRES, READ_COMMITTED, 5.0),
    agreed("swap", &["512 B x 256"], ETCD, BARE_TXN, 4.0),
    agreed("swap", &["512 B x 1"], POSTGRES, READ_COMMITTED, 0.95),
    agreed("swap", &["512 B x 1"], ETCD, BARE_TXN, 0.95),
    agreed("swap", &["512 B x 256"], LOG, SYNC_STORE, 0.5),
    agreed("head", &["512 B x 64"], POSTGRES, READ_COMMITTED, 4.0),
];

const fn agreed(
    workload: &'static str,
    cells: &'static [&'static str],
    subject: &'static str,
    to: &'static str,
    at_least: f64,
) -> Target {
    Target { workload, cells, figure: "ops_per_s", subject, to, bound: Bound::AtLeast(at_least) }
}

const fn hit(subject: &'static str, to: &'static str, bound: Bound) -> Target {
    let cells = &["10,000 keys x 1", "10,000 keys x 2", "1,000,000 keys x 1", "1,000,000 keys x 2"];
    Target { workload: "hit", cells, figure: "ns_per_op", subject, to, bound }
}

const fn stampede(subject: &'static str) -> Target {
    Target {
        workload: "stampede",
        cells: &[],
        figure: "most_loads_of_a_key",
        subject,
        to: "",
        bound: Bound::AtMost(1.0),
    }
}

const fn of_the_bare_log(cells: &'static [&'static str], at_least: f64) -> Target {
    Target {
        workload: "store",
        cells,
        figure: "ops_per_s",
        subject: "larder",
        to: "bare log, prewritten",
        bound: Bound::AtLeast(at_least),
    }
}

const fn of_a_raw_append(subject: &'static str, at_least: f64) -> Target {
    Target {
        workload: "store",
        cells: &["1 KiB x 1"],
        figure: "ops_per_s",
        subject,
        to: "raw append, one thread",
        bound: Bound::AtLeast(at_least),
    }
}

pub(super) fn render(rows: &[Row]) -> String {
    let heading = ["target", "cell", "measured", "wanted", "reached"];
    let mut lines = vec![heading.map(str::to_owned).to_vec()];
    for target in ALL {
        let of_workload: Vec<_> =
            rows.iter().filter(|row| row.workload == target.workload).collect();
        let mut cells = target.cells.to_vec();
        if cells.is_empty() {
            cells.extend(of_workload.iter().map(|row| row.cell.as_str()));
            cells.sort_unstable();
            cells.dedup();
        }
        for cell in cells {
            let rows: Vec<_> = of_workload.iter().copied().filter(|row| row.cell == cell).collect();
            let measured = if target.to.is_empty() {
                let own = rows.iter().filter(|row| row.subject == target.subject);
                median(own.filter_map(|row| row.figure(target.figure)).collect())
            } else {
                ratio(&rows, target.figure, target.subject, target.to)
            };
            let Some(measured) = measured else { continue };
            let (wanted, reached) = match target.bound {
                Bound::AtLeast(least) => (format!("at least {least}"), measured >= least),
                Bound::AtMost(most) => (format!("at most {most}"), measured <= most),
            };
            lines.push(vec![
                if target.to.is_empty() {
                    format!("{} of {}", target.figure, target.subject)
                } else {
                    format!("{} of {} to {}", target.figure, target.subject, target.to)
                },
                cell.to_owned(),
                number(measured),
                wanted,
                if reached { "yes" } else { "no" }.to_owned(),
            ]);
        }
    }
    if lines.len() == 1 {
        return String::new();
    }
    format!("\n{}", aligned(&lines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::subject::Kind;

    #[test]
    fn targets_name_subjects_that_there_are() {
        let known = |name: &str| Kind::all().iter().any(|kind| kind.as_str() == name);
        for target in ALL.iter().filter(|target| target.workload == "store") {
            assert!(known(target.subject), "{}", target.subject);
            assert!(known(target.to), "{}", target.to);
        }
    }

    #[test]
    fn a_target_is_reached_or_not() {
        let row = |subject: &str, rate: f64| {
            Row::new("store", subject, "1 KiB x 64", 0).with("ops_per_s", rate)
        };
        let bare = row("bare log, prewritten", 100.0);
        assert!(render(&[row("larder", 70.0), bare.clone()]).contains("yes"));
        assert!(render(&[row("larder", 69.0), bare]).contains("no"));
        assert_eq!(render(&[]), "");
    }
}
