//! What a claim tells its worker.

use std::collections::HashMap;
use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{
    Array, BigInt, Binary, Bool, Double, Integer, Nullable, SmallInt, Text, Timestamptz,
};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use serde::Serialize;
use walferry_proof::{Md5, RepositoryName, Sha256};
use walferry_wal::WalFile;

use super::lease::STILL_THERE;
use crate::clusters::{Prefix, PrefixRow};
use crate::error::CatalogError;
use crate::ids::{Attempt, ClaimToken, DirectoryId, FileId};
use crate::intake::{LocalStat, STAT_COLUMNS, StatRow};
use crate::rows::{self, Keep as _};

/// A file that is this worker's until the lease ends.
#[derive(Debug, Clone)]
pub struct Claim {
    pub token: ClaimToken,
    pub file: WalFile,
    pub prefix: Prefix,
    /// Of the uncompressed file, once an attempt has read it.
    pub sha256: Option<Sha256>,
    pub size: Option<u64>,
    pub mtime: Option<DateTime<Utc>>,
    /// Recorded before the first PUT: later attempts use the same.
    pub encoder: Option<Encoder>,
    pub packed: Option<PackedSize>,
    /// The file was verified in every required repository before this claim.
    pub verified_before: bool,
    pub failures: u32,
    pub crashes: u32,
    /// The claim before it ran out: a crash of its owner.
    pub taken_over: bool,
    pub copies: Vec<Copy>,
    /// Where it lies now, in every directory of the cluster, also those of other hosts.
    pub local: Vec<LocalFile>,
}

/// Which encoder made, or is to make, the object.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Encoder {
    pub name: String,
    pub level: u8,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PackedSize {
    pub size: u64,
    pub md5: Md5,
}

/// A copy in one repository: verified, or still due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Copy {
    pub repository: RepositoryName,
    pub state: CopyState,
    pub required: bool,
    /// Failed attempts at this copy.
    pub attempts: u32,
    /// How long it still waits; `None`: it may be made now.
    pub due_in: Option<Duration>,
    pub stored_size: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CopyState {
    Due,
    Verified,
    /// Retention is deleting it.
    Expiring,
}

/// A file on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LocalFile {
    pub directory: DirectoryId,
    pub directory_path: String,
    pub stat: LocalStat,
}

impl CopyState {
    pub(crate) fn parse(text: &str) -> Result<Self, CatalogError> {
        match text {
            "due" => Ok(Self::Due),
            "verified" => Ok(Self::Verified),
            "expiring" => Ok(Self::Expiring),
            _ => Err(rows::malformed("copy state", text)),
        }
    }
}

/// Columns of `ClaimRow` besides the prefix's; the table's alias is `f`.
pub(super) const CLAIM_COLUMNS: &str = "f.id, f.attempt, f.name::text AS name, f.sha256, f.size_bytes, f.mtime, f.encoder, \
     f.level, f.compressed_size, f.compressed_md5, f.status = 'VERIFIED' AS verified_before, \
     f.failures, f.crashes";

#[derive(QueryableByName)]
pub(super) struct ClaimRow {
    #[diesel(sql_type = BigInt)]
    id: i64,
    #[diesel(sql_type = Integer)]
    attempt: i32,
    #[diesel(sql_type = Text)]
    name: String,
    #[diesel(sql_type = Nullable<Binary>)]
    sha256: Option<Vec<u8>>,
    #[diesel(sql_type = Nullable<BigInt>)]
    size_bytes: Option<i64>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    mtime: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    encoder: Option<String>,
    #[diesel(sql_type = Nullable<SmallInt>)]
    level: Option<i16>,
    #[diesel(sql_type = Nullable<BigInt>)]
    compressed_size: Option<i64>,
    #[diesel(sql_type = Nullable<Binary>)]
    compressed_md5: Option<Vec<u8>>,
    #[diesel(sql_type = Bool)]
    verified_before: bool,
    #[diesel(sql_type = Integer)]
    failures: i32,
    #[diesel(sql_type = Integer)]
    crashes: i32,
    #[diesel(sql_type = Bool)]
    taken_over: bool,
    #[diesel(embed)]
    prefix: PrefixRow,
}

impl ClaimRow {
    /// History files first, then by name, which is by position.
    pub(super) fn order(&self) -> (bool, &str) {
        (!self.name.ends_with(".history"), &self.name)
    }

