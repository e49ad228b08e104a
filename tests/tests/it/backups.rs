//! Base backups: taken by command and by job, whole in every cloud or not there at all.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;
use walferry_tests::environment::postgres_bin;
use walferry_tests::{
    Cloud, Fault, Intake, Postgres, Rule, User, World, WorldBuilder, eventually, process, wait,
};

/// A world, and a server in it with some tens of slices to give.
struct Protected {
    world: World,
    server: Postgres,
}

fn builder() -> WorldBuilder {
    World::builder()
        .quick_clouds()
        .setting("backup.slice_size", "1MiB")
        .setting("thresholds.directory_use", "99.99%")
}

fn protected() -> Protected {
    protected_in(builder().build())
}

fn protected_in(mut world: World) -> Protected {
    let settings = world.protected("protected", Intake::Push);
    let server = world.postgres_with(settings);
    server.pgbench_init(1);
    world.set("clusters.main.replication", &server.url("postgres"));
    Protected { world, server }
}

fn backups(world: &World) -> Value {
    let listed = world.cli(&["--json", "backups"]);
    assert_eq!(listed.code, 0, "{listed:?}");
    listed.json()
}

/// What `backups` says of a base in a cloud, the newest one is 0.
fn holding<'a>(listed: &'a Value, base: usize, cloud: &str) -> &'a Value {
    let all = listed["bases"][base]["repositories"].as_array();
    all.into_iter()
        .flatten()
        .find(|one| one["repository"] == cloud)
        .unwrap_or_else(|| panic!("no base {base} in {cloud}: {listed:#}"))
}

fn labels(listed: &Value) -> Vec<String> {
    let bases = listed["bases"].as_array().into_iter().flatten();
    bases
        .map(|base| base["label"].as_str().unwrap_or_default().to_owned())
        .collect()
}

#[track_caller]
fn await_usable(world: &World, clouds: &[&str]) -> Value {
    eventually("the newest base is usable", || {
        let listed = backups(world);
        let any = !labels(&listed).is_empty();
        let usable = |cloud: &&str| holding(&listed, 0, cloud)["usable"] == true;
        let usable = any && clouds.iter().all(usable);
        wait::is(usable, listed.clone()).map(|()| listed)
    })
}

/// Labels under which anything lies in a bucket.
fn folders(cloud: &Cloud) -> Vec<String> {
    let mut folders: Vec<String> = cloud
        .bucket()
        .keys("base/")
        .iter()
        .filter_map(|key| key.split('/').nth(1).map(str::to_owned))
        .collect();
    folders.dedup();
    folders
}

#[track_caller]
pub(crate) fn shell(folder: &Path, script: &str) {
    let mut command = Command::new("sh");
    process::run(command.current_dir(folder).args(["-e", "-c", script])).ok();
}

