//! Event by event: position, end, xid and time.

use chrono::{DateTime, Utc};
use walferry_wal::control::ControlFile;
use walferry_wal::records::{Ending, Event, Events, events};
use walferry_wal::{SegmentName, TimelineId};

use crate::postgres::{Server, size};
use crate::waldump::{Printed, What, printed};

/// Every kind of end that a transaction has.
fn work(server: &Server) {
    for sql in [
        "create table t (id int primary key, body text)",
        "insert into t values (1, 'a')",
        // A commit that drops files, statistics and has many invalidations.
        "create table two (n int primary key)",
        "drop table two",
        "begin; insert into t values (2, 'b'); rollback",
        "begin; insert into t values (3, 'c'); savepoint s; insert into t values (4, 'd'); \
         savepoint u; insert into t values (5, 'e'); rollback to u; commit",
        "begin; insert into t values (6, 'f'); prepare transaction 'yes'",
        "begin; insert into t values (7, 'g'); create table kept (n int); savepoint s; \
         insert into kept values (1); prepare transaction 'no'",
        "commit prepared 'yes'",
        "rollback prepared 'no'",
        "select pg_create_restore_point('before the migration')",
        "checkpoint",
    ] {
        server.query(sql);
    }
    server.query(
        "select pg_replication_origin_create('there'); \
         select pg_replication_origin_session_setup('there'); \
         begin; select pg_replication_origin_xact_setup('0/ABCD', '2020-02-02 02:02:02+00'); \
         insert into t values (8, 'h'); commit",
    );
}

fn read(server: &Server, name: SegmentName) -> Events {
    events(&server.read(name), name, size()).unwrap_or_else(|error| panic!("{name}: {error}"))
}

/// Compares one segment; what it holds.
fn check(server: &Server, name: SegmentName) -> Events {
    let found = read(server, name);
    let printed = printed(&server.waldump(name));
    let expected: Vec<&Printed> = printed.iter().filter(|one| one.what.is_event()).collect();
    assert_eq!(found.events.len(), expected.len(), "{name}: {found:?}");
    for (event, expected) in found.events.iter().zip(&expected) {
        assert_eq!(
            (event.lsn(), What::of(event)),
            (expected.lsn, expected.what.clone())
        );
        // Where the next record begins, but for the header of a page between the two.
        let next = printed.iter().find(|one| one.lsn > expected.lsn);
        let between = next.map_or(0, |next| next.lsn.get() - event.end().get());
        let page = event.end().get().is_multiple_of(8192);
        assert!(
            between == 0 || (page && [24, 40].contains(&between)),
            "{event:?}: {between}"
        );
        assert!(event.end().get() >= event.lsn().get() + expected.length);
    }
    assert_eq!(found.unreadable, [], "{name}");
    let last = printed.last().map(|one| &one.what);
    assert_eq!(
        found.ending == Ending::Switch,
        last == Some(&What::Switch),
        "{name}"
    );
    let end = name.next(size()).and_then(|next| next.start_lsn(size()));
    assert!(found.ends_at <= end.expect("a segment follows"));
    assert!(printed.iter().all(|one| one.lsn < found.ends_at));
    found
}

fn time(server: &Server) -> DateTime<Utc> {
    let now = server.query(
        "select to_char(clock_timestamp() at time zone 'UTC', \
         'YYYY-MM-DD\"T\"HH24:MI:SS.US\"Z\"')",
    );
    now.parse().expect("a time")
}

