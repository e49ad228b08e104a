//! Everything that makes retention refuse, and the questions that find it out.

use std::fmt;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use serde::Serialize;
use uuid::Uuid;
use walferry_catalog::holds::Hold;
use walferry_catalog::identity::Identity;
use walferry_proof::{KeyPrefix, RepositoryName};

use crate::compare::Comparison;
use crate::mark::CatalogMark;

/// Why nothing is deleted.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "refusal", rename_all = "kebab-case")]
pub enum Refusal {
    /// A person said so.
    Held { holds: Vec<Hold> },
    /// Another run of this cluster is alive.
    AnotherRun { since: DateTime<Utc> },
    /// Our clock and another one differ too much; which of them is wrong nobody knows.
    Clock {
        /// The repository's, or `None`: the catalog's.
        repository: Option<RepositoryName>,
        ours: DateTime<Utc>,
        theirs: DateTime<Utc>,
        limit_seconds: u64,
    },
    /// The plan would delete too much at once.
    Share {
        prefix: KeyPrefix,
        share: f64,
        limit: f64,
    },
    /// The catalog was not compared with the bucket since it was made or restored, and the
    /// comparison found differences.
    Differs {
        why: Untrusted,
        comparison: Comparison,
    },
    /// The bucket's mark cannot be read.
    Mark {
        repository: RepositoryName,
        problem: String,
    },
}

/// Why a catalog has to be compared with a bucket before anything is deleted there.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(tag = "why", rename_all = "kebab-case")]
pub enum Untrusted {
    /// The bucket has no mark of any catalog.
    NoMark,
    /// Another catalog acted there last.
    OtherCatalog {
        #[serde(serialize_with = "as_text")]
        found: Uuid,
    },
    /// The bucket has seen a later state of this catalog: it was restored from the past.
    Restored { bucket: u64, catalog: u64 },
    /// The catalog has no record of a comparison.
    NeverCompared,
}

impl Untrusted {
    /// `None` when this catalog was compared with the bucket and has not been restored
    /// since. A catalog that was restored to a state in which nothing has been deleted
    /// since passes: its rows can lack young objects, which retention never touches, but
    /// no row of its lacks an object.
    pub fn judge(
        identity: &Identity,
        mark: Option<&CatalogMark>,
        compared: Option<&Identity>,
    ) -> Option<Self> {
        let Some(mark) = mark else {
            return Some(Self::NoMark);
        };
        if mark.identity.id != identity.id {
            return Some(Self::OtherCatalog {
                found: mark.identity.id,
            });
        }
        let compared = compared.filter(|compared| compared.id == identity.id);
        // The catalog's epoch alone does not tell: after a restore another bucket's run may
        // have raised it above what this bucket, which was away, has seen.
        let known = compared.map_or(identity.epoch, |compared| {
            compared.epoch.min(identity.epoch)
        });
        if mark.identity.epoch > known {
            return Some(Self::Restored {
                bucket: mark.identity.epoch,
                catalog: known,
            });
        }
        compared.is_none().then_some(Self::NeverCompared)
    }
}

fn as_text<S: serde::Serializer>(id: &Uuid, to: S) -> Result<S::Ok, S::Error> {
    to.collect_str(id)
}

/// Refuses when two clocks are further apart than `limit`, whichever is ahead.
pub(crate) fn clock(
    repository: Option<&RepositoryName>,
    ours: DateTime<Utc>,
    theirs: DateTime<Utc>,
    limit: Duration,
) -> Option<Refusal> {
    let limit_delta = TimeDelta::from_std(limit).unwrap_or(TimeDelta::MAX);
    (theirs.signed_duration_since(ours).abs() > limit_delta).then(|| Refusal::Clock {
        repository: repository.cloned(),
        ours,
        theirs,
        limit_seconds: limit.as_secs(),
    })
}

