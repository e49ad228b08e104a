//! Clusters, the prefixes they archive into, and the directories they hand over through.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Nullable, Text, Timestamptz};
use diesel_async::{AsyncConnection as _, AsyncPgConnection, RunQueryDsl};
use walferry_proof::KeyPrefix;
use walferry_wal::{SegmentSize, SystemId};

use crate::error::CatalogError;
use crate::ids::{ClusterId, DirectoryId, PrefixId};
use crate::rows::{self, Keep as _};

/// Serialises whoever opens a prefix: two clusters must not open overlapping ones at once.
const PREFIX_LOCK: i64 = 0x7072_6566_6978;

#[derive(Debug, Clone)]
pub struct Cluster {
    pub id: ClusterId,
    pub name: String,
    /// The one that is archived into now.
    pub prefix: Prefix,
}

/// Where one PostgreSQL system's files are: identity is cluster, system id, timeline, name.
#[derive(Debug, Clone)]
pub struct Prefix {
    pub id: PrefixId,
    pub cluster: ClusterId,
    pub key_prefix: KeyPrefix,
    /// Unknown until the first segment was read.
    pub system_id: Option<SystemId>,
    pub segment_size: Option<SegmentSize>,
    pub opened_at: DateTime<Utc>,
    pub closed_at: Option<DateTime<Utc>>,
}

/// A directory that files are handed over through, as it was last scanned.
#[derive(Debug, Clone)]
pub struct DirectoryRow {
    pub id: DirectoryId,
    pub cluster: ClusterId,
    pub name: String,
    pub path: String,
    pub last_scan_at: Option<DateTime<Utc>>,
    pub last_scan_by: Option<String>,
    pub last_arrival_at: Option<DateTime<Utc>>,
    pub files: Option<u64>,
    pub bytes: Option<u64>,
    pub fs_total: Option<u64>,
    pub fs_available: Option<u64>,
    /// Why the last scan failed; what the one before it found is out of date.
    pub scan_error: Option<String>,
}

/// The cluster and its open prefix; both are made when the name is new.
///
/// `first_prefix` is what the configuration says. After `cluster upgrade` the open prefix is
/// another one, and the configured one is among the closed.
///
/// # Errors
/// `PrefixDiffers` when the cluster never had `first_prefix`, `PrefixTaken` when another
/// cluster has it or one around or inside it.
pub async fn ensure_cluster(
    conn: &mut AsyncPgConnection,
    name: &str,
    first_prefix: &KeyPrefix,
) -> Result<Cluster, CatalogError> {
    conn.transaction(async |conn| {
        lock_prefixes(conn).await?;
        let id = diesel::sql_query(
            "WITH made AS (INSERT INTO clusters (name) VALUES ($1) ON CONFLICT (name) DO NOTHING RETURNING id) \
             SELECT id FROM made UNION ALL SELECT id FROM clusters WHERE name = $1",
        )
        .bind::<Text, _>(name)
        .kept()
        .get_result::<rows::Id>(conn)
        .await?;
        let cluster = ClusterId(id.id);
        let prefixes = prefixes(conn, cluster).await?;
        let open = match prefixes.iter().find(|prefix| prefix.closed_at.is_none()) {
            None => open_prefix(conn, cluster, first_prefix).await?,
            Some(open) if prefixes.iter().any(|known| known.key_prefix == *first_prefix) => {
                open.clone()
            }
            Some(open) => {
                return Err(CatalogError::PrefixDiffers {
                    cluster: name.to_owned(),
                    open: open.key_prefix.clone(),
                    configured: first_prefix.clone(),
                });
            }
        };
        Ok(Cluster {
            id: cluster,
            name: name.to_owned(),
            prefix: open,
        })
    })
    .await
}

/// Every cluster with its open prefix, by name.
pub async fn clusters(conn: &mut AsyncPgConnection) -> Result<Vec<Cluster>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(embed)]
        prefix: PrefixRow,
    }
    diesel::sql_query(format!(
        "SELECT c.name, {PREFIX_COLUMNS} FROM clusters c JOIN prefixes p ON p.cluster_id = c.id \
          WHERE p.closed_at IS NULL ORDER BY c.name"
    ))
    .kept()
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(|row| {
        let prefix = row.prefix.parse()?;
        Ok(Cluster {
            id: prefix.cluster,
            name: row.name,
            prefix,
        })
    })
    .collect()
}

/// Every prefix of a cluster, oldest first.
pub async fn prefixes(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
) -> Result<Vec<Prefix>, CatalogError> {
    diesel::sql_query(format!(
        "SELECT {PREFIX_COLUMNS} FROM prefixes p WHERE p.cluster_id = $1 ORDER BY p.id"
    ))
    .bind::<BigInt, _>(cluster.0)
    .kept()
    .load::<PrefixRow>(conn)
    .await?
    .into_iter()
    .map(PrefixRow::parse)
    .collect()
}