#[test]
fn every_end_of_a_transaction_is_read_as_pg_waldump_prints_it() {
    let server = Server::new();
    server.switch();
    let before = time(&server);
    work(&server);
    let after = time(&server);
    let found = check(&server, server.switch());
    assert_eq!(found.ending, Ending::Switch);
    let count = |kind: fn(&Event) -> bool| found.events.iter().filter(|one| kind(one)).count();
    // Four statements of their own; one with savepoints, one prepared, one of an origin.
    assert_eq!(
        count(|one| matches!(one, Event::Commit { .. })),
        7,
        "{found:?}"
    );
    assert_eq!(
        count(|one| matches!(one, Event::Abort { .. })),
        3,
        "{found:?}"
    );
    // What is not printed: the times of the other two.
    let restore_point = found.events.iter().find_map(|event| match event {
        Event::RestorePoint { name, time, .. } => Some((name.as_str(), *time)),
        _ => None,
    });
    let (name, at) = restore_point.expect("a restore point");
    assert_eq!(name, "before the migration");
    assert!(before <= at && at <= after, "{before} {at} {after}");
    let checkpoint = found.events.iter().rev().find_map(|event| match event {
        Event::Checkpoint { time, .. } => Some(time.format("%a %b %e %H:%M:%S %Y").to_string()),
        _ => None,
    });
    let printed = server.control_data("Time of latest checkpoint");
    assert_eq!(checkpoint, Some(printed));
}

#[test]
fn records_over_many_pages_and_from_segment_to_segment_are_read() {
    let server = Server::new();
    server.query("create table large (id int, body text)");
    server.query("alter table large alter body set storage plain");
    server.query("create table kept (id int, body text)");
    server.query("alter table kept alter body set storage external");
    for id in 0..12 {
        // One row of 200 kB, in pieces; and one record of about that size, which no page holds.
        server.query(&format!(
            "insert into kept select {id}, string_agg(md5(n::text), '') from generate_series(1, 6400) n"
        ));
        server.query(&format!(
            "select pg_logical_emit_message(true, 'walferry', repeat('x', {}))",
            200_000 + id
        ));
    }
    let last = server.switch();
    let names = server.segments(last);
    assert!(names.len() >= 5, "{names:?}");
    let mut endings = Vec::new();
    for name in &names {
        endings.push(check(&server, *name).ending);
    }
    let continued = endings.iter().filter(|end| **end == Ending::Continues);
    assert!(continued.count() >= 3, "{endings:?}");
    assert_eq!(endings.last(), Some(&Ending::Switch));
}

#[test]
fn the_first_segment_after_a_promotion_holds_records_of_both_timelines() {
    let server = Server::new();
    server.switch();
    server.query("create table before_it (n int)");
    server.query("select pg_create_restore_point('old')");
    server.promote();
    server.query("create table after_it (n int)");
    server.query("select pg_create_restore_point('new')");
    let last = server.switch();
    assert_eq!(Some(last.timeline()), TimelineId::new(2));
    let found: Vec<Events> = server
        .segments(last)
        .into_iter()
        .filter(|name| name.timeline() == last.timeline())
        .map(|name| check(&server, name))
        .collect();
    let events = found.iter().flat_map(|found| &found.events);
    let names: Vec<&str> = events
        .filter_map(|event| match event {
            Event::RestorePoint { name, .. } => Some(name.as_str()),
            _ => None,
        })
        .collect();
    // Its first segment begins with a copy of what the old timeline wrote there.
    assert_eq!(names, ["old", "new"]);
}

#[test]
fn the_segment_that_is_being_written_ends_where_wal_ends() {
    let server = Server::new();
    server.switch();
    server.query("create table t (n int)");
    server.query("select pg_create_restore_point('last')");
    let name = server.query("select pg_walfile_name(pg_current_wal_flush_lsn())");
    let found = check(&server, name.parse().expect("a segment"));
    assert_eq!(found.ending, Ending::EndOfWal);
    let end = server.query("select pg_current_wal_flush_lsn()");
    assert_eq!(found.ends_at.to_string(), end);
}

#[test]
fn the_control_file_names_the_cluster() {
    let server = Server::new();
    let file = std::fs::read(server.data().join("global/pg_control")).expect("a control file");
    let found = ControlFile::parse(&file).expect("it is one");
    let system = server.control_data("Database system identifier");
    assert_eq!(found.system_id.to_string(), system);
    assert_eq!(
        found.version.to_string(),
        server.control_data("pg_control version number")
    );
}
