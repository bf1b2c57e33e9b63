//! What was found, as text, Markdown and JSON.

use super::measure::Sample;
use serde::{Deserialize, Serialize};
use std::fmt::Write as _;

/// The version of the JSON form; it rises when a field changes its meaning.
const VERSION: u32 = 1;

/// All that one run found.
#[derive(Debug, Serialize, Deserialize)]
pub struct Report {
    version: u32,
    system: System,
    /// Whether too little was measured for the figures to mean anything.
    quick: bool,
    tables: Vec<Table>,
    series: Vec<Series>,
    notes: Vec<String>,
    /// What could not be measured, and why.
    pub skipped: Vec<String>,
}

/// Where it was found.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct System {
    backend: String,
    /// By what contexts are rolled back.
    rollback: String,
    system: String,
    release: String,
    machine: String,
    processor: String,
    processors: usize,
}

/// What one group found.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Section {
    /// Figures beside each other.
    pub tables: Vec<Table>,
    /// Figures that depend on something.
    pub series: Vec<Series>,
    /// What a reader must know about both.
    pub notes: Vec<String>,
}

/// Figures beside each other.
#[derive(Debug, Serialize, Deserialize)]
pub struct Table {
    /// What is measured, and how.
    pub title: String,
    /// In the order they are shown.
    pub rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, Serialize, Deserialize)]
pub struct Row {
    /// What it is of.
    pub name: String,
    /// Nanoseconds: the median.
    pub median_ns: f64,
    /// The first and the third quartile.
    pub quartiles_ns: (f64, f64),
    /// How many times as much as something else.
    pub ratio: Option<Ratio>,
}

/// How many times as much as something else.
#[derive(Debug, Serialize, Deserialize)]
pub struct Ratio {
    /// The median, over pairs measured in turn.
    pub value: f64,
    /// The other row.
    pub of: String,
    /// What it should be at most.
    pub aim: Option<f64>,
}

/// Figures that depend on something.
#[derive(Debug, Serialize, Deserialize)]
pub struct Series {
    /// A name for files: a-z and dashes.
    pub name: String,
    /// What is measured.
    pub title: String,
    /// What it depends on.
    pub x: String,
    /// What it is, with its unit.
    pub y: String,
    /// One for each way of doing it; every line has the same points.
    pub lines: Vec<Line>,
}

/// One line of a series.
#[derive(Debug, Serialize, Deserialize)]
pub struct Line {
    /// What it is of.
    pub name: String,
    /// x and y, in order of x.
    pub points: Vec<(f64, f64)>,
}

impl System {
    /// This one, and by what contexts are rolled back there.
    ///
    /// # Errors
    /// When there is no backend.
    pub fn of_this_machine(rollback: String) -> Result<Self, lwc::Error> {
        let uname = nix::sys::utsname::uname().ok();
        let text = |part: Option<&std::ffi::OsStr>| {
            part.map(|p| p.to_string_lossy().into_owned())
                .unwrap_or_default()
        };
        Ok(Self {
            backend: lwc::backend()?.to_string(),
            rollback,
            system: text(uname.as_ref().map(nix::sys::utsname::UtsName::sysname)),
            release: text(uname.as_ref().map(nix::sys::utsname::UtsName::release)),
            machine: text(uname.as_ref().map(nix::sys::utsname::UtsName::machine)),
            processor: processor().unwrap_or_else(|| "unknown".into()),
            processors: super::bare::cpu::processors().len(),
        })
    }
}

#[cfg(target_os = "linux")]
fn processor() -> Option<String> {
    let text = std::fs::read_to_string("/proc/cpuinfo").ok()?;
    let line = text.lines().find(|l| l.starts_with("model name"))?;
    Some(line.split_once(':')?.1.trim().to_owned())
}

#[cfg(not(target_os = "linux"))]
fn processor() -> Option<String> {
    let output = std::process::Command::new("sysctl")
        .args(["-n", "hw.model"])
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    let text = text.trim();
    (output.status.success() && !text.is_empty()).then(|| text.to_owned())
}

