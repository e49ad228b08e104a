//! Scan a directory, examine what is new, write rows.
//!
//! Idempotent: what is registered as it lies there is passed over, so that any number of
//! workers may scan one directory at once.

use std::{
    collections::{BTreeMap, HashSet},
    path::PathBuf,
    str::FromStr as _,
};

use chrono::{DateTime, Utc};
use walferry_catalog::{
    CatalogError, DirectoryId, PrefixId, clusters, events,
    intake::{self, LocalStat, NewFile, ScanReport, SeenFile},
    suspects::{self, NewSuspect},
};
use walferry_killpoint::kill_point;
use walferry_spool::{
    Content, Directory, FileId, InspectError, OpenError, ReadError, Suspicion, Usage,
};
use walferry_wal::{NameError, SegmentSize, SystemId, WalFile};

use crate::{
    archiver::{Archiver, Served, ServedDirectory},
    systems::Systems,
};

/// Files that are examined and registered with one statement.
const BATCH: usize = 500;

/// Which files of a directory are wanted, by name; both ends included.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Range {
    from: Option<String>,
    to: Option<String>,
}

impl Range {
    /// A range between two WAL file names.
    ///
    /// # Errors
    /// When one is no WAL file name.
    pub fn parse(from: Option<&str>, to: Option<&str>) -> Result<Self, NameError> {
        let name = |text: Option<&str>| {
            text.map(|text| WalFile::from_str(text).map(|file| file.to_string()))
                .transpose()
        };
        Ok(Self {
            from: name(from)?,
            to: name(to)?,
        })
    }

    fn has(&self, file: &WalFile) -> bool {
        let name = file.to_string();
        self.from.as_ref().is_none_or(|from| name >= *from)
            && self.to.as_ref().is_none_or(|to| name <= *to)
    }
}

/// A directory could not be registered.
#[derive(Debug, thiserror::Error)]
pub enum RegisterError {
    /// The directory is not there or cannot be read.
    #[error("scan directory `{}`", path.display())]
    Scan {
        /// Which directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<dyn std::error::Error + Send + Sync>,
    },
    /// The catalog failed.
    #[error(transparent)]
    Catalog(#[from] CatalogError),
}

impl Archiver {
    /// Registers what is new in every directory of `cluster`.
    ///
    /// # Errors
    /// The first directory's that failed; the others were registered all the same.
    pub async fn register(&self, cluster: &Served) -> Result<(), RegisterError> {
        let mut outcome = Ok(());
        for directory in &cluster.directories {
            let Err(error) = self.register_directory(cluster, directory).await else {
                continue;
            };
            if matches!(error, RegisterError::Scan { .. }) {
                // The error itself goes on to the job, whether the catalog takes it or not.
                let _ = self.scan_failed(directory, &error).await;
            }
            if outcome.is_ok() {
                outcome = Err(error);
            }
        }
        outcome
    }

    /// Tells it to `status`, `check` and the metrics, which look into the catalog only.
    async fn scan_failed(
        &self,
        directory: &ServedDirectory,
        error: &RegisterError,
    ) -> Result<(), CatalogError> {
        let mut conn = self.0.catalog.get().await?;
        intake::scan_failed(&mut conn, directory.id, &crate::copied::chain(error)).await
    }

