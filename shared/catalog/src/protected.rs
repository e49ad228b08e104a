//! What the protected server says about its own archiving. Reads only.

use std::time::Duration;

use chrono::{DateTime, Utc};
use diesel::QueryableByName;
use diesel::sql_types::{BigInt, Bool, Nullable, Text, Timestamptz};
use diesel_async::{AsyncPgConnection, RunQueryDsl};
use secrecy::SecretString;
use walferry_wal::{SegmentName, SegmentSize, SystemId};

use crate::clusters::Prefix;
use crate::connection::{Catalog, CatalogSettings};
use crate::error::CatalogError;
use crate::status::Reach;

/// A segment's long page header (`XLogLongPageHeaderData`, access/xlog_internal.h): a
/// position up to here means that nothing was written.
const EMPTY_SEGMENT: i64 = 40;

/// A server that is archived. Connects when it is first asked, and keeps that connection.
pub struct Server(Catalog);

/// Settings and counters of a server that is archived.
#[derive(Debug, Clone, QueryableByName)]
pub struct Protected {
    /// In decimal, as the catalog's prefixes have it.
    #[diesel(sql_type = Text)]
    pub system_id: String,
    #[diesel(sql_type = Bool)]
    pub in_recovery: bool,
    #[diesel(sql_type = Text)]
    pub archive_mode: String,
    /// Command, or library on a server that has one.
    #[diesel(sql_type = Text)]
    pub archiver: String,
    /// Seconds; 0 is no limit.
    #[diesel(sql_type = BigInt)]
    pub archive_timeout: i64,
    #[diesel(sql_type = BigInt)]
    pub segment_size: i64,
    /// The segment that is written to; `None` on a standby.
    #[diesel(sql_type = Nullable<Text>)]
    pub current_segment: Option<String>,
    /// Bytes written in it.
    #[diesel(sql_type = Nullable<BigInt>)]
    pub current_offset: Option<i64>,
    #[diesel(sql_type = Nullable<Text>)]
    pub last_archived: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_archived_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Nullable<Text>)]
    pub last_failed: Option<String>,
    #[diesel(sql_type = Nullable<Timestamptz>)]
    pub last_failed_at: Option<DateTime<Utc>>,
    #[diesel(sql_type = Timestamptz)]
    pub now: DateTime<Utc>,
}

/// What would be lost if the server died now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rpo {
    /// The time since the last contiguous verified segment was closed; zero when nothing was
    /// written since, and at most `archive_timeout` when the open segment is the next one.
    Age(Duration),
    /// Everything: nothing of it is verified yet.
    NothingVerified,
    /// Unknown: the server is not the one that the prefix belongs to.
    OtherSystem(SystemId),
}

impl Server {
    /// Does not connect yet.
    ///
    /// # Errors
    /// When `url` is none.
    pub fn new(url: &SecretString, application: &str) -> Result<Self, CatalogError> {
        Ok(Self(Catalog::new(CatalogSettings {
            pool_size: 1,
            ..CatalogSettings::new(url.clone(), application)
        })?))
    }

    /// Its clock; every role may ask for it.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn now(&self) -> Result<DateTime<Utc>, CatalogError> {
        crate::server::now(&mut *self.0.get_unchecked().await?).await
    }

    /// Asks the server itself.
    ///
    /// # Errors
    /// When it does not answer, or the role may not read settings (`pg_monitor` may).
    pub async fn ask(&self) -> Result<Protected, CatalogError> {
        ask(&mut *self.0.get_unchecked().await?).await
    }
}

impl Protected {
    /// Compares the server's position with what is verified: `reach` is that of `prefix`.
    #[must_use]
    pub fn rpo(&self, prefix: &Prefix, reach: &[Reach]) -> Rpo {
        if let Some(known) = prefix.system_id
            && known.to_string() != self.system_id
        {
            return Rpo::OtherSystem(known);
        }
        // A timeline of which nothing is verified yet says nothing; the one that it came
        // from does.
        let last = reach
            .iter()
            .filter(|reach| reach.repository.is_none() && reach.last.is_some())
            .max_by_key(|reach| reach.timeline);
        let last_name = last.and_then(|last| last.last);
        let archived =
            last_name.is_some() && self.last_archived == last_name.map(|name| name.to_string());
        let idle = archived
            && self
                .current_offset
                .is_some_and(|offset| offset <= EMPTY_SEGMENT);
        let Some(closed) = last.and_then(|last| last.last_mtime) else {
            return if idle {
                Rpo::Age(Duration::ZERO)
            } else {
                Rpo::NothingVerified
            };
        };
        let age = (self.now - closed).to_std().unwrap_or(Duration::ZERO);
        match self.switches_within() {
            _ if idle => Rpo::Age(Duration::ZERO),
            Some(limit) if archived && self.writes_right_after(last_name) => {
                Rpo::Age(age.min(limit))
            }
            _ => Rpo::Age(age),
        }
    }

    /// `archive_timeout`: a segment with anything of weight in it is closed after so long.
    /// One that stays open for longer holds a checkpoint and the like (access/xlog.c,
    /// `XLOG_MARK_UNIMPORTANT`), as every quiet server's does.
    fn switches_within(&self) -> Option<Duration> {
        let seconds = u64::try_from(self.archive_timeout).ok()?;
        (seconds > 0).then(|| Duration::from_secs(seconds))
    }

