//! What a comparison found: tables, goals and pictures, printed as Markdown. With `--write`
//! the same words replace the comparison's section of `docs/benchmarks.md`.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use crate::{machine, svg};

/// A report under way. Everything is printed as it is added.
#[derive(Debug)]
pub struct Report {
    name: String,
    text: String,
    charts: Vec<(PathBuf, String)>,
    missed: usize,
}

impl Report {
    /// Begins the report of `bench/<name>`, with date, machine and noise.
    #[must_use]
    pub fn new(name: &str, title: &str) -> Report {
        let mut report = Report {
            name: name.into(),
            text: String::new(),
            charts: Vec::new(),
            missed: 0,
        };
        report.line(&format!("## {title}\n"));
        let words = std::env::args()
            .skip(1)
            .filter(|word| word != "--write" && word != "--bench");
        let command: Vec<String> = std::iter::once(format!("bench/{name}"))
            .chain(words)
            .collect();
        report.line(&format!(
            "`{}`, {}; {}. Noise: {}.\n",
            command.join(" "),
            chrono::Utc::now().format("%Y-%m-%d %H:%M UTC"),
            machine::description(),
            machine::noise()
        ));
        report
    }

    /// A paragraph, or a heading of level 3.
    pub fn paragraph(&mut self, text: &str) {
        self.line(&format!("{text}\n"));
    }

    /// A table; numbers stand right in every column but the first.
    pub fn table(&mut self, head: &[&str], rows: &[Vec<String>]) {
        let mut table = format!(
            "| {} |\n|---|{}\n",
            head.join(" | "),
            "---:|".repeat(head.len() - 1)
        );
        for row in rows {
            let _ = writeln!(table, "| {} |", row.join(" | "));
        }
        self.line(&table);
    }

    /// Text as it is: an `EXPLAIN`, a command's output.
    pub fn verbatim(&mut self, text: &str) {
        self.line(&format!("```\n{}\n```\n", text.trim_end()));
    }

    /// A goal, what was measured, and whether that meets it.
    pub fn goal(&mut self, goal: &str, measured: &str, met: bool) {
        self.missed += usize::from(!met);
        let verdict = if met { "met" } else { "MISSED" };
        self.line(&format!("- goal: {goal}: **{measured}**, {verdict}\n"));
    }

    /// A picture of bars, ours first: `docs/benchmarks/<name>-<what>.svg`.
    pub fn chart(&mut self, what: &str, title: &str, unit: &str, bars: &[(String, f64)]) {
        let file = format!("{}-{what}.svg", self.name);
        self.line(&format!("![{title}](benchmarks/{file})\n"));
        self.charts
            .push((file.into(), svg::bars(title, unit, bars)));
    }

    /// Ends the report, and writes it where `--write` asked for it. The number of goals missed.
    pub fn finish(self, write: bool) -> usize {
        if write {
            let docs = walferry_tests::environment::repository().join("docs");
            self.write(&docs);
        }
        self.missed
    }

    fn write(&self, docs: &Path) {
        write_section(&docs.join("benchmarks.md"), &self.name, &self.text);
        let pictures = docs.join("benchmarks");
        std::fs::create_dir_all(&pictures)
            .unwrap_or_else(|error| panic!("make {}: {error}", pictures.display()));
        for (file, chart) in &self.charts {
            let path = pictures.join(file);
            std::fs::write(&path, chart)
                .unwrap_or_else(|error| panic!("write {}: {error}", path.display()));
        }
    }

    fn line(&mut self, text: &str) {
        println!("{text}");
        self.text.push_str(text);
        self.text.push('\n');
    }
}

/// Puts `text` between the marks of the section `name` of a page.
///
/// # Panics
/// When the page cannot be read or written, or has no such marks.
pub fn write_section(page: &Path, name: &str, text: &str) {
    let old = std::fs::read_to_string(page)
        .unwrap_or_else(|error| panic!("read {}: {error}", page.display()));
    let new = replaced(&old, name, text)
        .unwrap_or_else(|| panic!("{} has no section for `{name}`", page.display()));
    std::fs::write(page, new).unwrap_or_else(|error| panic!("write {}: {error}", page.display()));
}

/// `page` with `text` between the marks of the section `name`; `None` without marks.
fn replaced(page: &str, name: &str, text: &str) -> Option<String> {
    let (begin, end) = (
        format!("<!-- begin {name} -->\n"),
        format!("<!-- end {name} -->"),
    );
    let (before, rest) = page.split_once(&begin)?;
    let (_, after) = rest.split_once(&end)?;
    Some(format!("{before}{begin}{}\n{end}{after}", text.trim_end()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_section_is_replaced_and_nothing_else() {
        let page =
            "a\n<!-- begin x -->\nold\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n";
        let new = replaced(page, "x", "new\n\n").expect("it has marks");
        assert_eq!(
            new,
            "a\n<!-- begin x -->\nnew\n<!-- end x -->\nb\n<!-- begin y -->\n<!-- end y -->\n"
        );
        assert_eq!(replaced(page, "z", "new"), None);
    }
}