    async fn register_directory(
        &self,
        cluster: &Served,
        served: &ServedDirectory,
    ) -> Result<(), RegisterError> {
        let path = served.path.clone();
        let scanned = on_a_thread(served, move || {
            let directory = Directory::open(&path)?;
            let entries = walferry_spool::scan(&directory)?;
            Ok((entries, walferry_spool::usage(&directory)?))
        })
        .await?;
        let (entries, usage) = scanned;
        let mut found = Found::default();
        let mut seen = Vec::new();
        for entry in entries {
            match entry.file {
                Ok(file) if cluster.range.has(&file) => seen.push((file, entry.stat)),
                Ok(_) => {}
                Err(suspicion) => found.suspect(printable(&entry.name), &suspicion),
            }
        }
        let mut conn = self.0.catalog.get().await?;
        let wanted: Vec<SeenFile> = seen
            .iter()
            .map(|(file, stat)| SeenFile {
                file: *file,
                stat: local_stat(stat),
            })
            .collect();
        let unknown = intake::unknown(&mut conn, served.id, &wanted).await?;
        let mut fresh: Vec<WalFile> = unknown.into_iter().map(|at| seen[at].0).collect();
        // History first: whoever is interrupted here has registered what orders the rest.
        fresh.sort_unstable();
        for batch in fresh.chunks(BATCH) {
            self.register_batch(cluster, served, batch, &mut found)
                .await?;
        }
        let missing = intake::missing(&mut conn, served.id, &seen_names(&seen)).await?;
        drop(conn);
        self.confirm_gone(cluster, served, missing).await?;
        self.report_scan(served, &usage, &seen, found).await
    }

    /// Examines files and registers those that are what their names say.
    async fn register_batch(
        &self,
        cluster: &Served,
        served: &ServedDirectory,
        batch: &[WalFile],
        found: &mut Found,
    ) -> Result<(), RegisterError> {
        let mut conn = self.0.catalog.get().await?;
        let prefixes = clusters::prefixes(&mut conn, cluster.id).await?;
        drop(conn);
        let Some(mut systems) = Systems::of(&prefixes) else {
            return Ok(());
        };
        let (path, files) = (served.path.clone(), batch.to_vec());
        let examined = on_a_thread(served, move || {
            let directory = Directory::open(&path)?;
            Ok(examine(&directory, &files))
        })
        .await?;
        let mut identity = None;
        let mut fresh: BTreeMap<PrefixId, Vec<NewFile>> = BTreeMap::new();
        for (file, outcome) in examined {
            match outcome {
                Ok((stat, pages)) => {
                    let prefix = match pages {
                        Some((system, size)) => systems.place(system, size),
                        None => Ok(systems.place_unsigned()),
                    };
                    let prefix = match prefix {
                        Ok(prefix) => prefix,
                        Err(suspicion) => {
                            found.suspect(file.to_string(), &suspicion);
                            continue;
                        }
                    };
                    if systems.is_open(prefix) {
                        identity = identity.or(pages);
                    }
                    fresh.entry(prefix).or_default().push(NewFile {
                        file,
                        stat: local_stat(&stat),
                        mtime: time(stat.mtime_ns),
                    });
                }
                Err(InspectError::Open(OpenError::Gone { .. })) => {}
                Err(error) => match error.suspicion() {
                    Some(suspicion) => found.suspect(file.to_string(), suspicion),
                    None => {
                        tracing::warn!(segment.name = %file, directory.path = %served.path.display(),
                            error = &error as &dyn std::error::Error, "the file could not be examined");
                        found.unreadable(file.to_string(), &error);
                    }
                },
            }
        }
        let mut conn = self.0.catalog.get().await?;
        for prefix in prefixes.iter().filter(|prefix| systems.is_open(prefix.id)) {
            if let (None, Some((system, size))) = (prefix.system_id, identity) {
                kill_point!("register.identity.before");
                clusters::set_identity(&mut conn, prefix.id, system, size).await?;
                kill_point!("register.identity.after");
            }
        }
        for (prefix, files) in fresh {
            let required = self.required();
            kill_point!("register.commit.before");
            let registered =
                intake::register(&mut conn, prefix, served.id, &files, &required).await?;
            kill_point!("register.commit.after");
            tracing::debug!(
                cluster.name,
                new = registered.new,
                again = registered.again,
                "registered"
            );
        }
        Ok(())
    }

