//! What a run did, or would do, for the log, the command line and metrics.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::Serialize;
use walferry_proof::{KeyPrefix, RepositoryName};

use crate::compare::Comparison;
use crate::guards::Refusal;
use crate::plan::Plan;

/// What a run would do, and what would keep it from doing so.
#[derive(Debug, Clone)]
pub struct Preview {
    pub cluster: String,
    /// The catalog's time, which ages are counted from.
    pub now: DateTime<Utc>,
    pub prefixes: Vec<PrefixReport>,
    pub refusals: Vec<Refusal>,
    pub skipped: Vec<Skipped>,
}

/// What a run did.
#[derive(Debug, Clone)]
pub struct Report {
    pub cluster: String,
    pub now: DateTime<Utc>,
    pub prefixes: Vec<PrefixReport>,
    pub outcome: Outcome,
    pub skipped: Vec<Skipped>,
    pub repositories: Vec<RepositoryReport>,
    /// Rows that lost their last copy and became tombstones.
    pub tombstones: u64,
}

/// The plan for one prefix.
#[derive(Debug, Clone)]
pub struct PrefixReport {
    pub prefix: KeyPrefix,
    pub plan: Plan,
    /// Comparisons that this run made, and found equal.
    pub compared: Vec<Comparison>,
}

#[derive(Debug, Clone)]
pub enum Outcome {
    /// Everything that could be done was done; `skipped` and `failed` say what is due again.
    Done,
    /// Nothing was deleted.
    Refused(Vec<Refusal>),
    /// A newer run took over, or a hold was set: what was begun goes on another time.
    Stopped,
}

/// A repository that was left alone this time; its copies are due again.
#[derive(Debug, Clone, Serialize)]
pub struct Skipped {
    pub repository: RepositoryName,
    pub why: Why,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Why {
    /// It did not answer; the words are the error's.
    Away { error: String, cause: &'static str },
    /// Rows speak of it and the configuration does not.
    NotConfigured,
}

/// What happened in one repository.
#[derive(Debug, Clone, Serialize)]
pub struct RepositoryReport {
    pub repository: RepositoryName,
    /// Objects whose every version is gone.
    pub deleted: u64,
    /// Versions and delete markers that those had.
    pub versions: u64,
    /// Objects that may still be there; they are due again.
    pub failed: u64,
    /// Objects that the run did not come to, after too many failures.
    pub left: u64,
    /// Labels of base backups that are gone.
    pub bases: Vec<String>,
    pub last_error: Option<String>,
}

impl RepositoryReport {
    pub(crate) fn new(repository: RepositoryName) -> Self {
        Self {
            repository,
            deleted: 0,
            versions: 0,
            failed: 0,
            left: 0,
            bases: Vec::new(),
            last_error: None,
        }
    }
}

impl Report {
    pub fn deleted(&self) -> u64 {
        self.repositories.iter().map(|r| r.deleted).sum()
    }

    /// Objects that should have gone and are due again.
    pub fn due_again(&self) -> u64 {
        self.repositories.iter().map(|r| r.failed + r.left).sum()
    }

    pub fn planned(&self) -> u64 {
        self.prefixes
            .iter()
            .map(|prefix| prefix.plan.copies())
            .sum()
    }

    /// As far as labels prove it, for every prefix that holds anything.
    pub fn window_proven(&self) -> bool {
        proven(&self.prefixes)
    }
}

impl Preview {
    pub fn window_proven(&self) -> bool {
        proven(&self.prefixes)
    }
}

fn proven(prefixes: &[PrefixReport]) -> bool {
    let mut plans = prefixes.iter().map(|prefix| &prefix.plan).peekable();
    plans.peek().is_some() && plans.all(|plan| plan.repositories.is_empty() || plan.window_proven())
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Refused(refusals) => {
                let refusals: Vec<String> = refusals.iter().map(ToString::to_string).collect();
                write!(f, "nothing was deleted: {}", refusals.join(" | "))
            }
            Outcome::Done | Outcome::Stopped => {
                write!(f, "{} objects deleted", self.deleted())?;
                let bases: usize = self.repositories.iter().map(|r| r.bases.len()).sum();
                if bases > 0 {
                    write!(f, ", {bases} copies of base backups deleted")?;
                }
                if self.due_again() > 0 {
                    write!(f, ", {} are due again", self.due_again())?;
                }
                for skipped in &self.skipped {
                    write!(f, ", {skipped}")?;
                }
                if matches!(self.outcome, Outcome::Stopped) {
                    f.write_str("; stopped by a hold or by a newer run")?;
                }
                Ok(())
            }
        }
    }
}

impl fmt::Display for Skipped {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.why {
            Why::Away { error, .. } => write!(f, "`{}` was left out: {error}", self.repository),
            Why::NotConfigured => write!(
                f,
                "`{}` was left out: it holds copies and is not configured",
                self.repository
            ),
        }
    }
}
