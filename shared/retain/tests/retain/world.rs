//! A catalog with one cluster and two buckets that hold what it says.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use diesel_async::{RunQueryDsl, SimpleAsyncConnection as _};
use walferry_catalog::adoption::{self, Adoption};
use walferry_catalog::{Catalog, Cluster, Connection, PrefixId, clusters, labels, repositories};
use walferry_proof::{
    Evidence, Expected, ExpectedEtag, Reported, RepositoryName, Verified, VerifyMode, md5, sha256,
};
use walferry_retain::{Consent, Outcome, Policy, Refusal, Report, Retention};
use walferry_store::Repository;
use walferry_wal::{BackupFrom, Label, Lsn, SegmentName, SegmentSize, SystemId, WalFile};

use crate::bucket::Bucket;
use crate::postgres;

/// Bytes of each object.
const STORED: u64 = 9;

pub(crate) struct World {
    pub(crate) catalog: Catalog,
    pub(crate) conn: Connection,
    pub(crate) cluster: Cluster,
    pub(crate) r2: Arc<Bucket>,
    pub(crate) b2: Arc<Bucket>,
    pub(crate) policy: Policy,
}

impl World {
    pub(crate) async fn new() -> Self {
        let catalog = postgres::catalog().await;
        let mut conn = catalog.get().await.unwrap();
        let names = ["r2", "b2"].map(repository);
        repositories::ensure_repositories(&mut conn, &names)
            .await
            .unwrap();
        let cluster = clusters::ensure_cluster(&mut conn, "main", &"wal/".parse().unwrap())
            .await
            .unwrap();
        let (system, size) = (SystemId::new(7), SegmentSize::DEFAULT);
        clusters::set_identity(&mut conn, cluster.prefix.id, system, size)
            .await
            .unwrap();
        let cluster = clusters::clusters(&mut conn).await.unwrap().remove(0);
        Self {
            catalog,
            conn,
            cluster,
            r2: Bucket::new("r2"),
            b2: Bucket::new("b2"),
            policy: Policy {
                max_delete_share: 1.0,
                ..Policy::default()
            },
        }
    }

    /// Segments 0 to `days` of timeline 1, number n archived `days - n` days ago, in both.
    pub(crate) async fn one_a_day(days: u32) -> Self {
        let mut world = Self::new().await;
        for number in 0..=days {
            world
                .archived(&segment(number), i64::from(days - number))
                .await;
        }
        world
    }

    pub(crate) fn prefix(&self) -> PrefixId {
        self.cluster.prefix.id
    }

    /// A file in both repositories, archived `days` days ago.
    pub(crate) async fn archived(&mut self, name: &str, days: i64) {
        self.archived_in(name, days, &["r2", "b2"]).await;
    }

    /// A file that both repositories are to hold, and these do.
    pub(crate) async fn archived_in(&mut self, name: &str, days: i64, repositories: &[&str]) {
        let file: WalFile = name.parse().unwrap();
        let archived_at = days_ago(days);
        let adoption = Adoption {
            file,
            sha256: sha256(name.as_bytes()),
            size: SegmentSize::DEFAULT.bytes(),
            encoder: None,
            mtime: archived_at,
            last_modified: archived_at,
        };
        let proofs: Vec<Verified> = repositories.iter().map(|r| proof(&file, r)).collect();
        let required = ["r2", "b2"].map(repository);
        let prefix = self.prefix();
        let adopted = adoption::adopt(&mut self.conn, prefix, &adoption, &proofs, &required)
            .await
            .unwrap();
        for name in repositories {
            let bucket = if *name == "r2" { &self.r2 } else { &self.b2 };
            bucket.insert(&format!("wal/{file}.gz"), STORED as usize);
        }
        if let WalFile::Label { segment, .. } = file {
            let label = Label {
                start_lsn: Lsn::new(segment.start_lsn(SegmentSize::DEFAULT).unwrap().get() + 0x28),
                start_segment: segment,
                stop_lsn: Lsn::new(segment.start_lsn(SegmentSize::DEFAULT).unwrap().get() + 0x100),
                stop_segment: segment,
                timeline: segment.timeline(),
                label: "nightly".to_owned(),
                start_time: None,
                stop_time: None,
                backup_from: BackupFrom::Primary,
            };
            labels::insert_label(&mut self.conn, adopted.file, &label)
                .await
                .unwrap();
        }
    }