    /// A file that is registered and was not in the listing may have come back since.
    async fn confirm_gone(
        &self,
        cluster: &Served,
        served: &ServedDirectory,
        missing: Vec<WalFile>,
    ) -> Result<(), RegisterError> {
        let missing: Vec<WalFile> = missing
            .into_iter()
            .filter(|file| cluster.range.has(file))
            .collect();
        if missing.is_empty() {
            return Ok(());
        }
        let path = served.path.clone();
        let gone = tokio::task::spawn_blocking(move || {
            missing
                .into_iter()
                .filter(|file| {
                    path.join(file.to_string())
                        .symlink_metadata()
                        .is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
                })
                .collect::<Vec<_>>()
        })
        .await
        .map_err(|error| scan_error(served, Box::new(error)))?;
        if gone.is_empty() {
            return Ok(());
        }
        let mut conn = self.0.catalog.get().await?;
        kill_point!("register-gone.commit.before");
        for lost in intake::gone(&mut conn, served.id, &gone).await? {
            tracing::error!(segment.name = %lost, directory.path = %served.path.display(),
                "the file vanished before any copy of it was verified. HINT: whoever cleans this directory destroys the archive; \
                 if PostgreSQL still has the segment in pg_wal, hand it over again");
        }
        Ok(())
    }

    async fn report_scan(
        &self,
        served: &ServedDirectory,
        usage: &Usage,
        seen: &[(WalFile, FileId)],
        found: Found,
    ) -> Result<(), RegisterError> {
        let mut conn = self.0.catalog.get().await?;
        if !found.suspects.is_empty() {
            suspects::report(&mut conn, served.id, &found.suspects).await?;
            kill_point!("register-suspect.commit.after");
        }
        let still: Vec<String> = found
            .suspects
            .iter()
            .map(|suspect| suspect.name.clone())
            .collect();
        suspects::keep_only(&mut conn, served.id, &still).await?;
        let newest = seen.iter().map(|(_, stat)| stat.mtime_ns).max().map(time);
        intake::touch_scan(
            &mut conn,
            served.id,
            &ScanReport {
                scanned_by: self.0.settings.worker.clone(),
                files: usage.files,
                bytes: usage.bytes,
                fs_total: usage.fs_total,
                fs_available: usage.fs_available,
                newest_arrival: newest,
            },
        )
        .await?;
        kill_point!("register.scan.after");
        Ok(())
    }

    pub(crate) async fn critical(
        &self,
        cluster: walferry_catalog::ClusterId,
        code: &'static str,
        message: String,
    ) -> Result<(), CatalogError> {
        let mut conn = self.0.catalog.get().await?;
        events::record(
            &mut conn,
            &events::NewEvent {
                severity: events::Severity::Critical,
                code,
                cluster: Some(cluster),
                message,
            },
        )
        .await
    }
}

const CHANGING: &str = "somebody writes to it: when no copy is under way any more, `walferry quarantine move` puts it aside and PostgreSQL can hand it over again";
const IO: &str =
    "the file system failed, not the file: look into the kernel's log; the next scan tries again";

#[derive(Default)]
struct Found {
    suspects: Vec<NewSuspect>,
}

impl Found {
    fn suspect(&mut self, name: String, suspicion: &Suspicion) {
        self.suspects.push(NewSuspect {
            name,
            reason_code: suspicion.code().to_owned(),
            reason: format!("{suspicion}. HINT: {}", suspicion.hint()),
            critical: !suspicion.transient(),
        });
    }

