//! Files that PostgreSQL handed over, as a scan of a directory finds them.

use std::collections::HashMap;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;
use walferry_wal::WalFile;

use crate::error::CatalogError;
use crate::events;
use crate::ids::{ClusterId, DirectoryId, PrefixId};
use crate::repositories::texts;
use crate::rows::{self, Keep as _};

/// Rows per statement: locks are held briefly even when 100,000 files are new.
const BATCH: usize = 5000;

/// Seconds for which a scan that found nothing new need not be noted, so that an idle tick
/// writes nothing: half of the time after which `status` and `check` call a directory unknown.
const SCAN_IS_NEWS_AFTER: u32 = 450;

/// Which file of that name it is. Two files of one name differ in at least one of these.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct LocalStat {
    pub dev: u64,
    pub ino: u64,
    pub size: u64,
    pub mtime_ns: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeenFile {
    pub file: WalFile,
    pub stat: LocalStat,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NewFile {
    pub file: WalFile,
    pub stat: LocalStat,
    /// About when the segment was closed.
    pub mtime: DateTime<Utc>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Registered {
    /// Names that the catalog did not know.
    pub new: u64,
    /// Names that it knew: from another directory, handed over again, or changed on disk.
    pub again: u64,
}

/// What a scan found, for `status`.
#[derive(Debug, Clone)]
pub struct ScanReport {
    pub scanned_by: String,
    pub files: u64,
    pub bytes: u64,
    pub fs_total: u64,
    pub fs_available: u64,
    /// mtime of the newest file that was new in this scan.
    pub newest_arrival: Option<DateTime<Utc>>,
}

/// Indexes of those `seen` that are not registered exactly as they are now.
///
/// One query whatever the number: an idle scan of 100,000 files costs one round trip. The
/// comparison is made here, because how the database would join two lists of that length
/// hangs on statistics that a fresh catalog does not have.
pub async fn unknown(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
    seen: &[SeenFile],
) -> Result<Vec<usize>, CatalogError> {
    if seen.is_empty() {
        return Ok(Vec::new());
    }
    let known = live(conn, directory).await?;
    Ok(seen
        .iter()
        .enumerate()
        .filter(|(_, seen)| known.get(&seen.file) != Some(&seen.stat))
        .map(|(index, _)| index)
        .collect())
}

/// Files that the catalog believes to lie in `directory` and that are not in `present`, in
/// the order of WAL.
///
/// A candidate only: another worker may have registered it after `present` was listed. Look
/// at the disk again before `gone`.
pub async fn missing(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
    present: &[WalFile],
) -> Result<Vec<WalFile>, CatalogError> {
    let mut known = live(conn, directory).await?;
    for file in present {
        known.remove(file);
    }
    let mut missing: Vec<WalFile> = known.into_keys().collect();
    missing.sort();
    Ok(missing)
}

/// Makes files known, with a due copy per required repository, and claimable.
///
/// Harmless when repeated. A name that is known already keeps its row and what is verified:
/// only its place on disk is noted and it is made due, so that the pipeline compares the
/// content. A file that retention is deleting stays as it is; once its row is gone the next
/// scan registers it anew.
///
/// # Errors
/// Only the database's. After one, some batches of `files` may be registered.
pub async fn register(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    directory: DirectoryId,
    files: &[NewFile],
    required: &[RepositoryName],
) -> Result<Registered, CatalogError> {
    let mut registered = Registered::default();
    for batch in files.chunks(BATCH) {
        let batch = register_batch(conn, prefix, directory, batch, required).await?;
        registered.new += batch.new;
        registered.again += batch.again;
    }
    Ok(registered)
}

/// Notes that files are in the directory no more. Returns those that vanished before any
/// copy of them was verified; an event says so, for that is a hole in the archive.
pub async fn gone(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
    files: &[WalFile],
) -> Result<Vec<WalFile>, CatalogError> {
    if files.is_empty() {
        return Ok(Vec::new());
    }
    let names: Vec<String> = files.iter().map(ToString::to_string).collect();
    diesel::sql_query(
        "UPDATE local_files l SET deleted_at = clock_timestamp() FROM wal_files f \
          WHERE f.id = l.file_id AND l.directory_id = $1 AND l.deleted_at IS NULL \
            AND f.name = ANY ($2)",
    )
    .bind::<BigInt, _>(directory.0)
    .bind::<Array<Text>, _>(&names)
    .kept()
    .execute(conn)
    .await?;
    // Whoever holds a claim finds out when it releases it; for the others nothing is left to
    // do once every copy is there.
    diesel::sql_query(
        "UPDATE wal_files f SET due_at = NULL FROM local_files l \
          WHERE l.directory_id = $1 AND l.file_id = f.id AND f.name = ANY ($2) \
            AND f.claimed_by IS NULL AND f.due_at IS NOT NULL \
            AND NOT EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND c.state NOT IN ('verified', 'expiring') OFFSET 0) \
            AND NOT EXISTS (SELECT 1 FROM local_files o WHERE o.file_id = f.id \
                                AND coalesce(o.deleted_at, 'infinity') = 'infinity' OFFSET 0)",
    )
    .bind::<BigInt, _>(directory.0)
    .bind::<Array<Text>, _>(&names)
    .kept()
    .execute(conn)
    .await?;
    let vanished = diesel::sql_query(
        "SELECT f.name::text AS value FROM local_files l JOIN wal_files f ON f.id = l.file_id \
          WHERE l.directory_id = $1 AND f.name = ANY ($2) AND f.status = 'PENDING' \
            AND NOT EXISTS (SELECT 1 FROM local_files o WHERE o.file_id = f.id \
                                AND coalesce(o.deleted_at, 'infinity') = 'infinity' OFFSET 0) \
            AND NOT EXISTS (SELECT 1 FROM copies c WHERE c.file_id = f.id AND c.state = 'verified' OFFSET 0) \
          ORDER BY f.name",
    )
    .bind::<BigInt, _>(directory.0)
    .bind::<Array<Text>, _>(&names)
    .kept()
    .load::<rows::Value>(conn)
    .await?;
    let vanished: Vec<WalFile> = vanished
        .into_iter()
        .map(|row| rows::parse("file name", &row.value))
        .collect::<Result<_, _>>()?;
    let cluster = cluster_of(conn, directory).await?;
    for file in &vanished {
        events::record(
            conn,
            &events::NewEvent {
                severity: events::Severity::Critical,
                code: "vanished",
                cluster,
                message: format!("`{file}` vanished from its directory before it was archived"),
            },
        )
        .await?;
    }
    Ok(vanished)
}

/// Notes a scan and the directory's fill, if it differs from what is noted: by a file, a byte,
/// a hundredth of the file system, or because the noted one was long ago.
pub async fn touch_scan(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
    report: &ScanReport,
) -> Result<(), CatalogError> {
    diesel::sql_query(format!(
        "UPDATE directories SET last_scan_at = clock_timestamp(), last_scan_by = $2, files = $3, \
                bytes = $4, fs_total = $5, fs_available = $6, scan_error = NULL, \
                last_arrival_at = greatest(last_arrival_at, $7) \
          WHERE id = $1 \
            AND (files = $3 AND bytes = $4 AND fs_total = $5 AND abs(fs_available - $6) <= $5 / 100 \
                 AND last_arrival_at IS NOT DISTINCT FROM greatest(last_arrival_at, $7) AND scan_error IS NULL \
                 AND last_scan_at BETWEEN clock_timestamp() - interval '{SCAN_IS_NEWS_AFTER} s' \
                                      AND clock_timestamp()) IS NOT TRUE"
    ))
    .bind::<BigInt, _>(directory.0)
    .bind::<Text, _>(&report.scanned_by)
    .bind::<BigInt, _>(rows::bits(report.files))
    .bind::<BigInt, _>(rows::bits(report.bytes))
    .bind::<BigInt, _>(rows::bits(report.fs_total))
    .bind::<BigInt, _>(rows::bits(report.fs_available))
    .bind::<Nullable<Timestamptz>, _>(report.newest_arrival)
    .kept()
    .execute(conn)
    .await?;
    Ok(())
}

/// Notes that a directory could not be scanned, until a scan succeeds.
pub async fn scan_failed(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
    error: &str,
) -> Result<(), CatalogError> {
    diesel::sql_query("UPDATE directories SET scan_error = $2 WHERE id = $1")
        .bind::<BigInt, _>(directory.0)
        .bind::<Text, _>(error)
        .kept()
        .execute(conn)
        .await?;
    Ok(())
}

async fn register_batch(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    directory: DirectoryId,
    files: &[NewFile],
    required: &[RepositoryName],
) -> Result<Registered, CatalogError> {
    #[derive(QueryableByName)]
    struct Counts {
        #[diesel(sql_type = BigInt)]
        new: i64,
        #[diesel(sql_type = BigInt)]
        again: i64,
    }
    let columns = Columns::of(files.iter().map(|file| (&file.file, &file.stat)));
    let positions: Vec<Option<(i64, i64)>> =
        files.iter().map(|file| position(&file.file)).collect();
    // One statement, so a crash leaves a file with its copies and its place, or nothing.
    // Sorted by name: two scanners of one directory lock rows in the same order.
    let counts = diesel::sql_query(
        "WITH input AS ( \
            SELECT * FROM unnest($3::text[], $4::text[], $5::bigint[], $6::bigint[], $7::bigint[], \
                                 $8::bigint[], $9::bigint[], $10::bigint[], $11::bigint[], $12::timestamptz[]) \
                   AS i (name, kind, timeline, log, seg, dev, ino, size, mtime_ns, mtime)), \
         files AS ( \
            INSERT INTO wal_files AS f (prefix_id, name, kind, timeline, log, seg, mtime) \
            SELECT $1, name, kind, timeline, log, seg, mtime FROM input ORDER BY name COLLATE \"C\" \
            ON CONFLICT (prefix_id, name) DO UPDATE SET \
               due_at = CASE WHEN f.status = 'EXPIRING' THEN f.due_at \
                             ELSE least(f.due_at, clock_timestamp()) END, \
               parked = false \
            RETURNING f.id, f.name, f.status, (xmax = 0) AS new), \
         due AS ( \
            INSERT INTO copies (file_id, repository) \
            SELECT f.id, r.name FROM files f CROSS JOIN unnest($13::text[]) AS r (name) \
             WHERE f.status = 'PENDING' ORDER BY f.id, r.name \
            ON CONFLICT DO NOTHING), \
         places AS ( \
            INSERT INTO local_files AS l (file_id, directory_id, dev, ino, size, mtime_ns) \
            SELECT f.id, $2, i.dev, i.ino, i.size, i.mtime_ns FROM files f JOIN input i ON i.name = f.name \
             ORDER BY f.id \
            ON CONFLICT (file_id, directory_id) DO UPDATE SET \
               dev = excluded.dev, ino = excluded.ino, size = excluded.size, mtime_ns = excluded.mtime_ns, \
               seen_at = clock_timestamp(), deleted_at = NULL, quarantined_at = NULL) \
         SELECT count(*) FILTER (WHERE new) AS new, count(*) FILTER (WHERE NOT new) AS again FROM files",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<BigInt, _>(directory.0)
    .bind::<Array<Text>, _>(columns.names)
    .bind::<Array<Text>, _>(files.iter().map(|file| file.file.kind().as_str()).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(files.iter().map(|file| i64::from(file.file.timeline().get())).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(positions.iter().map(|at| at.map(|at| at.0)).collect::<Vec<_>>())
    .bind::<Array<Nullable<BigInt>>, _>(positions.iter().map(|at| at.map(|at| at.1)).collect::<Vec<_>>())
    .bind::<Array<BigInt>, _>(columns.dev)
    .bind::<Array<BigInt>, _>(columns.ino)
    .bind::<Array<BigInt>, _>(columns.size)
    .bind::<Array<BigInt>, _>(columns.mtime_ns)
    .bind::<Array<Timestamptz>, _>(files.iter().map(|file| file.mtime).collect::<Vec<_>>())
    .bind::<Array<Text>, _>(texts(required))
    .kept()
    .get_result::<Counts>(conn)
    .await?;
    Ok(Registered {
        new: rows::count("count", counts.new)?,
        again: rows::count("count", counts.again)?,
    })
}

/// The middle and the last eight digits of a segment's name.
pub(crate) fn position(file: &WalFile) -> Option<(i64, i64)> {
    let name = file.segment()?.to_string();
    let digits = |range| {
        name.get(range)
            .and_then(|digits| i64::from_str_radix(digits, 16).ok())
    };
    Some((digits(8..16)?, digits(16..24)?))
}

async fn cluster_of(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
) -> Result<Option<ClusterId>, CatalogError> {
    let rows = diesel::sql_query("SELECT cluster_id AS id FROM directories WHERE id = $1")
        .bind::<BigInt, _>(directory.0)
        .kept()
        .load::<rows::Id>(conn)
        .await?;
    Ok(rows.into_iter().next().map(|row| ClusterId(row.id)))
}

/// What the catalog believes to lie in a directory.
async fn live(
    conn: &mut AsyncPgConnection,
    directory: DirectoryId,
) -> Result<HashMap<WalFile, LocalStat>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(embed)]
        stat: StatRow,
    }
    diesel::sql_query(format!(
        "SELECT f.name::text AS name, {STAT_COLUMNS} \
           FROM local_files l JOIN wal_files f ON f.id = l.file_id \
          WHERE l.directory_id = $1 AND l.deleted_at IS NULL"
    ))
    .bind::<BigInt, _>(directory.0)
    .kept()
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| Ok((rows::parse("file name", &row.name)?, row.stat.parse())))
    .collect()
}

/// Columns of `StatRow`; the table's alias is `l`.
pub(crate) const STAT_COLUMNS: &str = "l.dev, l.ino, l.size, l.mtime_ns";

#[derive(QueryableByName)]
pub(crate) struct StatRow {
    #[diesel(sql_type = BigInt)]
    dev: i64,
    #[diesel(sql_type = BigInt)]
    ino: i64,
    #[diesel(sql_type = BigInt)]
    size: i64,
    #[diesel(sql_type = BigInt)]
    mtime_ns: i64,
}

impl StatRow {
    pub(crate) fn parse(self) -> LocalStat {
        LocalStat {
            dev: self.dev.cast_unsigned(),
            ino: self.ino.cast_unsigned(),
            size: self.size.cast_unsigned(),
            mtime_ns: self.mtime_ns,
        }
    }
}

/// Names and stats, column by column, as array binds want them.
#[derive(Default)]
struct Columns {
    names: Vec<String>,
    dev: Vec<i64>,
    ino: Vec<i64>,
    size: Vec<i64>,
    mtime_ns: Vec<i64>,
}

impl Columns {
    fn of<'a>(files: impl Iterator<Item = (&'a WalFile, &'a LocalStat)>) -> Self {
        let mut columns = Self::default();
        for (file, stat) in files {
            columns.names.push(file.to_string());
            columns.dev.push(rows::bits(stat.dev));
            columns.ino.push(rows::bits(stat.ino));
            columns.size.push(rows::bits(stat.size));
            columns.mtime_ns.push(stat.mtime_ns);
        }
        columns
    }
}