impl Refusal {
    /// A word of a bounded set, for events and alerts.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Held { .. } => "retention-held",
            Self::AnotherRun { .. } => "retention-busy",
            Self::Clock { .. } => "retention-clock",
            Self::Share { .. } => "retention-share",
            Self::Differs { .. } => "retention-not-compared",
            Self::Mark { .. } => "retention-mark",
        }
    }

    /// Whether a person must act: a hold was a person's own act, another run ends by itself.
    pub fn needs_a_person(&self) -> bool {
        match self {
            Self::Held { .. } | Self::AnotherRun { .. } => false,
            Self::Clock { .. } | Self::Share { .. } | Self::Differs { .. } | Self::Mark { .. } => {
                true
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let time = |time: &DateTime<Utc>| time.format("%Y-%m-%d %H:%M:%S UTC").to_string();
        match self {
            Self::Held { holds } => {
                let holds: Vec<String> = holds
                    .iter()
                    .map(|hold| {
                        format!(
                            "hold {} by {} since {}: {}",
                            hold.id,
                            hold.created_by,
                            time(&hold.created_at),
                            hold.reason
                        )
                    })
                    .collect();
                write!(
                    f,
                    "all deletion is on hold ({}). HINT: `walferry retention release` ends it",
                    holds.join("; ")
                )
            }
            Self::AnotherRun { since } => write!(
                f,
                "another retention run of this cluster is at work since {}. HINT: if it was killed, it is taken for dead ten minutes after its last sign of life",
                time(since)
            ),
            Self::Clock {
                repository,
                ours,
                theirs,
                limit_seconds,
            } => {
                let whose = match repository {
                    Some(repository) => format!("`{repository}`'s"),
                    None => "the catalog's".to_owned(),
                };
                write!(
                    f,
                    "this machine's clock says {}, {whose} says {}: more than {limit_seconds} s apart. HINT: set the clock that is wrong, for example with NTP",
                    time(ours),
                    time(theirs)
                )
            }
            Self::Share {
                prefix,
                share,
                limit,
            } => write!(
                f,
                "the plan would delete {:.1} % of the copies under `{prefix}`, more than {:.1} %. HINT: look at `walferry retention plan`; if it is right, run `walferry retention apply --yes`",
                share * 100.0,
                limit * 100.0
            ),
            Self::Differs { why, comparison } => {
                write!(
                    f,
                    "the catalog does not know what `{}` holds under `{}` ({why}): {} differences",
                    comparison.repository, comparison.prefix, comparison.total
                )?;
                for difference in comparison.differences.iter().take(3) {
                    write!(f, "; {difference}")?;
                }
                f.write_str(
                    ". HINT: run `walferry import --dry-run`, then `walferry import`, which reads each object and adopts what is whole",
                )
            }
            Self::Mark {
                repository,
                problem,
            } => write!(
                f,
                "which catalog acted last in `{repository}` cannot be read: {problem}. HINT: a newer walferry may have written it; look at the object before you remove it"
            ),
        }
    }
}

impl fmt::Display for Untrusted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoMark => f.write_str("it was never compared with this bucket"),
            Self::OtherCatalog { found } => write!(f, "catalog {found} acted there last"),
            Self::Restored { bucket, catalog } => write!(
                f,
                "it was restored from the past: epoch {catalog}, the bucket has seen {bucket}"
            ),
            Self::NeverCompared => f.write_str("it has no record of a comparison"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn identity(id: u128, epoch: u64) -> Identity {
        Identity {
            id: Uuid::from_u128(id),
            epoch,
        }
    }

    #[track_caller]
    fn check(mark: Option<Identity>, compared: Option<Identity>, expected: Option<Untrusted>) {
        let mark = mark.map(|identity| CatalogMark {
            identity,
            written_at: DateTime::UNIX_EPOCH,
        });
        let judged = Untrusted::judge(&identity(1, 5), mark.as_ref(), compared.as_ref());
        assert_eq!(judged, expected);
    }

    #[test]
    fn only_a_catalog_that_was_compared_and_not_restored_is_trusted() {
        let same = Some(identity(1, 5));
        check(same, same, None);
        check(Some(identity(1, 4)), Some(identity(1, 4)), None);
        // Another bucket's run raised the epoch while this bucket was away.
        let behind = Untrusted::Restored {
            bucket: 4,
            catalog: 2,
        };
        check(Some(identity(1, 4)), Some(identity(1, 2)), Some(behind));
        check(None, same, Some(Untrusted::NoMark));
        check(same, None, Some(Untrusted::NeverCompared));
        check(same, Some(identity(2, 5)), Some(Untrusted::NeverCompared));
        let found = Uuid::from_u128(2);
        check(
            Some(identity(2, 1)),
            same,
            Some(Untrusted::OtherCatalog { found }),
        );
        let restored = Untrusted::Restored {
            bucket: 6,
            catalog: 5,
        };
        check(Some(identity(1, 6)), same, Some(restored));
    }

    #[test]
    fn ten_minutes_apart_are_accepted_and_one_second_more_is_not() {
        let ours = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        let limit = Duration::from_secs(600);
        for seconds in [-600, 0, 600] {
            assert!(clock(None, ours, ours + TimeDelta::seconds(seconds), limit).is_none());
        }
        for seconds in [-601, 601, 40_000_000] {
            let refusal = clock(None, ours, ours + TimeDelta::seconds(seconds), limit);
            let said = refusal
                .map(|refusal| refusal.to_string())
                .unwrap_or_default();
            assert!(
                said.contains("the catalog's") && said.contains("HINT:"),
                "{said}"
            );
        }
    }
}