/// Records which system archives into a prefix. The first one wins.
///
/// # Errors
/// `SystemMismatch` or `SegmentSizeMismatch` when the prefix belongs to another,
/// `SystemElsewhere` when the system has another prefix of the same cluster: one archive is
/// never split over two.
pub async fn set_identity(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    system: SystemId,
    segment_size: SegmentSize,
) -> Result<(), CatalogError> {
    let elsewhere = diesel::sql_query(format!(
        "SELECT {PREFIX_COLUMNS} FROM prefixes p JOIN prefixes own ON own.cluster_id = p.cluster_id \
          WHERE own.id = $1 AND p.id <> $1 AND p.system_id = $2::numeric"
    ))
    .bind::<BigInt, _>(prefix.0)
    .bind::<Text, _>(system.to_string())
    .kept()
    .load::<PrefixRow>(conn)
    .await?;
    if let Some(elsewhere) = elsewhere.into_iter().next() {
        return Err(CatalogError::SystemElsewhere {
            system,
            prefix: elsewhere.parse()?.key_prefix,
        });
    }
    // `coalesce` lets only the first writer set a value, also when two race: the second
    // waits for the row and then sees the first's.
    let now = diesel::sql_query(format!(
        "UPDATE prefixes p SET system_id = coalesce(p.system_id, $2::numeric), \
                segment_size = coalesce(p.segment_size, $3) \
          WHERE p.id = $1 RETURNING {PREFIX_COLUMNS}"
    ))
    .bind::<BigInt, _>(prefix.0)
    .bind::<Text, _>(system.to_string())
    .bind::<BigInt, _>(rows::bits(segment_size.bytes()))
    .kept()
    .load::<PrefixRow>(conn)
    .await?
    .into_iter()
    .next()
    .ok_or_else(|| unknown("prefix", prefix))?
    .parse()?;
    match (now.system_id, now.segment_size) {
        (Some(recorded), _) if recorded != system => Err(CatalogError::SystemMismatch {
            prefix: now.key_prefix,
            recorded,
            found: system,
        }),
        (_, Some(recorded)) if recorded != segment_size => Err(CatalogError::SegmentSizeMismatch {
            prefix: now.key_prefix,
            recorded: recorded.bytes(),
            found: segment_size.bytes(),
        }),
        _ => Ok(()),
    }
}

/// `cluster upgrade`: closes the open prefix, whose files stay restorable, and opens `next`.
///
/// # Errors
/// `PrefixTaken` when `next` was ever used, or lies around or inside a used one.
pub async fn open_next_prefix(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
    next: &KeyPrefix,
) -> Result<Prefix, CatalogError> {
    conn.transaction(async |conn| {
        lock_prefixes(conn).await?;
        diesel::sql_query(
            "UPDATE prefixes SET closed_at = clock_timestamp() \
              WHERE cluster_id = $1 AND closed_at IS NULL",
        )
        .bind::<BigInt, _>(cluster.0)
        .kept()
        .execute(conn)
        .await?;
        open_prefix(conn, cluster, next).await
    })
    .await
}

/// The directory's id; its path follows the configuration.
pub async fn ensure_directory(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
    name: &str,
    path: &str,
) -> Result<DirectoryId, CatalogError> {
    let row = diesel::sql_query(
        "INSERT INTO directories (cluster_id, name, path) VALUES ($1, $2, $3) \
         ON CONFLICT (cluster_id, name) DO UPDATE SET path = excluded.path RETURNING id",
    )
    .bind::<BigInt, _>(cluster.0)
    .bind::<Text, _>(name)
    .bind::<Text, _>(path)
    .kept()
    .get_result::<rows::Id>(conn)
    .await?;
    Ok(DirectoryId(row.id))
}

/// The directories of one cluster, or of all.
pub async fn directories(
    conn: &mut AsyncPgConnection,
    cluster: Option<ClusterId>,
) -> Result<Vec<DirectoryRow>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        id: i64,
        #[diesel(sql_type = BigInt)]
        cluster_id: i64,
        #[diesel(sql_type = Text)]
        name: String,
        #[diesel(sql_type = Text)]
        path: String,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        last_scan_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<Text>)]
        last_scan_by: Option<String>,
        #[diesel(sql_type = Nullable<Timestamptz>)]
        last_arrival_at: Option<DateTime<Utc>>,
        #[diesel(sql_type = Nullable<BigInt>)]
        files: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        bytes: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        fs_total: Option<i64>,
        #[diesel(sql_type = Nullable<BigInt>)]
        fs_available: Option<i64>,
        #[diesel(sql_type = Nullable<Text>)]
        scan_error: Option<String>,
    }
    let rows = diesel::sql_query(
        "SELECT id, cluster_id, name, path, last_scan_at, last_scan_by, last_arrival_at, files, \
                bytes, fs_total, fs_available, scan_error \
           FROM directories WHERE $1 IS NULL OR cluster_id = $1 ORDER BY cluster_id, name",
    )
    .bind::<Nullable<BigInt>, _>(cluster.map(|id| id.0))
    .kept()
    .load::<Row>(conn)
    .await?;
    let count = |number: Option<i64>| number.map(i64::cast_unsigned);
    Ok(rows
        .into_iter()
        .map(|row| DirectoryRow {
            id: DirectoryId(row.id),
            cluster: ClusterId(row.cluster_id),
            name: row.name,
            path: row.path,
            last_scan_at: row.last_scan_at,
            last_scan_by: row.last_scan_by,
            last_arrival_at: row.last_arrival_at,
            files: count(row.files),
            bytes: count(row.bytes),
            fs_total: count(row.fs_total),
            fs_available: count(row.fs_available),
            scan_error: row.scan_error,
        })
        .collect())
}