    fn unreadable(&mut self, name: String, error: &InspectError) {
        // Whoever is copying it is seen at work: "not yet", as for a file that is short.
        let (code, hint, critical) = match error {
            InspectError::Read(ReadError::Changed { .. }) => ("changing", CHANGING, false),
            InspectError::Read(ReadError::TooLarge { .. } | ReadError::Io { .. })
            | InspectError::Open(
                OpenError::Suspicious { .. } | OpenError::Gone { .. } | OpenError::Io { .. },
            ) => ("io", IO, true),
        };
        self.suspects.push(NewSuspect {
            name,
            reason_code: code.to_owned(),
            reason: format!("{}. HINT: {hint}", crate::copied::chain(error)),
            critical,
        });
    }
}

type Examined = Result<(FileId, Option<(SystemId, SegmentSize)>), InspectError>;

fn examine(directory: &Directory, files: &[WalFile]) -> Vec<(WalFile, Examined)> {
    let mut examined = Vec::with_capacity(files.len());
    for file in files {
        // Whose it is decides where it belongs, and is asked for when all are examined.
        let outcome = walferry_spool::inspect(directory, file, None).map(|inspected| {
            let pages = match inspected.content {
                Content::Pages {
                    header,
                    unknown_magic,
                } => {
                    if let Some(magic) = unknown_magic {
                        tracing::warn!(segment.name = %file, magic = format!("{:04X}", magic.0),
                            "pages of an unknown PostgreSQL version; archived all the same");
                    }
                    Some((header.system_id, header.segment_size))
                }
                Content::History(_) | Content::Label(_) => None,
            };
            (*inspected.file.id(), pages)
        });
        examined.push((*file, outcome));
    }
    examined
}

async fn on_a_thread<T: Send + 'static>(
    served: &ServedDirectory,
    work: impl FnOnce() -> Result<T, Box<dyn std::error::Error + Send + Sync>> + Send + 'static,
) -> Result<T, RegisterError> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|error| scan_error(served, Box::new(error)))?
        .map_err(|error| scan_error(served, error))
}

fn scan_error(
    served: &ServedDirectory,
    source: Box<dyn std::error::Error + Send + Sync>,
) -> RegisterError {
    RegisterError::Scan {
        path: served.path.clone(),
        source,
    }
}

fn seen_names(seen: &[(WalFile, FileId)]) -> Vec<WalFile> {
    let names: HashSet<WalFile> = seen.iter().map(|(file, _)| *file).collect();
    names.into_iter().collect()
}

fn local_stat(id: &FileId) -> LocalStat {
    LocalStat {
        dev: id.dev,
        ino: id.ino,
        size: id.size,
        mtime_ns: id.mtime_ns,
    }
}

/// A name may hold anything but `/`: control characters and bad UTF-8 are escaped.
fn printable(name: &std::ffi::OsStr) -> String {
    match name.to_str() {
        Some(name) if !name.chars().any(char::is_control) => name.to_owned(),
        _ => name.as_encoded_bytes().escape_ascii().to_string(),
    }
}

fn time(mtime_ns: i64) -> DateTime<Utc> {
    DateTime::from_timestamp_nanos(mtime_ns)
}

/// The rows of the directories that are served.
#[must_use]
pub fn directory_ids(cluster: &Served) -> Vec<DirectoryId> {
    cluster
        .directories
        .iter()
        .map(|directory| directory.id)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_range_has_both_its_ends_and_refuses_what_is_no_wal_name() {
        let range = Range::parse(
            Some("000000010000000000000002"),
            Some("000000010000000000000004"),
        )
        .expect("both are names");
        let has = |name: &str| range.has(&name.parse().expect("a name"));
        assert!(!has("000000010000000000000001"));
        assert!(has("000000010000000000000002"));
        assert!(has("000000010000000000000004"));
        assert!(!has("000000010000000000000005"));
        assert!(Range::parse(Some("../etc/passwd"), None).is_err());
    }

    #[test]
    fn a_file_that_changes_while_it_is_looked_at_is_not_yet_and_a_failing_disk_an_error_at_once() {
        let file: WalFile = "00000002.history".parse().expect("a name");
        let changed = ReadError::Changed { file };
        let broken = ReadError::Io {
            file,
            source: std::io::Error::other("input/output error"),
        };
        for (error, code, critical, why) in [
            (changed, "changing", false, "changed while it was read"),
            (broken, "io", true, "input/output error"),
        ] {
            let mut found = Found::default();
            found.unreadable(file.to_string(), &InspectError::Read(error));
            let suspect = &found.suspects[0];
            assert_eq!(
                (suspect.reason_code.as_str(), suspect.critical),
                (code, critical)
            );
            assert!(suspect.reason.contains(why), "{}", suspect.reason);
            assert!(suspect.reason.contains(". HINT: "), "{}", suspect.reason);
        }
    }
}
