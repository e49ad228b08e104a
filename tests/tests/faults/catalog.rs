//! What the catalog's server can do: nothing is deleted that it does not know as archived.

use walferry_tests::{Cut, Wire, eventually, wait};

use crate::fault::Fault;
use crate::redis::{goes_on, while_uploading};
use crate::stage::Stage;
use crate::sweep;

const FAILING: &str = r#"walferry_check_failing{check="catalog"}"#;
const NEWER: &str = "99990101000000";

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        away(
            Fault::new(
                "catalog.down_at_start",
                "programs start, say so and wait; archived once it is there",
            )
            .before(|stage| stage.world.catalog_mut().crash())
            .end(|stage| stage.world.catalog_mut().start_again()),
            "cannot be reached",
        ),
        away(
            Fault::new(
                "catalog.restarted",
                "nothing is deleted while it is away; worked on without a restart",
            )
            .begin(|stage| while_uploading(stage, |stage| stage.world.catalog_mut().crash()))
            .end(|stage| stage.world.catalog_mut().start_again()),
            "cannot be reached",
        ),
        commit(
            "catalog.cut_before_the_commit",
            "nothing was committed: done again once the lease is over",
            Cut::BeforeOrder,
        ),
        commit(
            "catalog.cut_after_the_commit",
            "it was committed: found so, nothing is stored twice",
            Cut::AfterOrder,
        ),
        away(
            Fault::new(
                "catalog.migration_missing",
                "nothing is begun before `walferry catalog migrate`",
            )
            .built(|| Stage::builder().unmigrated())
            .before(|_| {})
            .end(|stage| drop(stage.world.cli(&["catalog", "migrate"]).ok())),
            "schema lacks",
        ),
        away(newer(), NEWER),
        read_only(),
        restored(),
        away(
            Fault::new(
                "catalog.out_of_connections",
                "told by name; goes on with the first free one",
            )
            .begin(|stage| stage.world.catalog_mut().crowd_out("walferry"))
            .end(|stage| stage.world.catalog_mut().disperse()),
            "no free connection slot",
        ),
        clock("catalog.clock_an_hour_ahead", 3600),
        clock("catalog.clock_an_hour_back", -3600),
    ]
}

/// Who tells of a catalog that cannot be worked with.
fn away(fault: Fault, cause: &'static str) -> Fault {
    fault
        .told_by_readyz(cause)
        .told_by_metric(FAILING)
        .told_by_check("catalog-down", "critical", cause)
        .told_by_status(cause)
}

fn commit(name: &'static str, outcome: &'static str, cut: Cut) -> Fault {
    Fault::new(name, outcome)
        .workers(0)
        .begin(move |stage| {
            let upstream = ([127, 0, 0, 1], stage.world.catalog().port()).into();
            let wire = Wire::start(upstream, stage.world.runtime().handle());
            let straight = stage.world.environment()["DATABASE_URL"].clone();
            let port = stage.world.catalog().port().to_string();
            let through = straight.replace(&port, &wire.port().to_string());
            stage.world.set_variable("DATABASE_URL", &through);
            stage.worker(&[]);
            stage.world.set_variable("DATABASE_URL", &straight);
            stage.hand_over(2);
            goes_on(stage);
            wire.cut(cut, "COMMIT", 4);
            stage.wire = Some(wire);
        })
        .told("four commits were cut", |stage| {
            let left = stage.wire.as_ref().map(Wire::left);
            wait::is(left == Some(0), format!("{left:?}"))
        })
        .meanwhile(goes_on)
}

fn newer() -> Fault {
    Fault::new(
        "catalog.migration_newer",
        "an older program that starts does not guess; it waits",
    )
    .before(|stage| {
        let add = format!("INSERT INTO __diesel_schema_migrations (version) VALUES ('{NEWER}')");
        stage.world.rows(&add);
    })
    .end(|stage| {
        let remove = format!("DELETE FROM __diesel_schema_migrations WHERE version = '{NEWER}'");
        stage.world.rows(&remove);
    })
}

fn read_only() -> Fault {
    let set = |stage: &mut Stage, value| {
        let setting = ("default_transaction_read_only", value);
        stage.world.catalog_mut().set(&[setting]);
    };
    Fault::new(
        "catalog.read_only",
        "told although it answers; archived once it takes writes",
    )
    .begin(move |stage| set(stage, "on"))
    .told_by_readyz("read-only")
    .told_by_metric(FAILING)
    .told_by_check("catalog-read-only", "critical", "read-only")
    .told_by_status("read-only")
    .end(move |stage| set(stage, "off"))
}

/// Since the backup a segment was deleted, which the restored catalog calls archived, and two were
/// archived of which it knows nothing.
fn restored() -> Fault {
    Fault::new(
        "catalog.restored_from_yesterdays_backup",
        "retention refuses; `walferry import` adopts what it forgot",
    )
    .begin(|stage| {
        sweep::end(stage.running_worker());
        let oldest = stage.again(1).0;
        stage.world.rows(&format!(
            "UPDATE wal_files SET mtime = clock_timestamp() - interval '31 days', \
             verified_at = clock_timestamp() - interval '31 days', \
             registered_at = clock_timestamp() - interval '31 days' WHERE name = '{oldest}'"
        ));
        let catalog = stage.world.catalog_mut();
        catalog.stop();
        catalog.back_up();
        catalog.start_again();
        stage.world.cli(&["retention", "apply", "--yes"]).ok();
        stage.world.originals_mut().forget(&oldest);
        stage.worker(&[]);
        stage.hand_over(2);
        goes_on(stage);
        sweep::end(stage.running_worker());
        let catalog = stage.world.catalog_mut();
        catalog.stop();
        catalog.restore();
        catalog.start_again();
        stage.worker(&[]);
    })
    .told("retention refuses: restored from the past", |stage| {
        let shown = stage.world.cli(&["retention", "apply"]);
        let refused = shown.code == 1 && shown.stdout.contains("restored from the past");
        wait::is(refused, format!("{shown:?}"))
    })
    .told_by_check(
        "retention-not-compared",
        "warning",
        "restored from the past",
    )
    .end(|stage| drop(stage.world.cli(&["import"]).ok()))
    .after(|stage| drop(stage.world.cli(&["retention", "apply"]).ok()))
}

/// A worker dies with a claim, and the catalog's clock jumps.
fn clock(name: &'static str, seconds: i64) -> Fault {
    let outcome = if seconds > 0 {
        "claims end early; told, and all goes on"
    } else {
        "claims and delays are cut to their length; told, and all goes on"
    };
    Fault::new(name, outcome)
        .before(|stage| stage.world.catalog_mut().with_own_clock())
        .begin(move |stage| {
            while_uploading(stage, |stage| {
                stage.running_worker().kill();
                stage.world.catalog().step_clock(seconds);
            });
            stage.worker(&[]);
        })
        .told_by_check("catalog-clock", "warning", "s apart")
        .meanwhile(|stage| {
            goes_on(stage);
            eventually("the dead worker's claims are over", || {
                stage.world.leftover_claims().map_or(Ok(()), Err)
            });
        })
        .end(|stage| stage.world.catalog().step_clock(0))
}
