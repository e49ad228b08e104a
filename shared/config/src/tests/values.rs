use std::fmt::Debug;
use std::time::Duration;

use super::Given;
use crate::problem::Refusal;
use crate::value::{address, boolean, bytes, duration, mode, redacted_url, share, span_text};
use crate::{Archive, Backup, Log, Scheduler, Share, Spool, SpoolLimit, Worker, parse_rate};

fn check<T: Debug + PartialEq>(
    parse: impl Fn(&str) -> Result<T, Refusal>,
    cases: &[(&str, T)],
    wrong: &[&str],
) {
    for (text, value) in cases {
        assert_eq!(parse(text).as_ref(), Ok(value), "{text}");
    }
    for text in wrong {
        assert!(
            parse(text).is_err(),
            "{text} was accepted as {:?}",
            parse(text)
        );
    }
}

#[test]
fn a_duration_has_a_unit() {
    check(
        duration(Duration::from_millis(1), Duration::from_secs(86_400 * 60)),
        &[
            ("500ms", Duration::from_millis(500)),
            ("300s", Duration::from_secs(300)),
            ("5m", Duration::from_secs(300)),
            ("5 min", Duration::from_secs(300)),
            ("1h", Duration::from_secs(3_600)),
            ("30d", Duration::from_secs(30 * 86_400)),
        ],
        &[
            "300",
            "",
            "s",
            "-5s",
            "1.5h",
            "5 minutes",
            "0s",
            "99999999999999999999s",
            "61d",
            "5s 3m",
        ],
    );
}

#[test]
fn a_duration_is_written_as_it_is_read() {
    for text in ["1ms", "1500ms", "90s", "5m", "6h", "30d"] {
        let read = duration(Duration::ZERO, Duration::MAX)(text).unwrap();
        assert_eq!(span_text(read), text);
    }
}

#[test]
fn a_size_has_a_unit() {
    check(
        bytes(1),
        &[
            ("64MiB", 64 << 20),
            ("50GB", 50_000_000_000),
            ("1B", 1),
            ("2 GiB", 2 << 30),
        ],
        &["64", "0B", "64M", "MiB", "99999999999TiB", "-1B"],
    );
}

#[test]
fn a_share_is_more_than_nothing_and_at_most_all() {
    let get = |text: &str| share(text).map(Share::get);
    check(
        get,
        &[
            ("80%", 0.8),
            ("0.8", 0.8),
            ("100%", 1.0),
            ("1", 1.0),
            ("0.5 %", 0.005),
        ],
        &["0", "0%", "80", "101%", "-1%", "NaN", "inf", "%", ""],
    );
}

#[test]
fn a_file_mode_lets_the_owner_read_and_write_and_others_never_write() {
    check(
        mode,
        &[
            ("0640", 0o640),
            ("640", 0o640),
            ("0o600", 0o600),
            ("0644", 0o644),
            ("0660", 0o660),
        ],
        &["0777", "0666", "0440", "0740", "4640", "8", "", "-640"],
    );
}

#[test]
fn truth_and_addresses_are_read_as_people_write_them() {
    check(
        boolean,
        &[("true", true), ("off", false), ("1", true)],
        &["", "maybe", "TRUE!"],
    );
    check(
        |text| address(text).map(|address| address.to_string()),
        &[
            ("localhost:0", "127.0.0.1:0".to_owned()),
            ("[::]:9847", "[::]:9847".to_owned()),
        ],
        &[
            "9847",
            ":9847",
            "example.com:1",
            "127.0.0.1",
            "127.0.0.1:70000",
        ],
    );
}

#[test]
fn health_ports_are_on_loopback_unless_said_otherwise() {
    let given = Given::old_system();
    let worker = given.get::<Worker>().unwrap().health_address;
    let scheduler = given.get::<Scheduler>().unwrap().health_address;
    assert!(worker.ip().is_loopback(), "{worker}");
    assert!(scheduler.ip().is_loopback(), "{scheduler}");
}

#[test]
fn a_url_is_shown_without_user_password_and_query() {
    for (text, shown) in [
        (
            "postgres://u:p@h:5433/db?password=p&sslmode=verify-full",
            "postgres://***@h:5433/db?***",
        ),
        ("redis://:p@h/0", "redis://***@h/0"),
        ("rediss://h", "rediss://h"),
        ("host=h password=p", "***"),
        ("key:secret@h", "***"),
        ("postgres://u:1/secret@h/db", "***"),
        ("postgres://u:/secret@h/db", "***"),
        ("redis://:1?secret@h", "***"),
        ("redis://u:p@1#secret@h", "***"),
        ("", "***"),
    ] {
        assert_eq!(redacted_url(text), shown, "{text}");
    }
}

fn cron(expression: &str) -> Result<Vec<String>, String> {
    let file = format!("[scheduler.cron]\nbase-backup = 'off'\nretention = '{expression}'");
    match Given::nothing().file(&file).get::<Scheduler>() {
        Ok(scheduler) => Ok(scheduler
            .cron
            .values()
            .map(|schedule| {
                let from = "2026-01-01T00:00:00Z"
                    .parse::<chrono::DateTime<chrono::Utc>>()
                    .unwrap();
                schedule.after(&from).next().unwrap().to_rfc3339()
            })
            .collect()),
        Err(problems) => Err(problems.to_string()),
    }
}

