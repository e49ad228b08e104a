//! What a person reads in the server's log: one line per event.

use std::collections::HashSet;
use std::error::Error;
use std::io::Write as _;

/// Says each thing once, on standard error.
#[derive(Debug)]
pub struct Report {
    file: String,
    said: HashSet<String>,
    lines: Vec<String>,
}

impl Report {
    /// About a fetch of what is called `file`, if it is called that.
    #[must_use]
    pub fn of(file: &str) -> Self {
        Self {
            file: file.escape_debug().to_string(),
            said: HashSet::new(),
            lines: Vec::new(),
        }
    }

    /// Says it, unless it was said.
    pub fn say(&mut self, line: &str) {
        let line: String = line
            .chars()
            .map(|c| if c.is_control() { ' ' } else { c })
            .collect();
        if self.said.insert(line.clone()) {
            print(&format!("{}: {line}", self.file));
            self.lines.push(line);
        }
    }

    /// Everything that was said.
    #[must_use]
    pub fn lines(&self) -> &[String] {
        &self.lines
    }
}

/// One line of `walferry fetch`.
fn print(line: &str) {
    // `eprintln!` panics when nobody can read it any more, and the log's end must not decide
    // what PostgreSQL is told.
    let _ = writeln!(std::io::stderr(), "walferry fetch: {line}");
}

/// The error and its causes in one line, and the first hint among them at the end.
pub(crate) fn line(error: &(dyn Error + 'static)) -> String {
    let (mut text, mut hint) = (String::new(), String::new());
    let mut next = Some(error);
    while let Some(error) = next {
        let message = error.to_string();
        let (message, told) = message
            .split_once(". HINT: ")
            .unwrap_or((message.as_str(), ""));
        // A transparent error repeats what is inside of it.
        if !text.contains(message) {
            if !text.is_empty() {
                text.push_str(": ");
            }
            text.push_str(message);
        }
        if hint.is_empty() && !told.is_empty() {
            hint = format!(". HINT: {told}");
        }
        next = error.source();
    }
    text + &hint
}
