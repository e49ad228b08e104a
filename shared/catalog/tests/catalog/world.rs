//! A migrated catalog with one cluster, one directory and the repositories `r2` and `b2`.

use std::time::Duration;

use chrono::Utc;
use diesel_async::{RunQueryDsl, SimpleAsyncConnection as _};
use walferry_catalog::{
    Archived, Catalog, Claim, ClaimRequest, ClaimToken, ClusterId, Completed, Connection,
    DirectoryId, Encoder, Enough, LocalStat, NewFile, Packed, PrefixId, claims, clusters,
    completion, intake, repositories,
};
use walferry_proof::{
    Evidence, Expected, ExpectedEtag, ObjectKey, Reported, RepositoryName, Sha256, Verified,
    VerifyMode, md5, sha256,
};
use walferry_wal::WalFile;

use crate::postgres;

pub(crate) const LEASE: Duration = Duration::from_secs(30);
pub(crate) const LONGEST_DELAY: Duration = Duration::from_secs(60);

pub(crate) struct World {
    pub(crate) catalog: Catalog,
    pub(crate) conn: Connection,
    pub(crate) cluster: ClusterId,
    pub(crate) prefix: PrefixId,
    pub(crate) directory: DirectoryId,
    pub(crate) up: Vec<RepositoryName>,
    next_inode: u64,
}

impl World {
    pub(crate) async fn new() -> Self {
        let catalog = postgres::catalog(&postgres::database().await);
        catalog.migrate().await.expect("migrate");
        let mut conn = catalog.get().await.expect("connect");
        let up = vec![repository("r2"), repository("b2")];
        repositories::ensure_repositories(&mut conn, &up)
            .await
            .unwrap();
        let cluster = clusters::ensure_cluster(&mut conn, "main", &"wal/".parse().unwrap())
            .await
            .unwrap();
        let directory = clusters::ensure_directory(&mut conn, cluster.id, "main", "/archive")
            .await
            .unwrap();
        Self {
            catalog,
            conn,
            cluster: cluster.id,
            prefix: cluster.prefix.id,
            directory,
            up,
            next_inode: 1,
        }
    }

    /// A file as it would be found on disk, another inode each time.
    pub(crate) fn found(&mut self, name: &str) -> NewFile {
        self.next_inode += 1;
        NewFile {
            file: name.parse().expect(name),
            stat: LocalStat {
                dev: 7,
                ino: self.next_inode,
                size: 16 << 20,
                mtime_ns: 1_700_000_000_000_000_000,
            },
            mtime: Utc::now(),
        }
    }

    pub(crate) async fn register(&mut self, names: &[&str]) -> Vec<NewFile> {
        let files: Vec<NewFile> = names.iter().map(|name| self.found(name)).collect();
        self.register_files(&files).await;
        files
    }

    pub(crate) async fn register_files(&mut self, files: &[NewFile]) {
        intake::register(
            &mut self.conn,
            self.prefix,
            self.directory,
            files,
            &[repository("r2"), repository("b2")],
        )
        .await
        .unwrap();
    }

    /// Files `1` to `count` of timeline 1.
    pub(crate) async fn register_segments(&mut self, count: u32) {
        let files: Vec<NewFile> = (1..=count).map(|n| self.found(&segment(n))).collect();
        self.register_files(&files).await;
    }

    pub(crate) async fn claim(&mut self, worker: &str, limit: u32) -> Vec<Claim> {
        self.claim_with(worker, limit, LEASE).await
    }

    pub(crate) async fn claim_with(
        &mut self,
        worker: &str,
        limit: u32,
        lease: Duration,
    ) -> Vec<Claim> {
        let (up, directories) = (self.up.clone(), [self.directory]);
        let request = ClaimRequest {
            worker,
            lease,
            limit,
            cluster: Some(self.cluster),
            directories: &directories,
            repositories_up: &up,
            enough: Enough::AllRequired,
            longest_delay: LONGEST_DELAY,
        };
        claims::claim(&mut self.conn, &request).await.unwrap()
    }

    /// Claims up to ten as a worker that serves `directories` and sees `up`.
    pub(crate) async fn claim_as(
        &mut self,
        directories: &[DirectoryId],
        up: &[RepositoryName],
        enough: Enough,
    ) -> Vec<Claim> {
        let request = ClaimRequest {
            worker: "w",
            lease: LEASE,
            limit: 10,
            cluster: Some(self.cluster),
            directories,
            repositories_up: up,
            enough,
            longest_delay: LONGEST_DELAY,
        };
        claims::claim(&mut self.conn, &request).await.unwrap()
    }