    /// Whether the open segment is the one after `last`: none is between them.
    fn writes_right_after(&self, last: Option<SegmentName>) -> bool {
        let next = || {
            let size = SegmentSize::try_from(u64::try_from(self.segment_size).ok()?).ok()?;
            let last = last?;
            SegmentName::from_number(last.timeline(), last.number(size).ok()? + 1, size)
        };
        self.current_segment.is_some()
            && self.current_segment == next().map(|name| name.to_string())
    }
}

async fn ask(conn: &mut AsyncPgConnection) -> Result<Protected, CatalogError> {
    Ok(diesel::sql_query(
        "SELECT (SELECT system_identifier FROM pg_control_system())::numeric::text AS system_id, \
                pg_is_in_recovery() AS in_recovery, \
                current_setting('archive_mode') AS archive_mode, \
                coalesce(nullif(current_setting('archive_library', true), ''), \
                         current_setting('archive_command')) AS archiver, \
                (SELECT setting::bigint FROM pg_settings WHERE name = 'archive_timeout') AS archive_timeout, \
                (SELECT setting::bigint FROM pg_settings WHERE name = 'wal_segment_size') AS segment_size, \
                CASE WHEN NOT pg_is_in_recovery() THEN pg_walfile_name(pg_current_wal_insert_lsn()) END::text AS current_segment, \
                CASE WHEN NOT pg_is_in_recovery() THEN \
                     (pg_walfile_name_offset(pg_current_wal_insert_lsn())).file_offset END::bigint AS current_offset, \
                a.last_archived_wal AS last_archived, a.last_archived_time AS last_archived_at, \
                a.last_failed_wal AS last_failed, a.last_failed_time AS last_failed_at, \
                clock_timestamp() AS now \
           FROM pg_stat_archiver a",
    )
    .get_result(conn)
    .await?)
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::ids::{ClusterId, PrefixId};
    use crate::status::Since;

    const SYSTEM: u64 = 7_300_000_000_000_000_001;

    fn at(seconds: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::seconds(1_000_000 + seconds)
    }

    fn prefix() -> Prefix {
        Prefix {
            id: PrefixId(1),
            cluster: ClusterId(1),
            key_prefix: "wal/".parse().expect("a prefix"),
            system_id: Some(SYSTEM.to_string().parse().expect("a system id")),
            segment_size: Some(SegmentSize::DEFAULT),
            opened_at: at(0),
            closed_at: None,
        }
    }

    /// Segment 5 is archived, 6 is open with `offset` bytes in it, and 100 s have passed.
    fn server(offset: i64, archive_timeout: i64) -> Protected {
        Protected {
            system_id: SYSTEM.to_string(),
            in_recovery: false,
            archive_mode: "on".to_owned(),
            archiver: "walferry push %p".to_owned(),
            archive_timeout,
            segment_size: 16 << 20,
            current_segment: Some("000000010000000000000006".to_owned()),
            current_offset: Some(offset),
            last_archived: Some("000000010000000000000005".to_owned()),
            last_archived_at: Some(at(0)),
            last_failed: None,
            last_failed_at: None,
            now: at(100),
        }
    }

    fn reach(last: Option<&str>, repository: Option<&str>) -> Reach {
        let from: SegmentName = last
            .unwrap_or("000000020000000000000006")
            .parse()
            .expect("a segment");
        Reach {
            timeline: from.timeline(),
            repository: repository.map(|name| name.parse().expect("a name")),
            from,
            since: Since::Oldest,
            last: last.map(|last| last.parse().expect("a segment")),
            last_mtime: last.map(|_| at(0)),
            segments: 1,
        }
    }

    fn check(server: &Protected, reach: &[Reach], expected: Rpo) {
        assert_eq!(server.rpo(&prefix(), reach), expected);
    }

    const LAST: Option<&str> = Some("000000010000000000000005");

    #[test]
    fn nothing_is_lost_when_nothing_was_written_since() {
        check(&server(40, 0), &[reach(LAST, None)], age(0));
    }

    #[test]
    fn what_was_written_since_is_lost_and_the_age_grows() {
        check(&server(8192, 0), &[reach(LAST, None)], age(100));
    }

    #[test]
    fn with_archive_timeout_the_open_segment_is_never_older_than_that() {
        check(&server(8192, 60), &[reach(LAST, None)], age(60));
        check(&server(8192, 600), &[reach(LAST, None)], age(100));
    }

    #[test]
    fn a_segment_that_is_closed_and_not_verified_counts_from_its_beginning() {
        let mut ahead = server(8192, 60);
        ahead.current_segment = Some("000000010000000000000007".to_owned());
        check(&ahead, &[reach(LAST, None)], age(100));
        ahead.last_archived = Some("000000010000000000000006".to_owned());
        check(&ahead, &[reach(LAST, None)], age(100));
    }

    #[test]
    fn only_what_every_required_repository_has_counts() {
        check(
            &server(40, 0),
            &[reach(LAST, Some("r2"))],
            Rpo::NothingVerified,
        );
        check(&server(40, 0), &[], Rpo::NothingVerified);
    }

    #[test]
    fn a_new_timeline_without_anything_verified_does_not_hide_the_old_one() {
        check(
            &server(8192, 0),
            &[reach(LAST, None), reach(None, None)],
            age(100),
        );
    }

    #[test]
    fn another_system_is_unknown() {
        let mut other = server(40, 0);
        other.system_id = "7300000000000000002".to_owned();
        let known = SYSTEM.to_string().parse().expect("a system id");
        check(&other, &[reach(LAST, None)], Rpo::OtherSystem(known));
    }

    fn age(seconds: u64) -> Rpo {
        Rpo::Age(Duration::from_secs(seconds))
    }
}
