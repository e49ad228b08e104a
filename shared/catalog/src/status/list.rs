//! `ls`: files, one by one.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Binary, Integer, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use walferry_proof::{KeyPrefix, RepositoryName, Sha256};
use walferry_wal::WalFile;

use crate::claims::CopyState;
use crate::error::CatalogError;
use crate::ids::{ClusterId, FileId};
use crate::rows;

/// Which files. The default is all of them.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub cluster: Option<ClusterId>,
    pub status: Option<Status>,
    /// Names from this one on, and up to this one; a beginning of a name will do.
    pub from: Option<String>,
    pub to: Option<String>,
    /// The last row of the page before.
    pub after: Option<(String, FileId)>,
    /// 0: 1,000.
    pub limit: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum Status {
    Pending,
    Verified,
    Expiring,
}

#[derive(Debug, Clone)]
pub struct FileRow {
    pub id: FileId,
    pub cluster: String,
    pub key_prefix: KeyPrefix,
    pub file: WalFile,
    pub status: Status,
    pub sha256: Option<Sha256>,
    pub size: Option<u64>,
    pub compressed_size: Option<u64>,
    pub encoder: Option<String>,
    pub level: Option<i32>,
    pub mtime: Option<DateTime<Utc>>,
    pub registered_at: DateTime<Utc>,
    pub verified_at: Option<DateTime<Utc>>,
    pub claimed_by: Option<String>,
    pub failures: u32,
    pub crashes: u32,
    pub last_error: Option<String>,
    pub copies: Vec<ListedCopy>,
    /// Where it lies on disk.
    pub local_paths: Vec<String>,
}

#[derive(Debug, Clone)]
pub struct ListedCopy {
    pub repository: RepositoryName,
    pub state: CopyState,
    /// Why it is not there, when it was tried.
    pub error: Option<String>,
}

/// A page of files by name.
pub async fn list(
    conn: &mut AsyncPgConnection,
    filter: &Filter,
) -> Result<Vec<FileRow>, CatalogError> {
    let limit = if filter.limit == 0 {
        1000
    } else {
        filter.limit
    };
    // `~` sorts behind everything that a name is made of: a beginning of a name includes
    // all names that begin so.
    let to = filter.to.as_ref().map(|to| format!("{to}~"));
    let (after_name, after_id) = match &filter.after {
        Some((name, id)) => (Some(name.as_str()), Some(id.0)),
        None => (None, None),
    };
    diesel::sql_query(
        "SELECT f.id, k.name AS cluster, p.key_prefix::text AS key_prefix, f.name::text AS name, f.status, \
                f.sha256, f.size_bytes, f.compressed_size, f.encoder, f.level::integer AS level, f.mtime, \
                f.registered_at, f.verified_at, f.claimed_by, f.failures, f.crashes, f.last_error, \
                ARRAY(SELECT c.repository FROM copies c WHERE c.file_id = f.id ORDER BY c.repository) AS repositories, \
                ARRAY(SELECT c.state FROM copies c WHERE c.file_id = f.id ORDER BY c.repository) AS states, \
                ARRAY(SELECT coalesce(c.last_error, '') FROM copies c WHERE c.file_id = f.id ORDER BY c.repository) AS errors, \
                ARRAY(SELECT d.path || '/' || f.name FROM local_files l JOIN directories d ON d.id = l.directory_id \
                       WHERE l.file_id = f.id AND l.deleted_at IS NULL ORDER BY l.id) AS local_paths \
           FROM wal_files f JOIN prefixes p ON p.id = f.prefix_id JOIN clusters k ON k.id = p.cluster_id \
          WHERE ($1 IS NULL OR p.cluster_id = $1) AND ($2 IS NULL OR f.status = $2) \
            AND ($3 IS NULL OR f.name >= $3) AND ($4 IS NULL OR f.name <= $4) \
            AND ($5 IS NULL OR (f.name, f.id) > ($5 COLLATE \"C\", $6)) \
          ORDER BY f.name, f.id LIMIT $7",
    )
    .bind::<Nullable<BigInt>, _>(filter.cluster.map(|id| id.0))
    .bind::<Nullable<Text>, _>(filter.status.map(Status::as_str))
    .bind::<Nullable<Text>, _>(filter.from.as_deref())
    .bind::<Nullable<Text>, _>(to)
    .bind::<Nullable<Text>, _>(after_name)
    .bind::<Nullable<BigInt>, _>(after_id)
    .bind::<BigInt, _>(i64::from(limit))
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(Row::parse)
    .collect()
}

impl Status {
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Verified => "VERIFIED",
            Self::Expiring => "EXPIRING",
        }
    }
}

impl std::str::FromStr for Status {
    type Err = CatalogError;

    /// Upper or lower case.
    fn from_str(text: &str) -> Result<Self, CatalogError> {
        [Self::Pending, Self::Verified, Self::Expiring]
            .into_iter()
            .find(|status| status.as_str().eq_ignore_ascii_case(text))
            .ok_or_else(|| rows::malformed("file status", text))
    }
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    cluster: String,
    #[diesel(sql_type = Text)]
    key_prefix: String,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Binary>)]
    sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    size_bytes: Option<i64>,
    #[diesel(sql_type = Nullable<BigInt>)]
    compressed_size: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    encoder: Option<String>,
    #[diesel(sql_type = Nullable<Integer>)]
    level: Option<i32>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    mtime: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    registered_at: DateTime<Utc>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    verified_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    claimed_by: Option<String>,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Integer)]
    crashes: i32,
    #[diesel(sql_type = Nullable<Text>)]
    last_error: Option<String>,
    #[diesel(sql_type = Array<Text>)]
    repositories: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    states: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    errors: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    local_paths: Vec<String>,
}

impl Row {
    fn parse(self) -> Result<FileRow, CatalogError> {
        let facts = self.states.into_iter().zip(self.errors);
        let copies = self
            .repositories
            .into_iter()
            .zip(facts)
            .map(|(repository, (state, error))| {
                Ok(ListedCopy {
                    repository: rows::parse("repository name", &repository)?,
                    state: CopyState::parse(&state)?,
                    error: Some(error).filter(|error| !error.is_empty()),
                })
            })
            .collect::<Result<_, CatalogError>>()?;
        let size = |size: Option<i64>| size.map(|size| rows::count("size", size)).transpose();
        Ok(FileRow {
            id: FileId(self.id),
            cluster: self.cluster,
            key_prefix: rows::parse("key prefix", &self.key_prefix)?,
            file: rows::parse("file name", &self.name)?,
            status: self.status.parse()?,
            sha256: self.sha256.as_deref().map(rows::sha256).transpose()?,
            size: size(self.size_bytes)?,
            compressed_size: size(self.compressed_size)?,
            encoder: self.encoder,
            level: self.level,
            mtime: self.mtime,
            registered_at: self.registered_at,
            verified_at: self.verified_at,
            claimed_by: self.claimed_by,
            failures: rows::small("count", self.failures)?,
            crashes: rows::small("count", self.crashes)?,
            last_error: self.last_error,
            copies,
            local_paths: self.local_paths,
        })
    }
}