async fn lock_prefixes(conn: &mut AsyncPgConnection) -> Result<(), CatalogError> {
    diesel::sql_query("SELECT pg_advisory_xact_lock($1)")
        .bind::<BigInt, _>(PREFIX_LOCK)
        .kept()
        .execute(conn)
        .await?;
    Ok(())
}

/// Caller holds the prefix lock.
async fn open_prefix(
    conn: &mut AsyncPgConnection,
    cluster: ClusterId,
    prefix: &KeyPrefix,
) -> Result<Prefix, CatalogError> {
    #[derive(QueryableByName)]
    struct Taken {
        #[diesel(sql_type = Text)]
        key_prefix: String,
        #[diesel(sql_type = Text)]
        cluster: String,
    }
    // Listing `wal/` also lists `wal/next/`: nested prefixes would mix two systems' files.
    let taken = diesel::sql_query(
        "SELECT p.key_prefix::text AS key_prefix, c.name AS cluster \
           FROM prefixes p JOIN clusters c ON c.id = p.cluster_id \
          WHERE starts_with(p.key_prefix, $1) OR starts_with($1, p.key_prefix) LIMIT 1",
    )
    .bind::<Text, _>(prefix.as_str())
    .kept()
    .load::<Taken>(conn)
    .await?;
    if let Some(taken) = taken.into_iter().next() {
        return Err(CatalogError::PrefixTaken {
            prefix: prefix.clone(),
            taken: taken.key_prefix,
            cluster: taken.cluster,
        });
    }
    diesel::sql_query(format!(
        "INSERT INTO prefixes AS p (cluster_id, key_prefix) VALUES ($1, $2) RETURNING {PREFIX_COLUMNS}"
    ))
    .bind::<BigInt, _>(cluster.0)
    .bind::<Text, _>(prefix.as_str())
    .kept()
    .get_result::<PrefixRow>(conn)
    .await?
    .parse()
}

/// Columns of `PrefixRow`; the table's alias is `p`.
pub(crate) const PREFIX_COLUMNS: &str = "p.id AS prefix_id, p.cluster_id, p.key_prefix::text AS key_prefix, \
     p.system_id::text AS system_id, p.segment_size, p.opened_at, p.closed_at";

#[derive(QueryableByName, Clone)]
pub(crate) struct PrefixRow {
    #[diesel(sql_type = BigInt)]
    prefix_id: i64,
    #[diesel(sql_type = BigInt)]
    cluster_id: i64,
    #[diesel(sql_type = Text)]
    key_prefix: String,
    #[diesel(sql_type = Nullable<Text>)]
    system_id: Option<String>,
    #[diesel(sql_type = Nullable<BigInt>)]
    segment_size: Option<i64>,
    #[diesel(sql_type = Timestamptz)]
    opened_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    closed_at: Option<DateTime<Utc>>,
}

impl PrefixRow {
    pub(crate) fn parse(self) -> Result<Prefix, CatalogError> {
        Ok(Prefix {
            id: PrefixId(self.prefix_id),
            cluster: ClusterId(self.cluster_id),
            key_prefix: rows::parse("key prefix", &self.key_prefix)?,
            system_id: self
                .system_id
                .map(|text| rows::parse("system id", &text))
                .transpose()?,
            segment_size: self.segment_size.map(segment_size).transpose()?,
            opened_at: self.opened_at,
            closed_at: self.closed_at,
        })
    }
}

fn segment_size(bytes: i64) -> Result<SegmentSize, CatalogError> {
    u64::try_from(bytes)
        .ok()
        .and_then(|bytes| SegmentSize::try_from(bytes).ok())
        .ok_or_else(|| rows::malformed("segment size", bytes))
}

pub(crate) fn unknown(what: &'static str, id: impl ToString) -> CatalogError {
    CatalogError::Unknown {
        what,
        name: id.to_string(),
    }
}