    pub(crate) async fn claim_one(&mut self, worker: &str) -> Claim {
        let mut claims = self.claim(worker, 1).await;
        assert_eq!(claims.len(), 1, "nothing to claim");
        claims.remove(0)
    }

    pub(crate) async fn pack(&mut self, claim: &Claim) -> Packed {
        let packed = packed(&claim.file.to_string());
        completion::set_packed(&mut self.conn, claim.token, &packed)
            .await
            .unwrap();
        packed
    }

    /// Both copies verified and the local file deleted.
    pub(crate) async fn archive(&mut self, claim: &Claim) {
        let archived = self.complete_all(claim).await;
        let deleted: Vec<_> = claim
            .local
            .iter()
            .map(|local| (local.directory, local.stat))
            .collect();
        completion::local_deleted(&mut self.conn, &archived, &deleted)
            .await
            .unwrap();
    }

    pub(crate) async fn complete_all(&mut self, claim: &Claim) -> Archived {
        self.pack(claim).await;
        let proofs = vec![proof(claim, "r2"), proof(claim, "b2")];
        match completion::complete(
            &mut self.conn,
            claim.token,
            proofs,
            Vec::new(),
            Enough::AllRequired,
        )
        .await
        .unwrap()
        {
            Completed::Archived(archived) => archived,
            Completed::Waiting(waiting) => panic!("{waiting:?}"),
        }
    }

    /// Registers, claims and archives these, one after another.
    pub(crate) async fn archived(&mut self, names: &[&str]) {
        self.register(names).await;
        for _ in names {
            let claim = self.claim_one("archiver").await;
            self.archive(&claim).await;
        }
    }

    /// Moves the catalog's view of the lease into the past: as if that time had passed.
    pub(crate) async fn expire(&mut self, token: ClaimToken) {
        self.sql(&format!(
            "UPDATE wal_files SET lease_until = clock_timestamp() - interval '1 s' WHERE id = {}",
            token.file
        ))
        .await;
    }

    pub(crate) async fn sql(&mut self, statement: &str) {
        self.conn.batch_execute(statement).await.expect(statement);
    }

    /// One value, as text.
    pub(crate) async fn value(&mut self, query: &str) -> Option<String> {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
            value: Option<String>,
        }
        diesel::sql_query(format!("SELECT (({query}))::text AS value"))
            .get_result::<Row>(&mut self.conn)
            .await
            .expect(query)
            .value
    }

    pub(crate) async fn status(&mut self, name: &str) -> String {
        self.value(&format!(
            "SELECT status FROM wal_files WHERE name = '{name}'"
        ))
        .await
        .expect("file is registered")
    }
}

pub(crate) fn repository(name: &str) -> RepositoryName {
    name.parse().expect(name)
}

/// Segment `number` of timeline 1.
pub(crate) fn segment(number: u32) -> String {
    format!("00000001{:08X}{:08X}", number / 256, number % 256)
}

pub(crate) fn content(name: &str) -> Sha256 {
    sha256(name.as_bytes())
}

pub(crate) fn packed(name: &str) -> Packed {
    Packed {
        sha256: content(name),
        size: 16 << 20,
        encoder: Encoder {
            name: "zlib-rs".to_owned(),
            level: 9,
        },
        compressed_size: 503_316,
        compressed_md5: md5(name.as_bytes()),
    }
}

pub(crate) fn proof(claim: &Claim, repository_name: &str) -> Verified {
    proof_of(
        &claim.file,
        content(&claim.file.to_string()),
        repository_name,
    )
}

pub(crate) fn proof_of(file: &WalFile, sha256: Sha256, repository_name: &str) -> Verified {
    let key: ObjectKey = format!("wal/{file}.gz").parse().unwrap();
    let stored_md5 = md5(file.to_string().as_bytes());
    let expected = Expected {
        sha256,
        plain_size: 16 << 20,
        stored_size: 503_316,
        stored_md5,
        etag: ExpectedEtag::Single(stored_md5),
    };
    let reported = Reported {
        repository: repository(repository_name),
        key,
        evidence: Evidence::Head {
            size: 503_316,
            etag: Some(stored_md5.to_string()),
            sha256_metadata: Some(sha256),
        },
    };
    Verified::compare(&expected, reported, VerifyMode::Head).unwrap()
}