/// Unpacks a base from a bucket with nothing but `cat`, `gunzip` and `tar`.
pub(crate) fn unpacked(world: &World, cloud: &Cloud, label: &str) -> PathBuf {
    let folder = world.folder().join(format!("unpacked-{}", cloud.name()));
    for key in cloud.bucket().keys(&format!("base/{label}/")) {
        let path = folder.join(key.strip_prefix(&format!("base/{label}/")).unwrap_or(&key));
        std::fs::create_dir_all(path.parent().expect("a folder")).expect("make a folder");
        let object = cloud.bucket().get(&key).expect("it was listed");
        std::fs::write(&path, &object.body).expect("write an object");
    }
    shell(
        &folder,
        "mkdir data && cat base.tar/*.gz | gunzip | tar -C data -x
         for archive in [0-9]*.tar; do
             [ -d \"$archive\" ] || continue
             space=data/pg_tblspc/${archive%.tar}
             rm -f $space && mkdir -p $space
             cat $archive/*.gz | gunzip | tar -C $space -x
         done
         gunzip -c backup_manifest.gz > data/backup_manifest",
    );
    folder.join("data")
}

#[test]
fn a_base_is_whole_in_both_clouds_and_usable_as_soon_as_its_wal_is_there() {
    let Protected { mut world, server } = protected();
    let space = world.directory("space");
    User::Postgres.own(&space, None);
    server.execute(&format!(
        "CREATE TABLESPACE far LOCATION '{}'",
        space.display()
    ));
    server.execute("CREATE TABLE distant TABLESPACE far AS SELECT generate_series(1, 20000)");
    // Nobody archives yet: what PostgreSQL has handed over lies in the directory.
    let taken = world.cli(&["--json", "backup"]);
    assert_eq!(taken.code, 0, "{taken:?}");
    let taken = taken.json();
    assert_eq!(taken["outcome"], "taken");
    assert_eq!(taken["complete_in"], serde_json::json!(["r2", "b2"]));
    assert_eq!(taken["catalog_error"], Value::Null);
    let label = taken["label"].as_str().expect("a label").to_owned();
    for cloud in ["r2", "b2"] {
        let listed = backups(&world);
        let held = holding(&listed, 0, cloud);
        assert_eq!(
            (&held["state"], &held["usable"]),
            (&"complete".into(), &false.into())
        );
    }

    let worker = world.worker();
    let listed = await_usable(&world, &["r2", "b2"]);
    assert_eq!(labels(&listed), [label.as_str()]);
    for cloud in ["r2", "b2"] {
        let age =
            format!(r#"walferry_base_backup_age_seconds{{cluster="main",repository="{cloud}"}}"#);
        eventually(&age, || {
            let seen = worker.metric(&age);
            wait::is(seen.is_some_and(|age| age < 600.0), seen)
        });
    }
    let base = &listed["bases"][0];
    assert_eq!(base["system_id"], server.system_id().to_string());
    assert_eq!(base["tablespaces"], 1);
    assert_eq!(base["start_lsn"], taken["start_lsn"]);
    assert!(holding(&listed, 0, "r2")["last_segment"].is_string());
    for cloud in world.clouds() {
        let data = unpacked(&world, cloud, &label);
        assert!(
            cloud
                .bucket()
                .keys(&format!("base/{label}/base.tar/"))
                .len()
                > 10
        );
        let mut verify = Command::new(postgres_bin().join("pg_verifybackup"));
        process::run(verify.arg("-n").arg(&data)).ok();
    }
    let rows = world.rows("SELECT state, count(*) FROM base_copies GROUP BY state");
    assert_eq!(rows, [[Some("complete".to_owned()), Some("2".to_owned())]]);
    let text = world.cli(&["backups"]).ok();
    assert!(text.contains(&label) && text.contains("yes"), "{text}");

    // The buckets alone say the same.
    world.set_variable("DATABASE_URL", "postgres://nobody@127.0.0.1:1/gone");
    let blind = backups(&world);
    assert!(blind["catalog_error"].is_string(), "{blind:#}");
    assert_eq!(labels(&blind), [label.as_str()]);
    assert_eq!(holding(&blind, 0, "b2")["usable"], true);
    let said = world.cli(&["backups"]).ok();
    assert!(said.contains("WITHOUT THE CATALOG"), "{said}");
}

#[test]
fn a_cloud_that_is_down_or_stalls_is_dropped_and_gets_the_base_at_the_next_run() {
    let Protected {
        mut world,
        server: _server,
    } = protected();
    world.set("backup.stall", "2s");
    world.worker();
    let away = Rule::new(Fault::Refuse);
    let stalls = Rule::new(Fault::Blackhole).for_keys_with("base.tar/00003");
    for (rule, bases) in [(away, 1), (stalls, 2)] {
        world.cloud("b2").proxy().fault(rule);
        let taken = world.cli(&["--json", "backup"]);
        assert_eq!(taken.code, 1, "{taken:?}");
        let taken = taken.json();
        assert_eq!(taken["complete_in"], serde_json::json!(["r2"]), "{taken:#}");
        assert_eq!(taken["dropped"][0]["repository"], "b2");
        world.cloud("b2").proxy().pass();
        let listed = await_usable(&world, &["r2"]);
        assert_eq!(holding(&listed, 0, "b2")["state"], "dropped");
        assert_eq!(holding(&listed, 0, "b2")["usable"], false);
        eventually("check tells it", || {
            let check = world.cli(&["check"]);
            let told = check.stdout.contains("base-backup-behind");
            wait::is(told && check.code == 1, check)
        });

        let next = world.cli(&["--json", "backup"]);
        assert_eq!(next.code, 0, "{next:?}");
        let next = next.json();
        assert_eq!(next["copied"][0]["label"], taken["label"], "{next:#}");
        assert_eq!(next["copied"][0]["repository"], "b2");
        let listed = await_usable(&world, &["r2", "b2"]);
        assert_eq!(labels(&listed).len(), bases * 2);
        assert_eq!(holding(&listed, 1, "b2")["state"], "complete");
    }
    let check = world.cli(&["check"]).stdout;
    assert!(!check.contains("base-backup-behind"), "{check}");
}

/// The job as the queue has it.
fn job(world: &World) -> Value {
    let states = ["ready", "delayed", "leased", "dead", "done"];
    let jobs = states.map(|state| {
        world
            .cli(&["--json", "queue", "ls", "--state", state])
            .json()
    });
    let mut all = jobs.iter().filter_map(Value::as_array).flatten();
    let job = all.find(|job| job["name"] == "base-backup");
    job.unwrap_or_else(|| panic!("no such job: {jobs:#?}"))
        .clone()
}

#[test]
fn a_worker_that_is_killed_midway_leaves_remains_which_the_next_attempt_removes() {
    let Protected {
        world,
        server: _server,
    } = protected();
    let gate = world.cloud("b2").proxy().hold("PUT", "base.tar/00002");
    let worker = world.worker();
    world.cli(&["enqueue", "base-backup"]).ok();
    gate.await_waiting(1);
    worker.kill();
    let remains = folders(world.cloud("r2"));
    assert_eq!(remains.len(), 1, "a base had begun");
    assert!(labels(&backups(&world)).contains(&remains[0]));
    gate.open();
    world.worker();
    let listed = await_usable(&world, &["r2", "b2"]);
    assert_eq!(labels(&listed).len(), 1, "{listed:#}");
    assert_ne!(labels(&listed), remains);
    for cloud in world.clouds() {
        assert_eq!(folders(cloud), labels(&listed), "{}", cloud.name());
    }
    assert_eq!(job(&world)["attempts"], 2);
}

#[test]
fn a_drain_costs_no_attempt_leaves_nothing_behind_and_the_base_begins_anew() {
    let Protected {
        world,
        server: _server,
    } = protected();
    let gate = world.cloud("b2").proxy().hold("PUT", "base.tar/00002");
    let worker = world.worker();
    world.cli(&["enqueue", "base-backup"]).ok();
    gate.await_waiting(1);
    worker.terminate();
    assert!(worker.wait().success());
    assert_eq!(folders(world.cloud("r2")), [""; 0]);
    let given_back = job(&world);
    assert_eq!(given_back["attempts"], 0, "{given_back:#}");
    assert_eq!(given_back["state"], "ready");
    assert_eq!(world.number("SELECT failures FROM base_runs"), 0);
    gate.open();
    world.worker();
    let listed = await_usable(&world, &["r2", "b2"]);
    assert_eq!(labels(&listed).len(), 1);
}

#[test]
fn the_scheduler_enqueues_it_for_each_cluster_and_one_run_at_a_time_takes_it() {
    let world = builder()
        .setting("scheduler.cron.base_backup", "*/2 * * * * *")
        .build();
    let Protected {
        world,
        server: _server,
    } = protected_in(world);
    world.worker();
    world.worker();
    let scheduler = world.scheduler();
    eventually("two bases were taken", || {
        let taken = world.number("SELECT count(*) FROM bases");
        wait::is(taken >= 2, taken)
    });
    scheduler.terminate();
    scheduler.wait();
    await_usable(&world, &["r2", "b2"]);
    let overlapping = "SELECT count(*) FROM bases a JOIN bases b \
         ON a.label < b.label AND b.started_at < a.stopped_at";
    assert_eq!(world.number(overlapping), 0);

    // While one run is under way another one steps back.
    let gate = world.cloud("r2").proxy().hold("PUT", "base.tar/00001");
    world.cli(&["enqueue", "base-backup"]).ok();
    gate.await_waiting(1);
    let second = world.cli(&["--json", "backup"]);
    assert_eq!(
        (second.code, &second.json()["outcome"]),
        (1, &"busy".into())
    );
    gate.open();
}

#[test]
fn without_a_server_the_job_is_done_and_one_that_is_away_is_told_by_check() {
    let mut world = builder().build();
    let worker = world.worker();
    world.cli(&["enqueue", "base-backup"]).ok();
    worker.await_log("no server is configured");
    eventually("the job is done", || {
        let job = job(&world);
        wait::is(job["state"] == "done", job)
    });
    assert_eq!(
        world.number("SELECT count(*) FROM base_runs WHERE outcome = 'no-server'"),
        1
    );
    let check = world.cli(&["check"]).stdout;
    assert!(!check.contains("base-backup-failed"), "{check}");
    worker.terminate();
    worker.wait();

    world.set(
        "clusters.main.replication",
        "postgres://nobody@127.0.0.1:1/postgres",
    );
    world.set("queue.retry_base", "200ms");
    let worker = world.worker();
    world.cli(&["enqueue", "base-backup"]).ok();
    eventually("it was tried more than once", || {
        let failures = world.number("SELECT failures FROM base_runs");
        wait::is(failures > 1, failures)
    });
    let check = world.cli(&["check"]).stdout;
    assert_eq!(check.matches("base-backup-failed").count(), 1, "{check}");
    let told = world.rows("SELECT 1 FROM events WHERE code = 'base-backup-failed'");
    assert_eq!(told.len(), 1, "once, however often it fails");
    worker.terminate();
    worker.wait();
}

#[test]
fn a_base_is_kept_in_every_cloud_until_a_time_or_for_ever() {
    let Protected {
        world,
        server: _server,
    } = protected();
    let taken = world.cli(&["--json", "backup"]).json();
    let label = taken["label"].as_str().expect("a label").to_owned();
    let key = format!("base/{label}/keep.json");
    let kept = |world: &World| {
        let base = &backups(world)["bases"][0];
        (base["keep"].clone(), base["keep_until"].clone())
    };
    assert_eq!(kept(&world), (false.into(), Value::Null));
    world.cli(&["backups", "keep", &label]).ok();
    assert_eq!(kept(&world), (true.into(), Value::Null));
    let until = "2035-01-01 01:00:00+01";
    world
        .cli(&["backups", "keep", &label, "--until", until])
        .ok();
    assert_eq!(kept(&world), (true.into(), "2035-01-01T00:00:00Z".into()));
    for cloud in world.clouds() {
        assert!(cloud.bucket().head(&key).is_some(), "{}", cloud.name());
    }
    let rows = world.rows("SELECT keep_until = '2035-01-01 00:00:00+00' FROM bases WHERE keep");
    assert_eq!(rows, [[Some("t".to_owned())]]);
    world.cli(&["backups", "keep", &label, "--off"]).ok();
    assert_eq!(kept(&world), (false.into(), Value::Null));
    assert!(world.cloud("b2").bucket().head(&key).is_none());

    for (arguments, code, why) in [
        (&["--until", "2020-01-01 00:00:00+00"][..], 1, "has passed"),
        (&["--until", "2035-01-01 00:00:00"][..], 2, "with its zone"),
    ] {
        let mut all = vec!["backups", "keep", label.as_str()];
        all.extend(arguments);
        let said = world.cli(&all).fails_with(code);
        assert!(said.contains(why), "{said}");
    }
    let unknown = world.cli(&["backups", "keep", "20200101T000000Z"]);
    assert_eq!(unknown.code, 1, "{unknown:?}");
}

#[test]
fn a_history_that_no_cloud_has_is_asked_of_the_server() {
    let mut world = builder().build();
    // The old system's command hands over nothing but what PostgreSQL makes from now on.
    let settings = world
        .protected("protected", Intake::Cp)
        .option("archive_mode", "off")
        .option("restore_command", "false");
    let mut server = world.postgres_with(settings);
    server.pgbench_init(1);
    server.stop();
    let signal = server.data().join("recovery.signal");
    std::fs::write(&signal, "").expect("write recovery.signal");
    User::Postgres.own(&signal, None);
    server.start_again();
    eventually("the server is on timeline 2", || {
        let name = server.try_query("SELECT pg_walfile_name(pg_current_wal_lsn())")?;
        let name = name[0][0].clone().unwrap_or_default();
        wait::is(name.starts_with("00000002"), name)
    });
    server.set(&[("archive_mode", "on")]);
    server.stop();
    server.start_again();
    world.set("clusters.main.replication", &server.url("postgres"));
    world.worker();
    server.switch();
    let taken = world.cli(&["--json", "backup"]);
    assert_eq!(taken.code, 0, "{taken:?}");
    assert_eq!(taken.json()["histories"], serde_json::json!([2]));
    for cloud in world.clouds() {
        let found = cloud.bucket().head("wal/00000002.history.gz");
        assert!(found.is_some(), "{}", cloud.name());
    }
    let status = world.rows("SELECT status FROM wal_files WHERE name = '00000002.history'");
    assert_eq!(status, [[Some("VERIFIED".to_owned())]]);
    assert_eq!(
        world.number("SELECT count(*) FROM histories WHERE timeline = 2"),
        1
    );
    await_usable(&world, &["r2", "b2"]);
    // Now they have it, and it is the same.
    let again = world.cli(&["--json", "backup"]).json();
    assert_eq!(again["histories"], serde_json::json!([]));
}

#[test]
fn a_server_that_is_another_system_than_the_archive_gives_no_base() {
    let Protected {
        mut world,
        server: _server,
    } = protected();
    world.cli(&["backup"]).ok();
    let stranger = world.postgres_with(world.protected("stranger", Intake::Push));
    world.set("clusters.main.replication", &stranger.url("postgres"));
    let said = world.cli(&["backup"]).fails_with(1);
    assert!(said.contains("is system"), "{said}");
    assert_eq!(labels(&backups(&world)).len(), 1);
    world.set_variable("DATABASE_URL", "postgres://nobody@127.0.0.1:1/gone");
    let said = world.cli(&["backup"]).fails_with(1);
    assert!(
        said.contains("belongs to system"),
        "also without the catalog: {said}"
    );
}

/// Two bases, which ended so many days ago.
fn aged(world: &World, days: [u32; 2]) -> [String; 2] {
    let labels = days.map(|_| {
        let taken = world.cli(&["--json", "backup"]);
        assert_eq!(taken.code, 0, "{taken:?}");
        taken.json()["label"].as_str().expect("a label").to_owned()
    });
    for (label, days) in labels.iter().zip(days) {
        world.rows(&format!(
            "UPDATE bases SET started_at = started_at - interval '{days} days', \
                stopped_at = stopped_at - interval '{days} days' WHERE label = '{label}'"
        ));
    }
    labels
}

#[test]
fn a_base_goes_as_a_unit_when_a_newer_one_recovers_the_whole_window() {
    let Protected {
        world,
        server: _server,
    } = protected();
    world.worker();
    let [old, newer] = aged(&world, [40, 35]);
    await_usable(&world, &["r2", "b2"]);
    let plan = |arguments: &[&str]| {
        let mut all = vec!["--json", "retention", "plan"];
        all.extend(arguments);
        world.cli(&all).json()[0]["prefixes"][0]["bases"].clone()
    };
    world.cli(&["backups", "keep", &old]).ok();
    assert_eq!(plan(&[]), serde_json::json!([]), "a person keeps it");
    world.cli(&["backups", "keep", &old, "--off"]).ok();
    assert_eq!(plan(&["--min-bases", "2"]), serde_json::json!([]));
    let planned = plan(&[]);
    assert_eq!(planned[0]["label"], old, "{planned:#}");
    assert_eq!(planned[0]["repositories"], serde_json::json!(["b2", "r2"]));
    let why = planned[0]["reason"].as_str().unwrap_or_default();
    assert!(why.contains(&newer), "{why}");

    // A mark that the catalog has not heard of yet.
    let mark = format!("base/{old}/keep.json");
    world.cli(&["backups", "keep", &old]).ok();
    world.rows("UPDATE bases SET keep = false");
    world.cli(&["retention", "apply"]).ok();
    assert_eq!(
        folders(world.cloud("r2")).len(),
        2,
        "the bucket's word counts"
    );
    world.cli(&["backups", "keep", &old, "--off"]).ok();
    for cloud in world.clouds() {
        assert!(cloud.bucket().head(&mark).is_none());
    }

    let applied = world.cli(&["retention", "apply"]).ok();
    assert!(
        applied.contains(&format!("base backup {old} deleted from r2")),
        "{applied}"
    );
    for cloud in world.clouds() {
        assert_eq!(folders(cloud), [newer.as_str()], "{}", cloud.name());
    }
    let removed = world.rows("SELECT DISTINCT b.label FROM base_copies c JOIN bases b ON b.id = c.base_id WHERE c.state = 'removed'");
    assert_eq!(removed, [[Some(old)]]);
    // The newest one stays however old it is.
    world.rows("UPDATE bases SET stopped_at = stopped_at - interval '300 days', started_at = started_at - interval '300 days'");
    world.cli(&["retention", "apply"]).ok();
    assert_eq!(folders(world.cloud("b2")), [newer.as_str()]);
    await_usable(&world, &["r2", "b2"]);
}
