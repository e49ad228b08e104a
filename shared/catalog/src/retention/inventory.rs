//! What there is: every file of a prefix with its copies.

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{Array, BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use walferry_proof::RepositoryName;
use walferry_wal::WalFile;

use crate::claims::CopyState;
use crate::error::CatalogError;
use crate::ids::{FileId, PrefixId};
use crate::rows;

#[derive(Debug, Clone)]
pub struct RetentionFile {
    pub id: FileId,
    pub file: WalFile,
    pub status: FileStatus,
    /// The file's own time; for an adopted object its LastModified.
    pub mtime: Option<DateTime<Utc>>,
    /// When it was verified in every required repository.
    pub verified_at: Option<DateTime<Utc>>,
    /// Claimed, or still (or again) in an archive directory.
    pub busy: bool,
    pub copies: Vec<RetentionCopy>,
}

#[derive(Debug, Clone)]
pub struct RetentionCopy {
    pub repository: RepositoryName,
    pub state: CopyState,
    /// Bytes as stored; unknown before it was verified.
    pub stored_size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FileStatus {
    Pending,
    Verified,
    Expiring,
}

/// A page of a prefix's files in the order of their names, those behind `after` only.
pub async fn files(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    after: Option<&WalFile>,
    limit: u32,
) -> Result<Vec<RetentionFile>, CatalogError> {
    diesel::sql_query(
        "SELECT f.id, f.name::text AS name, f.status, f.mtime, f.verified_at, \
                f.claimed_by IS NOT NULL OR (f.status = 'VERIFIED' AND EXISTS ( \
                    SELECT 1 FROM local_files l WHERE l.file_id = f.id AND l.deleted_at IS NULL)) AS busy, \
                ARRAY(SELECT c.repository FROM copies c WHERE c.file_id = f.id ORDER BY c.repository) AS repositories, \
                ARRAY(SELECT c.state FROM copies c WHERE c.file_id = f.id ORDER BY c.repository) AS states, \
                ARRAY(SELECT coalesce(c.stored_size, -1) FROM copies c WHERE c.file_id = f.id ORDER BY c.repository) AS sizes \
           FROM wal_files f \
          WHERE f.prefix_id = $1 AND f.name > $2 ORDER BY f.name LIMIT $3",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<Text, _>(after.map(ToString::to_string).unwrap_or_default())
    .bind::<BigInt, _>(i64::from(limit))
    .load::<Row>(conn)
    .await?
    .into_iter()
    .map(Row::parse)
    .collect()
}

/// Which of these names have a row, whatever its status.
pub async fn registered(
    conn: &mut AsyncPgConnection,
    prefix: PrefixId,
    names: &[WalFile],
) -> Result<Vec<WalFile>, CatalogError> {
    diesel::sql_query(
        "SELECT name::text AS value FROM wal_files WHERE prefix_id = $1 AND name = ANY ($2)",
    )
    .bind::<BigInt, _>(prefix.0)
    .bind::<Array<Text>, _>(names.iter().map(ToString::to_string).collect::<Vec<_>>())
    .load::<rows::Value>(conn)
    .await?
    .into_iter()
    .map(|row| rows::parse("file name", &row.value))
    .collect()
}

#[derive(QueryableByName)]
struct Row {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Text)]
    status: String,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    mtime: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    verified_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Bool)]
    busy: bool,
    #[diesel(sql_type = Array<Text>)]
    repositories: Vec<String>,
    #[diesel(sql_type = Array<Text>)]
    states: Vec<String>,
    #[diesel(sql_type = Array<BigInt>)]
    sizes: Vec<i64>,
}

impl Row {
    fn parse(self) -> Result<RetentionFile, CatalogError> {
        let states = self.states.into_iter().zip(self.sizes);
        let copies = self.repositories.into_iter().zip(states);
        Ok(RetentionFile {
            id: FileId(self.id),
            file: rows::parse("file name", &self.name)?,
            status: FileStatus::parse(&self.status)?,
            mtime: self.mtime,
            verified_at: self.verified_at,
            busy: self.busy,
            copies: copies
                .map(|(repository, (state, size))| {
                    Ok(RetentionCopy {
                        repository: rows::parse("repository", &repository)?,
                        state: CopyState::parse(&state)?,
                        stored_size: u64::try_from(size).ok(),
                    })
                })
                .collect::<Result<_, CatalogError>>()?,
        })
    }
}

impl FileStatus {
    fn parse(text: &str) -> Result<Self, CatalogError> {
        match text {
            "PENDING" => Ok(Self::Pending),
            "VERIFIED" => Ok(Self::Verified),
            "EXPIRING" => Ok(Self::Expiring),
            _ => Err(rows::malformed("file status", text)),
        }
    }
}
