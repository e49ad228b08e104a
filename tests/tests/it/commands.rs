//! What operators and scripts see: exit codes, and the stable shapes of `--json`.

use serde_json::{Map, Value};
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Process, User, World, eventually, process, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_007,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// A JSON value with its scalars replaced by their types and its lists cut to
/// their first element: what a script may rely on.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(list) => Value::Array(list.first().map(shape).into_iter().collect()),
        Value::Object(fields) => {
            let fields: Map<_, _> = fields.iter().map(|(k, v)| (k.clone(), shape(v))).collect();
            Value::Object(fields)
        }
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(value).expect("JSON")
}

#[test]
fn json_has_the_documented_shapes() {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    for number in [1, 2, 4] {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.place("not-a-wal-file", b"x");
    world.await_archived();
    eventually("the file that is not WAL is listed", || {
        let suspects = world.cli(&["--json", "quarantine", "ls"]).json();
        match suspects.as_array() {
            Some(list) if !list.is_empty() => Ok(()),
            _ => Err(suspects),
        }
    });
    eventually(
        "the clouds' health is reported, and retention has run",
        || {
            let status = world.cli(&["--json", "status"]).json();
            let cluster = &status["clusters"][0];
            let ran = cluster["retention"]["outcome"].is_string();
            match cluster["repositories"].as_array() {
                Some(list)
                    if ran
                        && !list.is_empty()
                        && list.iter().all(|one| one["since"].is_string()) =>
                {
                    Ok(())
                }
                _ => Err(cluster.clone()),
            }
        },
    );
    world.cli(&["queue", "pause"]).ok();
    world.cli(&["enqueue", "continuous-wal-archiving"]).ok();
    for arguments in [
        &["status"][..],
        &["ls"],
        &["gaps"],
        &["quarantine", "ls"],
        &["queue", "ls"],
        &["queue", "stats"],
        &["workers"],
        &["check"],
        &["retention", "plan"],
        &["config", "check"],
    ] {
        let finished = world.cli(&[&["--json"], arguments].concat());
        insta::assert_snapshot!(arguments.join("_"), pretty(&shape(&finished.json())));
    }
}

#[test]
fn gaps_names_the_missing_segment_and_exits_1() {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    for number in [1, 2, 4, 5] {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Empty));
    }
    world.await_archived();
    let gaps = world.cli(&["--json", "gaps"]);
    assert_eq!(gaps.code, 1, "{gaps:?}");
    let gaps = gaps.json();
    assert_eq!(gaps.as_array().map(Vec::len), Some(1), "{gaps}");
    assert_eq!(gaps[0]["first"], MAKER.name(3).as_str());
    assert_eq!(gaps[0]["last"], MAKER.name(3).as_str());
    world.hand_over(&MAKER.name(3), &MAKER.bytes(3, Fill::Empty));
    world.await_archived();
    world.cli(&["gaps"]).ok();
}

#[test]
fn with_the_catalog_down_status_says_unknown_and_exits_non_zero() {
    let mut world = World::builder().quick_clouds().build();
    world.catalog_mut().crash();
    let status = world.cli(&["status"]);
    assert_eq!(status.code, 1, "{status:?}");
    assert!(
        status.stdout.to_lowercase().contains("unknown"),
        "{status:?}"
    );
    let check = world.cli(&["check", "--nagios"]);
    assert!((2..=3).contains(&check.code), "{check:?}");
}

#[test]
fn a_quarantined_file_is_put_aside_and_never_deleted() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("archive.not_yet", "1s")
        .setting("scheduler.archive_interval", "1s")
        .build();
    world.worker();
    world.scheduler();
    let short = &MAKER.bytes(1, Fill::Light)[..1000];
    world.place(&MAKER.name(1), short);
    eventually("the short file is an error by now", || {
        let suspects = world.cli(&["--json", "quarantine", "ls"]).json();
        match suspects.get(0) {
            Some(suspect)
                if suspect["name"] == MAKER.name(1).as_str() && suspect["critical"] == true =>
            {
                Ok(())
            }
            _ => Err(suspects),
        }
    });
    world.cli(&["quarantine", "move", &MAKER.name(1)]).ok();
    let aside = world.archive().join("quarantine").join(MAKER.name(1));
    assert_eq!(std::fs::read(aside).expect("put aside"), short);
    // PostgreSQL hands it over again, whole this time.
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Light));
    world.await_archived();
}

#[test]
fn a_dead_letter_is_shown_retried_and_done() {
    let world = World::builder().quick_clouds().build();
    world.cli(&["queue", "pause"]).ok();
    let added = world
        .cli(&["--json", "enqueue", "continuous-wal-archiving"])
        .json();
    let id = added["id"].as_str().expect("an id").to_owned();
    world.cli(&["queue", "kill", &id]).ok();
    let dead = world
        .cli(&["--json", "queue", "ls", "--state", "dead"])
        .json();
    assert_eq!(dead[0]["id"], id.as_str(), "{dead}");
    assert!(dead[0]["error"].is_string(), "{dead}");

    world.worker();
    world.cli(&["queue", "retry", &id]).ok();
    let waiting = world.cli(&["--json", "queue", "show", &id]).json();
    assert_eq!(
        waiting["state"], "ready",
        "a paused queue hands nothing out: {waiting}"
    );
    world.cli(&["queue", "resume"]).ok();
    eventually("the job is done", || {
        let job = world.cli(&["--json", "queue", "show", &id]).json();
        if job["state"] == "done" {
            Ok(())
        } else {
            Err(job)
        }
    });
}

/// The documents that a program has printed one after the other.
fn documents(program: &Process) -> Vec<Value> {
    let text = program.stdout();
    let all = serde_json::Deserializer::from_str(&text).into_iter::<Value>();
    // The last one may be half printed.
    all.map_while(Result::ok).collect()
}

#[test]
fn status_watch_goes_on_through_an_outage_of_the_catalog() {
    let mut world = World::builder().quick_clouds().build();
    world.worker();
    world.hand_over(&MAKER.name(1), &MAKER.bytes(1, Fill::Empty));
    world.await_archived();
    let mut command = User::Walferry.command(world.program_path("walferry"));
    process::environment(&mut command, world.environment());
    command
        .current_dir(world.folder())
        .args(["--json", "status", "--watch"]);
    let mut watch = Process::spawn("watch", &world.folder().join("logs"), &mut command);
    let await_last = |watch: &Process, what: &str, is: &dyn Fn(&Value) -> bool| {
        let before = documents(watch).len();
        eventually(what, || {
            let all = documents(watch);
            let last = all.last().cloned().unwrap_or_default();
            wait::is(all.len() > before && is(&last), last.clone())
        });
    };
    let good = |status: &Value| {
        status["clusters"][0]["verified"] == 1 && status["unknown"] == Value::Array(Vec::new())
    };
    await_last(&watch, "it shows the archive", &good);
    await_last(&watch, "and renews it", &good);
    world.catalog_mut().crash();
    await_last(&watch, "it says that the catalog is away", &|status| {
        let unknown = status["unknown"][0].as_str().unwrap_or_default();
        unknown.contains("catalog") && status["clusters"] == Value::Array(Vec::new())
    });
    world.catalog_mut().start_again();
    await_last(&watch, "and shows the archive again", &good);
    assert!(watch.running());
    watch.kill();
}