#[test]
fn a_cron_expression_is_read_as_a_crontab_would() {
    assert_eq!(cron("30 3 * * *").unwrap(), ["2026-01-01T03:30:00+00:00"]);
    assert_eq!(
        cron("15 30 3 * * *").unwrap(),
        ["2026-01-01T03:30:15+00:00"]
    );
    // 1 January 2026 is a Thursday.
    assert_eq!(cron("0 3 * * MON").unwrap(), ["2026-01-05T03:00:00+00:00"]);
    assert_eq!(cron("off").unwrap(), Vec::<String>::new());
}

#[test]
fn a_week_day_by_number_is_refused_because_crates_and_crontabs_disagree() {
    assert!(cron("0 3 * * 1").unwrap_err().contains("write SUN, MON"));
    for wrong in ["", "hourly", "* * * *", "61 * * * *", "0 0 30 2 *"] {
        assert!(cron(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_job_that_is_not_periodic_is_refused_by_every_program_and_not_by_the_scheduler_alone() {
    let given = Given::old_system().file("[scheduler.cron]\nbackfill = '0 4 * * *'");
    let config = given.load().unwrap();
    for problems in [config.check().unwrap_err(), config.scheduler().unwrap_err()] {
        let problems = given.stable(&problems.to_string());
        let told = "`scheduler.cron.backfill` (<DIRECTORY>/walferry.toml:2): no periodic job has this name\n  HINT: the periodic jobs are: base-backup, retention";
        assert!(problems.contains(told), "{problems}");
    }
}

#[test]
fn the_limit_of_the_directory_is_a_size_a_share_or_none() {
    let limit = |text: &str| {
        Given::nothing()
            .set(&format!("spool.limit={text}"))
            .get::<Spool>()
    };
    assert_eq!(
        limit("50GiB").unwrap().limit,
        Some(SpoolLimit::Bytes(50 << 30))
    );
    assert!(
        matches!(limit("90%").unwrap().limit, Some(SpoolLimit::Share(share)) if share.get() == 0.9)
    );
    assert_eq!(limit("none").unwrap().limit, None);
    let default = Given::nothing().get::<Spool>().unwrap().limit;
    assert!(matches!(default, Some(SpoolLimit::Share(share)) if share.get() == 0.95));
    for wrong in ["1KiB", "0%", "lots", "90"] {
        assert!(limit(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn the_limit_of_the_directory_counts_for_room_and_use_where_it_is_nearer() {
    let spool = |limit: &str| {
        let given = Given::nothing().set(&format!("spool.limit={limit}"));
        given.get::<Spool>().unwrap()
    };
    let mib = |n: u64| n << 20;
    // 40 MiB of files on a file system of 1000 MiB, of which 800 are free.
    for (limit, room, used) in [
        ("none", mib(800), 0.2),
        ("50MiB", mib(10), 0.8),
        ("30MiB", 0, 4.0 / 3.0),
        ("5GiB", mib(800), 0.2),
        ("90%", mib(700), 0.2),
        ("15%", 0, 0.2),
    ] {
        let spool = spool(limit);
        let seen = spool.room(mib(40), mib(1000), mib(800));
        assert!(seen.abs_diff(room) <= 1, "{limit}: {seen}");
        let seen = spool.used(mib(40), mib(1000), mib(800));
        assert!((seen - used).abs() < 1e-9, "{limit}: {seen}");
    }
}

#[test]
fn deletion_after_one_copy_is_off_unless_a_high_water_mark_is_set() {
    let mark = |given: Given| given.get::<Archive>().unwrap().delete_after_one_copy_above;
    assert_eq!(mark(Given::nothing()), None);
    let set = mark(Given::nothing().set("archive.delete_after_one_copy_above=85%"));
    assert_eq!(set.map(Share::get), Some(0.85));
}

#[test]
fn what_is_packed_in_one_buffer_is_at_most_64_mib() {
    let archive = |threshold: &str| {
        Given::nothing()
            .set(&format!("archive.streaming_threshold={threshold}"))
            .set("archive.memory_limit=1GiB")
            .get::<Archive>()
    };
    for (threshold, size) in [("1MiB", 1 << 20), ("64MiB", 64 << 20)] {
        assert_eq!(archive(threshold).unwrap().streaming_threshold, size);
    }
    for wrong in ["65MiB", "1GiB", "1KiB"] {
        assert!(archive(wrong).is_err(), "{wrong}");
    }
}

#[test]
fn a_log_level_that_does_not_exist_is_refused() {
    for (level, good) in [
        ("info", true),
        ("info,walferry_queue=debug", true),
        ("inof", false),
        ("walferry=loud", false),
    ] {
        let log = Given::nothing()
            .variable("WALFERRY_LOG_LEVEL", level)
            .get::<Log>();
        assert_eq!(log.is_ok(), good, "{level}");
    }
}

#[test]
fn the_rate_of_a_base_backup_has_postgresqls_bounds_and_unit() {
    let rate = |text: &str| {
        let given = Given::nothing().set(&format!("backup.max_rate={text}"));
        given.get::<Backup>().map(|backup| backup.max_rate)
    };
    assert_eq!(rate("none").unwrap(), None);
    assert_eq!(rate("64MiB").unwrap().unwrap().get(), 64 << 10);
    assert_eq!(rate("32KiB").unwrap().unwrap().get(), 32);
    for wrong in ["31KiB", "2GiB", "100", "fast"] {
        assert!(rate(wrong).is_err(), "{wrong}");
    }
    assert!(parse_rate("1KiB").unwrap_err().contains("at least 32768B"));
}
