//! Medians and ratios of what was measured, as text that is Markdown, too.

mod table;
mod targets;

use std::path::Path;

use larder::{Clock, SystemClock};
use serde::{Deserialize, Serialize};

use self::table::Table;
pub(crate) use self::table::number;
use crate::args::ReportArgs;
use crate::bench::print;
use crate::error::Result;
use crate::plan::Workload;
use crate::row::Row;
use crate::subject::Kind;

/// All rows of a run, and where it was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Results {
    pub(crate) machine: Machine,
    pub(crate) rows: Vec<Row>,
}

/// Where a run was.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Machine {
    version: String,
    cores: usize,
    processor: String,
    memory: String,
    kernel: String,
    file_system: String,
    unix_time: u64,
}

impl Results {
    /// Nothing yet, on this machine, on the disk of `folder`.
    pub(crate) fn here(folder: &Path) -> Self {
        Self { machine: Machine::here(folder), rows: Vec::new() }
    }

    pub(crate) fn write(&self, path: &Path) -> Result<()> {
        Ok(std::fs::write(path, serde_json::to_vec_pretty(self)?)?)
    }
}

impl Machine {
    fn here(folder: &Path) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION").into(),
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            processor: line_of("/proc/cpuinfo", "model name"),
            memory: line_of("/proc/meminfo", "MemTotal"),
            kernel: read("/proc/sys/kernel/osrelease"),
            file_system: file_system(folder),
            unix_time: SystemClock.now().as_millis() / 1000,
        }
    }
}

fn read(path: &str) -> String {
    std::fs::read_to_string(path).unwrap_or_default().trim().to_owned()
}

fn line_of(path: &str, key: &str) -> String {
    let text = read(path);
    let line = text.lines().find(|line| line.starts_with(key)).unwrap_or_default();
    line.split_once(':').map_or("", |(_, value)| value).trim().to_owned()
}

/// The kind of the file system with the longest mount point above `folder`, and its options.
fn file_system(folder: &Path) -> String {
    let Ok(folder) = folder.canonicalize() else { return String::new() };
    let mounts = read("/proc/self/mounts");
    let mount = mounts
        .lines()
        .filter_map(|line| {
            let fields: Vec<_> = line.split(' ').collect();
            Some((*fields.get(1)?, *fields.get(2)?, *fields.get(3)?))
        })
        .filter(|(place, ..)| folder.starts_with(place))
        .max_by_key(|(place, ..)| place.len());
    mount.map(|(_, kind, options)| format!("{kind} ({options})")).unwrap_or_default()
}

/// Prints the report and writes it to `markdown`, too.
pub(crate) fn show(results: &Results, markdown: Option<&Path>) -> Result<()> {
    let text = render(results);
    print(&text);
    if let Some(path) = markdown {
        std::fs::write(path, text)?;
    }
    Ok(())
}

/// One report of several runs.
pub(crate) fn merged(arguments: &ReportArgs) -> Result<()> {
    let mut all: Option<Results> = None;
    for (number, path) in arguments.files.iter().enumerate() {
        let mut results: Results = serde_json::from_slice(&std::fs::read(path)?)
            .map_err(|error| format!("{}: {error}", path.display()))?;
        for row in &mut results.rows {
            // Rounds of different runs are different rounds.
            row.round += number * 1000;
        }
        match &mut all {
            Some(all) => all.rows.append(&mut results.rows),
            None => all = Some(results),
        }
    }
    show(&all.ok_or("no files")?, arguments.markdown.as_deref())
}

fn render(results: &Results) -> String {
    let machine = &results.machine;
    let mut parts = vec![format!(
        "larder {}, {} x {}, {} of memory, Linux {}, {}\n",
        machine.version,
        machine.cores,
        machine.processor,
        machine.memory,
        machine.kernel,
        machine.file_system
    )];
    let slow = results.rows.iter().filter(|row| row.figure("slow_disk") == Some(1.0)).count();
    if slow > 0 {
        let all = results.rows.len();
        parts.push(format!("\n{slow} of {all} measurements met slow syncs.\n"));
    }
    parts.push(targets::render(&results.rows));
    for workload in Workload::ALL {
        let of_workload = |row: &&Row| row.workload == workload.as_str();
        let rows: Vec<_> = results.rows.iter().filter(of_workload).collect();
        if !rows.is_empty() {
            parts.push(format!("\n### {}\n", workload.title()));
            parts.extend(tables(workload, &rows));
        }
    }
    parts.concat()
}

/// A table for each cell.
fn tables(workload: Workload, rows: &[&Row]) -> Vec<String> {
    let mut cells: Vec<&str> = Vec::new();
    for row in rows {
        if !cells.contains(&row.cell.as_str()) {
            cells.push(&row.cell);
        }
    }
    let table = |cell: &str| {
        let rows: Vec<_> = rows.iter().copied().filter(|row| row.cell == cell).collect();
        let mut table = Table::new(&rows);
        if workload.is_a_comparison() {
            table.compare(&[
                ("of raw append", Kind::Raw.as_str()),
                ("of bare log", Kind::Bare.as_str()),
                ("of growing log", Kind::BareGrowing.as_str()),
                ("of bare client", crate::workload::BARE_CLIENT),
                ("of quick_cache", crate::near::BARE),
            ]);
            table.compare_to_us(Kind::Larder.as_str());
        }
        format!("\n**{cell}**\n\n{}", table.render())
    };
    cells.into_iter().map(table).collect()
}