    fn parse(self, copies: Vec<Copy>, local: Vec<LocalFile>) -> Result<Claim, CatalogError> {
        let encoder = match (self.encoder, self.level) {
            (Some(name), Some(level)) => Some(encoder(name, level)?),
            _ => None,
        };
        let packed = match (self.compressed_size, &self.compressed_md5) {
            (Some(size), Some(md5)) => Some(PackedSize {
                size: rows::count("size", size)?,
                md5: rows::md5(md5)?,
            }),
            _ => None,
        };
        Ok(Claim {
            token: ClaimToken {
                file: FileId(self.id),
                attempt: Attempt(self.attempt),
            },
            file: rows::parse("file name", &self.name)?,
            prefix: self.prefix.parse()?,
            sha256: self.sha256.as_deref().map(rows::sha256).transpose()?,
            size: self
                .size_bytes
                .map(|size| rows::count("size", size))
                .transpose()?,
            mtime: self.mtime,
            encoder,
            packed,
            verified_before: self.verified_before,
            failures: rows::small("count", self.failures)?,
            crashes: rows::small("count", self.crashes)?,
            taken_over: self.taken_over,
            copies,
            local,
        })
    }
}

pub(crate) fn encoder(name: String, level: i16) -> Result<Encoder, CatalogError> {
    Ok(Encoder {
        name,
        level: u8::try_from(level).map_err(|_| rows::malformed("level", level))?,
    })
}

/// Completes claimed rows with their copies and places.
pub(super) async fn load(
    conn: &mut AsyncPgConnection,
    claimed: Vec<ClaimRow>,
) -> Result<Vec<Claim>, CatalogError> {
    let ids: Vec<i64> = claimed.iter().map(|row| row.id).collect();
    let mut copies = copies_of(conn, &ids).await?;
    let mut local = local_of(conn, &ids).await?;
    claimed
        .into_iter()
        .map(|row| {
            let copies = copies.remove(&row.id).unwrap_or_default();
            let local = local.remove(&row.id).unwrap_or_default();
            row.parse(copies, local)
        })
        .collect()
}

async fn copies_of(
    conn: &mut AsyncPgConnection,
    files: &[i64],
) -> Result<HashMap<i64, Vec<Copy>>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        file_id: i64,
        #[diesel(sql_type = Text)]
        repository: String,
        #[diesel(sql_type = Text)]
        state: String,
        #[diesel(sql_type = Bool)]
        required: bool,
        #[diesel(sql_type = Integer)]
        attempts: i32,
        #[diesel(sql_type = Double)]
        due_in: f64,
        #[diesel(sql_type = Nullable<BigInt>)]
        stored_size: Option<i64>,
    }
    let found = diesel::sql_query(
        "SELECT file_id, repository, state, required, attempts, stored_size, \
                extract(epoch FROM due_at - clock_timestamp())::float8 AS due_in \
           FROM copies WHERE file_id = ANY ($1) ORDER BY file_id, repository",
    )
    .bind::<Array<BigInt>, _>(files)
    .kept()
    .load::<Row>(conn)
    .await?;
    let mut copies: HashMap<i64, Vec<Copy>> = HashMap::new();
    for row in found {
        copies.entry(row.file_id).or_default().push(Copy {
            repository: rows::parse("repository name", &row.repository)?,
            state: CopyState::parse(&row.state)?,
            required: row.required,
            attempts: rows::small("count", row.attempts)?,
            due_in: Duration::try_from_secs_f64(row.due_in)
                .ok()
                .filter(|wait| !wait.is_zero()),
            stored_size: row
                .stored_size
                .map(|size| rows::count("size", size))
                .transpose()?,
        });
    }
    Ok(copies)
}

async fn local_of(
    conn: &mut AsyncPgConnection,
    files: &[i64],
) -> Result<HashMap<i64, Vec<LocalFile>>, CatalogError> {
    #[derive(QueryableByName)]
    struct Row {
        #[diesel(sql_type = BigInt)]
        file_id: i64,
        #[diesel(sql_type = BigInt)]
        directory_id: i64,
        #[diesel(sql_type = Text)]
        path: String,
        #[diesel(embed)]
        stat: StatRow,
    }
    let found = diesel::sql_query(format!(
        "SELECT l.file_id, l.directory_id, d.path, {STAT_COLUMNS} \
           FROM local_files l JOIN directories d ON d.id = l.directory_id \
          WHERE l.file_id = ANY ($1) AND {STILL_THERE} AND l.quarantined_at IS NULL \
          ORDER BY l.id"
    ))
    .bind::<Array<BigInt>, _>(files)
    .kept()
    .load::<Row>(conn)
    .await?;
    let mut local: HashMap<i64, Vec<LocalFile>> = HashMap::new();
    for row in found {
        local.entry(row.file_id).or_default().push(LocalFile {
            directory: DirectoryId(row.directory_id),
            directory_path: row.path,
            stat: row.stat.parse(),
        });
    }
    Ok(local)
}
