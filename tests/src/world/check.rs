//! What must be true of a world: everything archived, nothing left claimed.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{World, build};
use crate::environment;
use crate::process::shell_code;

/// A row of the relation `backups`, as the old system had it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Backup {
    /// `VERIFIED` or another status.
    pub status: String,
    /// Empty once the local file is deleted.
    pub local_path: String,
    /// Key in R2, while verified there.
    pub r2_path: Option<String>,
    /// Key in B2, while verified there.
    pub b2_path: Option<String>,
    /// 64 hex digits.
    pub checksum: Option<String>,
}

impl World {
    /// Waits until everything handed over is VERIFIED and deleted locally, then
    /// compares both clouds byte for byte.
    #[track_caller]
    pub fn await_archived(&self) {
        self.await_archived_within(Duration::from_secs(120));
    }

    /// The same with a deadline of one's own.
    #[track_caller]
    pub fn await_archived_within(&self, deadline: Duration) {
        self.await_verified_within(deadline);
        let names = self.originals().names();
        crate::eventually("the local files are deleted", || {
            let left: Vec<_> = self
                .archived_files()
                .into_iter()
                .filter(|name| names.contains(name))
                .collect();
            crate::wait::is(left.is_empty(), left)
        });
        self.compare_clouds();
    }

    /// Waits until everything handed over is VERIFIED.
    #[track_caller]
    pub fn await_verified_within(&self, deadline: Duration) {
        let names = self.originals().names();
        assert!(
            !names.is_empty(),
            "nothing was handed over: nothing would be awaited"
        );
        crate::eventually_within(deadline, "everything handed over is VERIFIED", || {
            let backups = self.backups();
            let (mut missing, mut waiting) = (Vec::new(), Vec::new());
            for name in &names {
                match backups.get(name) {
                    Some(backup) if backup.status == "VERIFIED" => {}
                    Some(backup) => waiting.push((name.clone(), backup.clone())),
                    None => missing.push(name.clone()),
                }
            }
            if missing.is_empty() && waiting.is_empty() {
                return Ok(());
            }
            Err(format!(
                "of {}: {} not in the catalog, such as {:?}; {} not verified, such as {:?}",
                names.len(),
                missing.len(),
                missing.first(),
                waiting.len(),
                waiting.first()
            ))
        });
    }

    /// Compares every cloud with what was handed over, byte for byte.
    #[track_caller]
    pub fn compare_clouds(&self) {
        assert!(
            !self.clouds().is_empty(),
            "the world has no cloud to compare"
        );
        for cloud in self.clouds() {
            self.originals()
                .compare(cloud.bucket(), "wal/")
                .unwrap_or_else(|wrong| panic!("{}: {wrong}", cloud.name()));
        }
    }

    /// The relation `backups`, by file name without `.gz`.
    #[track_caller]
    pub fn backups(&self) -> BTreeMap<String, Backup> {
        self.rows("SELECT filename, status, local_path, r2_path, b2_path, checksum FROM backups")
            .into_iter()
            .map(|row| {
                let mut columns = row.into_iter();
                let mut next = || columns.next().flatten();
                let filename = next().unwrap_or_default();
                let backup = Backup {
                    status: next().unwrap_or_default(),
                    local_path: next().unwrap_or_default(),
                    r2_path: next(),
                    b2_path: next(),
                    checksum: next(),
                };
                (filename.trim_end_matches(".gz").to_owned(), backup)
            })
            .collect()
    }

    /// Fails unless each object was written once, whole, to each cloud: no
    /// segment was processed twice.
    #[track_caller]
    pub fn assert_written_once(&self) {
        for cloud in self.clouds() {
            let writes = cloud.proxy().writes();
            for name in self.originals().names() {
                let key = format!("wal/{name}.gz");
                assert_eq!(
                    writes.get(&key),
                    Some(&1),
                    "PUTs of {key} to {}",
                    cloud.name()
                );
            }
        }
    }

    /// What is claimed in catalog and queue now, as text; nothing when nothing is.
    pub fn leftover_claims(&self) -> Option<String> {
        let mut left = Vec::new();
        if let Some(catalog) = &self.catalog {
            let claimed = catalog.try_query_in(
                build::CATALOG,
                "SELECT name, claimed_by FROM wal_files WHERE lease_until > clock_timestamp() LIMIT 10",
            );
            // A test that stopped the catalog, or never migrated it, has no claims there.
            for row in claimed.unwrap_or_default() {
                left.push(format!("catalog: {row:?}"));
            }
        }
        if let Some(redis) = self.redis.as_ref().filter(|redis| redis.is_running()) {
            for key in redis.strings(&["KEYS", "*:leased"]) {
                let members = redis.strings(&["ZRANGE", &key, "0", "-1"]);
                left.extend(
                    members
                        .into_iter()
                        .map(|member| format!("Redis {key}: {member}")),
                );
            }
        }
        (!left.is_empty()).then(|| left.join("; "))
    }

    fn end_programs(&self) -> Result<(), String> {
        let programs = self.programs.borrow();
        let running: Vec<_> = programs
            .iter()
            .filter(|program| program.running())
            .collect();
        for program in &running {
            program.thaw();
            program.terminate();
        }
        for program in running {
            let status = program.process().wait_within(Duration::from_secs(60));
            if shell_code(status) != 0 {
                return Err(format!(
                    "{} ended with {status} after SIGTERM:\n{}",
                    program.name(),
                    program.process().report(40)
                ));
            }
        }
        Ok(())
    }

    fn print_logs(&self) {
        eprintln!(
            "=== the world of the failed test: {} ===",
            self.folder().display()
        );
        for program in self.programs.borrow().iter() {
            eprintln!("{}", program.process().report(80));
        }
        for cloud in &self.clouds {
            eprintln!("{}", cloud.report(5));
        }
        if let Some(catalog) = &self.catalog {
            eprintln!("{}", catalog.report(15));
        }
        if let Some(redis) = &self.redis {
            eprintln!("{}", redis.report(5));
        }
    }

    /// Keeps whole logs where the next run does not remove them.
    fn save_logs(&self) {
        let test = std::thread::current()
            .name()
            .unwrap_or("unnamed")
            .replace("::", ".");
        let target = environment::target().join("test-failures").join(test);
        let _ = std::fs::create_dir_all(&target);
        for entry in std::fs::read_dir(self.folder().join("logs"))
            .into_iter()
            .flatten()
            .flatten()
        {
            let _ = std::fs::copy(entry.path(), target.join(entry.file_name()));
        }
        eprintln!("=== whole logs: {} ===", target.display());
    }
}

impl Drop for World {
    fn drop(&mut self) {
        if !std::thread::panicking() && !self.leftover_claims {
            let wrong = match self.end_programs() {
                Err(wrong) => Some(wrong),
                Ok(()) => self
                    .leftover_claims()
                    .map(|left| format!("left claimed: {left}")),
            };
            if let Some(wrong) = wrong {
                self.print_logs();
                self.save_logs();
                panic!("the world did not end well: {wrong}");
            }
        }
        if std::thread::panicking() && !crate::wait::interrupted() {
            self.print_logs();
            self.save_logs();
            if environment::keep_failed() {
                self.scratch.keep();
            }
        }
    }
}