impl Row {
    /// A figure by itself.
    pub fn of(sample: &Sample) -> Self {
        let [low, median_ns, high] = sample.quartiles();
        Self {
            name: sample.name.clone(),
            median_ns,
            quartiles_ns: (low, high),
            ratio: None,
        }
    }

    /// A figure beside another, with what the ratio should be at most.
    pub fn beside(sample: &Sample, other: &Sample, aim: Option<f64>) -> Self {
        Self {
            ratio: Some(Ratio {
                value: sample.over(other),
                of: other.name.clone(),
                aim,
            }),
            ..Self::of(sample)
        }
    }

    fn cells(&self) -> [String; 4] {
        let (low, high) = self.quartiles_ns;
        let (ratio, aim) = match &self.ratio {
            None => Default::default(),
            Some(r) => (
                format!("{:.2} × {}", r.value, r.of),
                r.aim.map_or_else(String::new, |aim| {
                    let verdict = if r.value <= aim { "met" } else { "missed" };
                    format!("≤ {aim}: {verdict}")
                }),
            ),
        };
        [
            micros(self.median_ns),
            format!("{} – {}", micros(low), micros(high)),
            ratio,
            aim,
        ]
    }
}

/// Three figures that mean something.
fn micros(nanos: f64) -> String {
    let us = nanos / 1e3;
    let digits = if us < 10.0 {
        3 - usize::from(us >= 1.0)
    } else {
        usize::from(us < 100.0)
    };
    format!("{us:.digits$}")
}

fn number(value: f64) -> String {
    if value.fract() == 0.0 {
        format!("{value}")
    } else if value.abs() < 10.0 {
        format!("{value:.2}")
    } else {
        format!("{value:.1}")
    }
}

const COLUMNS: [&str; 4] = ["µs", "quartiles", "ratio", "aim"];

/// Rows of cells under a title.
struct Grid {
    title: String,
    head: Vec<String>,
    rows: Vec<Vec<String>>,
}

impl Grid {
    fn of_table(table: &Table) -> Self {
        let aims = table
            .rows
            .iter()
            .any(|r| r.ratio.as_ref().is_some_and(|r| r.aim.is_some()));
        let columns = if aims { 4 } else { 3 };
        let head = std::iter::once("").chain(COLUMNS).map(String::from);
        Self {
            title: table.title.clone(),
            head: head.take(columns + 1).collect(),
            rows: table
                .rows
                .iter()
                .map(|r| {
                    std::iter::once(r.name.clone())
                        .chain(r.cells().into_iter().take(columns))
                        .collect()
                })
                .collect(),
        }
    }

    fn of_series(series: &Series) -> Self {
        let names = series.lines.iter().map(|l| l.name.clone());
        let points = series.lines.iter().map(|l| l.points.len()).max();
        Self {
            title: format!("{}, {}", series.title, series.y),
            head: std::iter::once(series.x.clone()).chain(names).collect(),
            rows: (0..points.unwrap_or(0))
                .map(|i| {
                    let at = series.lines.iter().find_map(|l| l.points.get(i));
                    let x = at.map_or_else(String::new, |p| number(p.0));
                    let ys = series
                        .lines
                        .iter()
                        .map(|l| l.points.get(i).map_or_else(String::new, |p| number(p.1)));
                    std::iter::once(x).chain(ys).collect()
                })
                .collect(),
        }
    }

    fn text(&self) -> String {
        let width = |i: usize| {
            self.rows
                .iter()
                .chain([&self.head])
                .map(|r| r[i].chars().count())
                .max()
                .unwrap_or(0)
        };
        let widths: Vec<usize> = (0..self.head.len()).map(width).collect();
        let mut out = format!("{}\n", self.title);
        for row in std::iter::once(&self.head).chain(&self.rows) {
            let mut line = String::from(" ");
            for (i, (cell, &width)) in row.iter().zip(&widths).enumerate() {
                let gap = width - cell.chars().count();
                // Names and aims to the left, figures to the right.
                let (before, after) = if i == 0 { (0, gap) } else { (gap, 0) };
                let _ = write!(line, " {:before$}{cell}{:after$} ", "", "");
            }
            out.push_str(line.trim_end());
            out.push('\n');
        }
        out
    }