    pub(crate) fn retention(&self) -> Retention {
        let repositories: Vec<Arc<dyn Repository>> = vec![self.r2.clone(), self.b2.clone()];
        self.retention_with(repositories)
    }

    pub(crate) fn retention_with(&self, repositories: Vec<Arc<dyn Repository>>) -> Retention {
        Retention::new(self.catalog.clone(), repositories, self.policy)
    }

    pub(crate) async fn apply(&self) -> Report {
        let retention = self.retention();
        retention
            .apply(&self.cluster, Consent::Automatic)
            .await
            .unwrap()
    }

    /// A run that takes over from any other.
    pub(crate) async fn apply_at_once(&self) -> Report {
        let retention = self.retention().with_lease(Duration::ZERO);
        retention
            .apply(&self.cluster, Consent::Automatic)
            .await
            .unwrap()
    }

    pub(crate) async fn refusals(&self) -> Vec<Refusal> {
        let report = self.apply().await;
        match report.outcome {
            Outcome::Refused(refusals) => refusals,
            Outcome::Done | Outcome::Stopped => panic!("not refused: {report}"),
        }
    }

    pub(crate) async fn sql(&mut self, statement: &str) {
        self.conn.batch_execute(statement).await.expect(statement);
    }

    /// One value, as text.
    pub(crate) async fn value(&mut self, query: &str) -> String {
        #[derive(diesel::QueryableByName)]
        struct Row {
            #[diesel(sql_type = diesel::sql_types::Nullable<diesel::sql_types::Text>)]
            value: Option<String>,
        }
        let row = diesel::sql_query(format!("SELECT (({query}))::text AS value"))
            .get_result::<Row>(&mut self.conn)
            .await
            .expect(query);
        row.value.unwrap_or_default()
    }

    /// Names of all rows with their status and the state of each copy.
    pub(crate) async fn rows(&mut self) -> String {
        self.value(
            "SELECT string_agg(f.name || ' ' || f.status || coalesce(c.copies, ''), E'\\n' ORDER BY f.name) \
               FROM wal_files f LEFT JOIN ( \
                    SELECT file_id, string_agg(' ' || repository || ':' || state, '' ORDER BY repository) AS copies \
                      FROM copies GROUP BY file_id) c ON c.file_id = f.id",
        )
        .await
    }
}

pub(crate) fn repository(name: &str) -> RepositoryName {
    name.parse().unwrap()
}

pub(crate) fn days_ago(days: i64) -> DateTime<Utc> {
    // A minute short of the day after: no test depends on how fast it runs.
    Utc::now() - TimeDelta::days(days) - TimeDelta::minutes(1)
}

/// Segment `number` of timeline 1.
pub(crate) fn segment(number: u32) -> String {
    format!("0000000100000000{number:08X}")
}

pub(crate) fn segments(numbers: std::ops::Range<u32>) -> Vec<String> {
    numbers.map(segment).collect()
}

/// A label of a base backup that began and ended in segment `number`.
pub(crate) fn label(number: u32) -> String {
    let name: SegmentName = segment(number).parse().unwrap();
    let file = WalFile::Label {
        segment: name,
        offset: 0x28,
    };
    file.to_string()
}

fn proof(file: &WalFile, repository_name: &str) -> Verified {
    let name = file.to_string();
    let stored_md5 = md5(name.as_bytes());
    let expected = Expected {
        sha256: sha256(name.as_bytes()),
        plain_size: SegmentSize::DEFAULT.bytes(),
        stored_size: STORED,
        stored_md5,
        etag: ExpectedEtag::Single(stored_md5),
    };
    let reported = Reported {
        repository: repository(repository_name),
        key: format!("wal/{name}.gz").parse().unwrap(),
        evidence: Evidence::Head {
            size: STORED,
            etag: Some(stored_md5.to_string()),
            sha256_metadata: Some(expected.sha256),
        },
    };
    Verified::compare(&expected, reported, VerifyMode::Head).unwrap()
}
