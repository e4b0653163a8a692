//! One table: a line for each subject, a column for each figure.

use std::collections::BTreeMap;

use crate::row::Row;

/// Figures that are for the JSON file only.
const NOT_SHOWN: &[&str] = &["p999_us", "attempts", "slow_disk", "probe_p50_us"];

/// What a figure is called at the head of its column.
const HEADINGS: &[(&str, &str)] = &[
    ("ops_per_s", "ops/s"),
    ("p50_us", "p50 us"),
    ("p99_us", "p99 us"),
    ("cpu_us_per_op", "CPU us/op"),
    ("device_bytes_per_payload_byte", "device B/B"),
    ("flushes_per_op", "flushes/op"),
    ("ns_per_op", "ns/op"),
    ("allocations_per_op", "allocations/op"),
];

/// The medians of one cell.
pub(crate) struct Table<'a> {
    rows: &'a [&'a Row],
    subjects: Vec<&'a str>,
    columns: Vec<(String, Vec<Option<f64>>)>,
}

impl<'a> Table<'a> {
    /// The medians of the figures of `rows`, which belong to one cell.
    pub(crate) fn new(rows: &'a [&'a Row]) -> Self {
        let mut subjects: Vec<&str> = Vec::new();
        let mut names: Vec<&str> = Vec::new();
        for row in rows {
            if !subjects.contains(&row.subject.as_str()) {
                subjects.push(&row.subject);
            }
            for name in row.figures.keys() {
                if !names.contains(&name.as_str()) && !NOT_SHOWN.contains(&name.as_str()) {
                    names.push(name);
                }
            }
        }
        let columns = names
            .iter()
            .map(|name| {
                let heading = HEADINGS.iter().find(|(known, _)| known == name);
                let heading = heading.map_or(name.replace('_', " "), |(_, shown)| (*shown).into());
                let medians = subjects
                    .iter()
                    .map(|subject| {
                        let of_subject = rows.iter().filter(|row| row.subject == *subject);
                        median(of_subject.filter_map(|row| row.figure(name)).collect())
                    })
                    .collect();
                (heading, medians)
            })
            .collect();
        Self { rows, subjects, columns }
    }

    /// Adds columns with the rate of each subject as a part of that of another one.
    pub(crate) fn compare(&mut self, others: &[(&str, &str)]) {
        for (heading, other) in others {
            let ratios = |subject: &&str| ratio(self.rows, "ops_per_s", subject, other);
            let column: Vec<_> = self.subjects.iter().map(ratios).collect();
            if column.iter().any(Option::is_some) {
                self.columns.push(((*heading).to_owned(), column));
            }
        }
    }

    /// Adds a column that says how many times as fast as each subject `us` is.
    pub(crate) fn compare_to_us(&mut self, us: &str) {
        let ratios = |subject: &&str| ratio(self.rows, "ops_per_s", us, subject);
        let column: Vec<_> = self.subjects.iter().map(ratios).collect();
        if column.iter().any(Option::is_some) {
            self.columns.push((format!("{us} / this"), column));
        }
    }

    /// The table as aligned Markdown.
    pub(crate) fn render(&self) -> String {
        let mut lines = vec![vec!["subject".to_owned()]];
        lines[0].extend(self.columns.iter().map(|(heading, _)| heading.clone()));
        for (at, subject) in self.subjects.iter().enumerate() {
            let mut line = vec![(*subject).to_owned()];
            for (_, medians) in &self.columns {
                line.push(medians.get(at).copied().flatten().map(number).unwrap_or_default());
            }
            lines.push(line);
        }
        aligned(&lines)
    }
}

/// Lines of cells as Markdown whose columns line up; the first line is the heading.
pub(crate) fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.first().map_or(0, Vec::len);
    let width = |column: usize| {
        let cells = lines.iter().filter_map(|line| line.get(column));
        cells.map(|cell| cell.chars().count()).max().unwrap_or_default().max(3)
    };
    let widths: Vec<usize> = (0..columns).map(width).collect();
    let row = |cells: Vec<String>| format!("|{}|\n", cells.join("|"));
    let mut text = Vec::new();
    for line in lines {
        let mut cells = Vec::new();
        for (column, (cell, width)) in line.iter().zip(&widths).enumerate() {
            // Names to the left, numbers to the right.
            let left = column == 0;
            cells.push(if left {
                format!(" {cell:<width$} ")
            } else {
                format!(" {cell:>width$} ")
            });
        }
        text.push(row(cells));
    }
    let rule = widths.iter().enumerate().map(|(column, width)| {
        let end = if column == 0 { '-' } else { ':' };
        format!("{}{end}", "-".repeat(width + 1))
    });
    text.insert(1.min(text.len()), row(rule.collect()));
    text.concat()
}

/// The median over the rounds of how many times a figure of `other` that of `subject` is.
pub(crate) fn ratio(rows: &[&Row], figure: &str, subject: &str, other: &str) -> Option<f64> {
    let rates = |name: &str| -> BTreeMap<usize, f64> {
        let of_name = rows.iter().filter(|row| row.subject == name);
        of_name.filter_map(|row| Some((row.round, row.figure(figure)?))).collect()
    };
    let others = rates(other);
    let both =
        rates(subject).into_iter().filter_map(|(round, rate)| Some(rate / others.get(&round)?));
    median(both.collect())
}

/// The middle one; the mean of the two middle ones of an even number.
pub(crate) fn median(mut values: Vec<f64>) -> Option<f64> {
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    let upper = *values.get(middle)?;
    if values.len() % 2 == 1 {
        return Some(upper);
    }
    Some(f64::midpoint(*values.get(middle - 1)?, upper))
}

/// A number with as many digits as say something, and commas between thousands.
pub(crate) fn number(value: f64) -> String {
    if value.abs() < 10.0 {
        return format!("{value:.2}");
    }
    if value.abs() < 100.0 {
        return format!("{value:.1}");
    }
    let digits = format!("{:.0}", value.abs());
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    if value < 0.0 { format!("-{text}") } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(subject: &str, round: usize, rate: f64) -> Row {
        Row::new("store", subject, "c", round).with("ops_per_s", rate)
    }

    #[test]
    fn ratios_are_taken_within_a_round() {
        // The disk was ten times as slow in the second round, for both.
        let rows = [
            row("a", 0, 50.0),
            row("b", 0, 100.0),
            row("a", 1, 5.0),
            row("b", 1, 10.0),
            row("a", 2, 9.0),
        ];
        let rows: Vec<_> = rows.iter().collect();
        assert_eq!(ratio(&rows, "ops_per_s", "a", "b"), Some(0.5));
        assert_eq!(ratio(&rows, "ops_per_s", "a", "nobody"), None);
        let mut table = Table::new(&rows);
        table.compare(&[("of b", "b")]);
        table.compare_to_us("a");
        assert!(
            table.render().contains("| a       |  9.00 | 0.50 |     1.00 |"),
            "{}",
            table.render()
        );
    }

    #[test]
    fn medians_and_numbers() {
        assert_eq!(median(vec![3.0, 1.0, 2.0]), Some(2.0));
        assert_eq!(median(vec![4.0, 1.0, 2.0, 3.0]), Some(2.5));
        assert_eq!(median(vec![]), None);
        assert_eq!(
            [number(0.123), number(45.67), number(1_234_567.8)],
            ["0.12", "45.7", "1,234,568"]
        );
        assert_eq!(number(-1234.0), "-1,234");
    }
}