    fn markdown(&self) -> String {
        let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
        let mut out = format!("**{}**\n\n{}|", self.title, line(&self.head));
        for i in 0..self.head.len() {
            out.push_str(if i == 0 { " :-- |" } else { " --: |" });
        }
        out.push('\n');
        self.rows.iter().for_each(|r| out.push_str(&line(r)));
        out
    }
}

impl Report {
    /// One without figures.
    pub fn new(system: System, quick: bool) -> Self {
        Self {
            version: VERSION,
            system,
            quick,
            tables: Vec::new(),
            series: Vec::new(),
            notes: Vec::new(),
            skipped: Vec::new(),
        }
    }

    /// What one group found.
    pub fn add(&mut self, section: Section) {
        self.tables.extend(section.tables);
        self.series.extend(section.series);
        self.notes.extend(section.notes);
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.series.is_empty()
    }

    /// What can be plotted.
    pub fn series(&self) -> &[Series] {
        &self.series
    }

    fn grids(&self) -> impl Iterator<Item = Grid> {
        let series = self.series.iter().map(Grid::of_series);
        self.tables.iter().map(Grid::of_table).chain(series)
    }

    fn heading(&self) -> String {
        let s = &self.system;
        let warning = if self.quick {
            " A quick run: the figures mean nothing."
        } else {
            ""
        };
        format!(
            "{} backend, rollback by {}, {} {} ({}), {}, processors: {}.{warning}",
            s.backend, s.rollback, s.system, s.release, s.machine, s.processor, s.processors
        )
    }

    fn remarks(&self) -> impl Iterator<Item = String> {
        let skipped = self.skipped.iter().map(|s| format!("Not measured: {s}"));
        self.notes.iter().cloned().chain(skipped)
    }

    /// For a terminal.
    pub fn text(&self) -> String {
        let mut out = self.heading() + "\n";
        for grid in self.grids() {
            let _ = write!(out, "\n{}", grid.text());
        }
        for (i, remark) in self.remarks().enumerate() {
            let _ = writeln!(out, "{}{remark}", if i == 0 { "\n" } else { "" });
        }
        out
    }

    /// For documentation.
    pub fn markdown(&self) -> String {
        let mut out = self.heading() + "\n";
        for grid in self.grids() {
            let _ = write!(out, "\n{}", grid.markdown());
        }
        for (i, remark) in self.remarks().enumerate() {
            let _ = writeln!(out, "{}- {remark}", if i == 0 { "\n" } else { "" });
        }
        out
    }

    /// For programs.
    pub fn json(&self) -> String {
        // Figures and texts alone: nothing that JSON cannot say.
        serde_json::to_string_pretty(self).unwrap_or_default() + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_have_three_digits() {
        let shown = [171.0, 4_712.0, 47_120.0, 1_234_567.0].map(micros);
        assert_eq!(shown, ["0.171", "4.71", "47.1", "1235"]);
    }

    #[test]
    fn tables_line_up_and_say_whether_the_aim_is_met() {
        let row = |name: &str, value| Row {
            name: name.into(),
            median_ns: 1000.0,
            quartiles_ns: (900.0, 1100.0),
            ratio: Some(Ratio {
                value,
                of: "b".into(),
                aim: Some(1.5),
            }),
        };
        let table = Table {
            title: "t".into(),
            rows: vec![row("short", 1.0), row("a longer name", 2.0)],
        };
        let text = Grid::of_table(&table).text();
        assert!(text.contains("1.00 × b  ≤ 1.5: met") || text.contains("≤ 1.5: met"));
        assert!(text.contains("≤ 1.5: missed"));
        let ends: Vec<usize> = text.lines().skip(2).map(|l| l.find('×').unwrap()).collect();
        assert_eq!(ends[0] - "short".len(), ends[1] - "short".len());
        assert!(Grid::of_table(&table).markdown().contains("| --: |"));
    }
}
