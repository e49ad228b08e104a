//! Plans out of the server's log.

use std::path::PathBuf;

use walferry_tests::World;

/// Tables that grow with the archive or with the backlog.
const BIG: [&str; 3] = ["wal_files", "copies", "local_files"];

/// One statement that a call ran.
#[derive(Debug)]
pub(crate) struct Plan {
    pub(crate) call: &'static str,
    pub(crate) query: String,
    pub(crate) milliseconds: f64,
    pub(crate) lines: Vec<String>,
}

/// The server's log from the last look on. A statement is in it before its answer is sent.
pub(crate) struct Log {
    file: PathBuf,
    seen: usize,
    pub(crate) plans: Vec<Plan>,
}

impl Log {
    pub(crate) fn new(world: &World) -> Log {
        let file = world.folder().join("logs/catalog.err");
        Log {
            file,
            seen: 0,
            plans: Vec::new(),
        }
    }

    pub(crate) fn text(&self) -> String {
        std::fs::read_to_string(&self.file)
            .unwrap_or_else(|error| panic!("read {}: {error}", self.file.display()))
    }

    /// What was logged up to now belongs to no call.
    pub(crate) fn begin(&mut self) {
        self.seen = self.text().len();
    }

    /// What was logged since belongs to `call`.
    pub(crate) fn end(&mut self, call: &'static str) {
        let text = self.text();
        let fresh = text[self.seen..].to_owned();
        self.seen = text.len();
        let mut lines = fresh.lines().peekable();
        while let Some(line) = lines.next() {
            let Some((_, took)) = line.split_once("duration: ") else {
                continue;
            };
            let Some((milliseconds, _)) = took.split_once(" ms  plan:") else {
                continue;
            };
            let mut entry = Vec::new();
            while let Some(line) = lines.next_if(|line| line.starts_with('\t')) {
                entry.push(line.trim_start_matches('\t').to_owned());
            }
            let query = entry
                .remove(0)
                .trim_start_matches("Query Text: ")
                .to_owned();
            let milliseconds = milliseconds.parse().expect("a number of milliseconds");
            self.plans.push(Plan {
                call,
                query,
                milliseconds,
                lines: entry,
            });
        }
        assert!(
            self.plans.iter().any(|plan| plan.call == call),
            "no plan of `{call}` is in the log"
        );
    }
}

impl Plan {
    /// Foreign keys' own queries.
    pub(crate) fn is_trigger(&self) -> bool {
        self.query.contains("FROM ONLY")
    }

    pub(crate) fn scans(&self) -> impl Iterator<Item = &String> {
        let big = |line: &&String| {
            BIG.iter()
                .any(|table| line.contains(&format!("Seq Scan on {table} ")))
        };
        self.lines.iter().filter(big)
    }

    /// Nodes with their conditions and actual rows, without estimates; the buffers of the whole.
    pub(crate) fn short(&self) -> String {
        let query: String = self.query.split_whitespace().collect::<Vec<_>>().join(" ");
        let mut text: String = query.chars().take(150).collect();
        if text.len() < query.len() {
            text.push('…');
        }
        let mut buffers = false;
        for line in &self.lines {
            let word = line.trim_start();
            if word.starts_with("Buffers:") {
                if std::mem::replace(&mut buffers, true) {
                    continue;
                }
            } else if ["I/O Timings", "Rows Removed", "Sort Method", "Heap Fetches"]
                .iter()
                .any(|start| word.starts_with(start))
            {
                continue;
            }
            let line = match (line.find("  (cost="), line.find("(actual")) {
                (Some(cost), Some(actual)) => format!("{}  {}", &line[..cost], &line[actual..]),
                _ => line.clone(),
            };
            let cut: String = line.chars().take(170).collect();
            text.push_str(&format!(
                "\n{cut}{}",
                if cut.len() < line.len() { "…" } else { "" }
            ));
        }
        text
    }
}
