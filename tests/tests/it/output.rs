//! What people and scripts see of every command: texts, and the shapes of `--json`, as they
//! stand in the snapshots and in `docs/json.md`.

use std::path::Path;

use serde_json::{Map, Value};
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{Fault, World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_033,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// A value with its scalars replaced by their types; of a list all elements are laid over one
/// another, so that a field that only one of them has is seen.
fn shape(value: &Value) -> Value {
    match value {
        Value::Null => "null".into(),
        Value::Bool(_) => "bool".into(),
        Value::Number(_) => "number".into(),
        Value::String(_) => "string".into(),
        Value::Array(list) => Value::Array(
            list.iter()
                .map(shape)
                .reduce(laid_over)
                .into_iter()
                .collect(),
        ),
        Value::Object(fields) => {
            let fields: Map<_, _> = fields.iter().map(|(k, v)| (k.clone(), shape(v))).collect();
            Value::Object(fields)
        }
    }
}

fn laid_over(one: Value, other: Value) -> Value {
    match (one, other) {
        (Value::Object(mut one), Value::Object(other)) => {
            for (name, value) in other {
                let merged = match one.remove(&name) {
                    Some(known) => laid_over(known, value),
                    None => value,
                };
                one.insert(name, merged);
            }
            Value::Object(one)
        }
        (Value::Array(one), Value::Array(other)) => {
            let all = one.into_iter().chain(other);
            Value::Array(all.reduce(laid_over).into_iter().collect())
        }
        (Value::String(known), other) if known == "null" => other,
        (known, _) => known,
    }
}

fn pretty(value: &Value) -> String {
    serde_json::to_string_pretty(&shape(value)).expect("JSON")
}

/// A text without what differs from run to run: the world's folder and numbers; columns are
/// as wide as their widest cell, so their padding goes too.
fn plain(world: &World, text: &str) -> String {
    let text = text.replace(&world.folder().display().to_string(), "[world]");
    let mut plain = String::new();
    for line in text.lines() {
        let words: Vec<String> = line.split(' ').map(word).collect();
        let mut line = words.join(" ");
        while line.trim_start().contains("  ") {
            let indent = line.len() - line.trim_start().len();
            let (head, tail) = line.split_at(indent);
            line = format!("{head}{}", tail.replace("  ", " "));
        }
        for (long, short) in [("# min # s", "# s"), ("# min", "# s")] {
            line = line.replace(long, short);
        }
        plain.push_str(line.trim_end());
        plain.push('\n');
    }
    plain
}

fn word(word: &str) -> String {
    let core = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let hex = |text: &str| text.chars().all(|c| c.is_ascii_hexdigit());
    let is_wal = core.len() >= 24 && hex(&core[..24]) && core.starts_with("0000000");
    if is_wal {
        return word.to_owned();
    }
    if core.len() >= 32 && core.chars().all(|c| c.is_ascii_hexdigit() || c == '-') {
        return word.replace(core, "[id]");
    }
    let mut shown = String::new();
    for c in word.chars() {
        match c {
            '0'..='9' if shown.ends_with('#') => {}
            '0'..='9' => shown.push('#'),
            c => shown.push(c),
        }
    }
    shown.replace("#.#", "#")
}

#[test]
fn the_text_of_every_command_that_shows_something_is_as_in_its_snapshot() {
    let mut world = World::builder()
        .quick_clouds()
        .setting("thresholds.directory_use", "99.99%")
        .build();
    world.worker();
    for number in [1, 2, 4] {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.place("not-a-wal-file", b"x");
    world.await_archived();
    // What a scan saw before the last deletion stays until the next one.
    world.cli(&["enqueue", "continuous-wal-archiving"]).ok();
    eventually("everything is reported", || {
        let status = world.cli(&["--json", "status"]).json();
        let cluster = &status["clusters"][0];
        let asked = cluster["repositories"]
            .as_array()
            .is_some_and(|all| all.len() == 2 && all.iter().all(|one| one["breaker"] == "closed"));
        let known =
            cluster["suspects"][0].is_object() && cluster["retention"]["outcome"].is_string();
        let idle = status["workers"][0]["jobs"] == Value::Array(Vec::new());
        let scanned = cluster["directories"][0]["files"] == 1;
        wait::is(asked && known && idle && scanned, status)
    });
    // What is known, by name and number.
    let status = world.cli(&["--json", "status"]).json();
    let cluster = &status["clusters"][0];
    let all = cluster["reach"]
        .as_array()
        .and_then(|reach| reach.iter().find(|one| one["repository"] == "all"));
    let all = all.expect("what every repository has");
    assert_eq!(all["last"], MAKER.name(2).as_str(), "up to the gap: {all}");
    assert!(all["last_closed_at"].is_string(), "{all}");
    assert_eq!(cluster["verified"], 3);
    assert_eq!(cluster["backlog_files"], 0);
    assert_eq!(cluster["eta_seconds"], 0);
    assert_eq!(status["workers"].as_array().map(Vec::len), Some(1));
    assert!(cluster["directories"][0]["used"].is_number());

    world.cli(&["queue", "pause"]).ok();
    let job = ["enqueue", "continuous-wal-archiving", "--priority", "7"];
    let id = world.cli(&[&["--json"], &job[..]].concat()).json()["id"].clone();
    let id = id.as_str().expect("an id").to_owned();
    let worker = status["workers"][0].clone();
    let (name, host) = (
        worker["id"].as_str().expect("id"),
        worker["host"].as_str().expect("host"),
    );
    for (snapshot, arguments) in [
        ("status", &["status"][..]),
        ("ls", &["ls"]),
        (
            "ls_verified",
            &[
                "ls",
                "--status",
                "VERIFIED",
                "--from",
                &MAKER.name(2),
                "--limit",
                "1",
            ],
        ),
        ("ls_pending", &["ls", "--status", "PENDING"]),
        ("gaps", &["gaps"]),
        ("quarantine_ls", &["quarantine", "ls"]),
        ("queue_ls", &["queue", "ls"]),
        ("queue_show", &["queue", "show", &id]),
        ("queue_stats", &["queue", "stats"]),
        ("workers", &["workers"]),
        ("retention_plan", &["retention", "plan"]),
        ("check", &["check"]),
    ] {
        let shown = world.cli(arguments);
        let text = shown
            .stdout
            .replace(name, "[worker]")
            .replace(host, "[host]");
        let mut text = plain(&world, &text);
        if snapshot == "check" {
            // Rights are told in terms of the machine's users.
            let lines = text.lines().filter(|line| !line.contains(" permissions "));
            text = lines.collect::<Vec<_>>().join("\n");
        }
        insta::assert_snapshot!(format!("text_{snapshot}"), text);
    }
}

#[test]
fn every_command_that_does_something_has_its_documented_shape_and_exit_code() {
    let mut world = World::builder().quick_clouds().unmigrated().build();
    let json = |world: &World, code: i32, arguments: &[&str]| {
        let done = world.cli(&[&["--json"], arguments].concat());
        assert_eq!(done.code, code, "{arguments:?}: {done:?}");
        done.json()
    };
    let snap =
        |name: &str, value: &Value| insta::assert_snapshot!(format!("json_{name}"), pretty(value));
    snap(
        "catalog_migrate",
        &json(&world, 1, &["catalog", "migrate", "--dry-run"]),
    );
    let migrated = world.cli(&["--json", "catalog", "migrate"]);
    snap("catalog_migrate_applied", &migrated.json());
    assert!(
        migrated
            .stderr
            .contains("catalog migrate: 0 migrations applied, applying"),
        "{migrated:?}"
    );
    assert_eq!(
        json(&world, 0, &["catalog", "migrate"])["applied"],
        Value::Array(Vec::new())
    );

    world.cli(&["no-such-command"]).fails_with(2);
    world.cli(&["gaps", "--no-such-flag"]).fails_with(2);
    assert_eq!(json(&world, 1, &["workers"]), Value::Array(Vec::new()));
    let unknown = world.cli(&["gaps", "--cluster", "nobody"]).fails_with(1);
    assert!(
        unknown.contains("the catalog knows no cluster `nobody`"),
        "{unknown}"
    );

    snap("queue_pause", &json(&world, 0, &["queue", "pause"]));
    snap("queue_resume", &json(&world, 0, &["queue", "resume"]));
    let id = |value: &Value| value["id"].as_str().expect("an id").to_owned();
    let added = json(&world, 0, &["enqueue", "retention", "--delay", "10m"]);
    snap("enqueue", &added);
    let first = id(&added);
    let shown = json(&world, 0, &["queue", "show", &first]);
    assert_eq!(shown["state"], "delayed", "{shown}");
    snap("queue_show", &shown);
    assert_eq!(json(&world, 0, &["queue", "stats"])["delayed"], 1);
    let cancelled = json(&world, 0, &["queue", "cancel", &first]);
    assert_eq!(cancelled["outcome"], "removed");
    snap("queue_cancel", &cancelled);
    assert_eq!(json(&world, 0, &["queue", "stats"])["delayed"], 0);
    let second = id(&json(
        &world,
        0,
        &["enqueue", "retention", "--queue", "aside"],
    ));
    assert_eq!(json(&world, 0, &["queue", "stats"])["ready"], 0);
    assert_eq!(
        json(&world, 0, &["queue", "stats", "-Q", "aside"])["ready"],
        1
    );
    snap(
        "queue_kill",
        &json(&world, 0, &["queue", "kill", &second, "-Q", "aside"]),
    );
    let stats = json(&world, 0, &["queue", "stats", "-Q", "aside"]);
    assert_eq!((&stats["dead"], &stats["ready"]), (&1.into(), &0.into()));
    let retried = json(&world, 0, &["queue", "retry", "--all", "-Q", "aside"]);
    assert_eq!(retried["jobs"], 1);
    snap("queue_retry", &retried);
    assert_eq!(
        json(&world, 0, &["queue", "stats", "-Q", "aside"])["ready"],
        1
    );
    json(&world, 0, &["queue", "cancel", &second, "-Q", "aside"]);
    world
        .cli(&["queue", "show", &first.replace('0', "1")])
        .fails_with(1);

    // What another system left: one whole segment, and something else.
    for cloud in world.clouds() {
        let mut packed = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        std::io::Write::write_all(&mut packed, &MAKER.bytes(1, Fill::Light)).expect("to memory");
        let packed = packed.finish().expect("to memory");
        let key = format!("wal/{}.gz", MAKER.name(1));
        cloud.bucket().put(&key, &packed);
        cloud.bucket().put("wal/README.txt", b"old system");
    }
    let imported = world.cli(&["--json", "import"]);
    assert_eq!(imported.code, 1, "objects were left: {imported:?}");
    snap("import", &imported.json());
    assert!(
        imported.stderr.contains("import: 1 objects read, "),
        "{imported:?}"
    );
    assert!(
        imported.stderr.contains(" objects read in "),
        "{imported:?}"
    );

    world.worker();
    let path = world.folder().join(MAKER.name(2));
    std::fs::write(&path, MAKER.bytes(2, Fill::Light)).expect("write a source");
    let pushed = json(&world, 0, &["push", &path.display().to_string()]);
    assert_eq!(pushed["outcome"], "stored");
    snap("push", &pushed);
    std::fs::write(&path, MAKER.seed(1).bytes(2, Fill::Light)).expect("write a source");
    eventually("the first one is archived", || {
        let backups = world.backups();
        let status = backups
            .get(&MAKER.name(2))
            .map(|backup| backup.status.clone());
        wait::is(
            status.as_deref() == Some("VERIFIED") && world.archived_files().is_empty(),
            status,
        )
    });

    snap(
        "retention_hold",
        &json(&world, 0, &["retention", "hold", "--reason", "ticket 42"]),
    );
    let held = eventually("the hold refuses, and no run of the worker's", || {
        let held = world.cli(&["--json", "retention", "apply"]);
        let refusal = held.json()[0]["refusals"][0].clone();
        let told = refusal
            .as_str()
            .is_some_and(|text| text.contains("on hold"));
        if told && held.code == 1 {
            Ok(held.json())
        } else {
            Err(held)
        }
    });
    assert_eq!(held[0]["outcome"], "refused", "{held}");
    snap("retention_apply", &held);
    snap(
        "retention_release",
        &json(&world, 0, &["retention", "release"]),
    );
    world.cli(&["retention", "release"]).fails_with(1);
    eventually("no run of the worker's is in the way", || {
        let applied = world.cli(&["retention", "apply"]);
        wait::is(applied.code == 0, applied)
    });

    world.place("junk", b"x");
    snap(
        "quarantine_move",
        &json(&world, 0, &["quarantine", "move", "junk"]),
    );

    // A cloud that is down: what failed, and how long the directory lasts.
    world.cloud("b2").proxy().fault(Fault::Refuse);
    world.place(&MAKER.name(3), &MAKER.bytes(3, Fill::Light));
    let mut trouble = eventually("the failure is known, and what it leads to", || {
        let status = world.cli(&["--json", "status"]).json();
        let cluster = &status["clusters"][0];
        let failures = cluster["failures"].as_array();
        let known = failures.is_some_and(|all| all.iter().any(|one| one["repository"] == "b2"));
        let away = cluster["repositories"].as_array().is_some_and(|all| {
            all.iter()
                .any(|one| one["breaker"] == "open" && one["cause"].is_string())
        });
        let full = cluster["directories"][0]["full_in_seconds"].is_number();
        let settled = cluster["suspects"] == Value::Array(Vec::new());
        if known && away && full && settled {
            Ok(status)
        } else {
            Err(status)
        }
    });
    // Whether a job runs at this moment is nobody's matter here.
    trouble["workers"] = Value::Null;
    snap("status_of_trouble", &trouble);
    snap("check_of_trouble", &world.cli(&["--json", "check"]).json());
    world.cloud("b2").proxy().pass();
    eventually("the copy is made", || {
        let backups = world.backups();
        let status = backups
            .get(&MAKER.name(3))
            .map(|backup| backup.status.clone());
        wait::is(status.as_deref() == Some("VERIFIED"), status)
    });
    let upgraded = json(&world, 0, &["cluster", "upgrade", "--prefix", "wal-16/"]);
    snap("cluster_upgrade", &upgraded);
    world.set("archive.level", "11");
    snap(
        "config_check_of_trouble",
        &json(&world, 1, &["config", "check"]),
    );
}

#[test]
fn a_retention_plan_names_what_would_go_and_changes_nothing() {
    let mut world = World::builder().quick_clouds().build();
    let worker = world.worker();
    for number in 1..9 {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    world.await_archived();
    // Retention of its own follows what it archives.
    worker.terminate();
    worker.wait();
    world.rows(&format!(
        "UPDATE wal_files SET mtime = clock_timestamp() - interval '31 days', \
         verified_at = clock_timestamp() - interval '31 days', \
         registered_at = clock_timestamp() - interval '31 days' WHERE name <= '{}'",
        MAKER.name(4)
    ));
    let held = |world: &World| {
        let clouds = world.clouds().iter();
        clouds
            .map(|cloud| cloud.bucket().keys(""))
            .collect::<Vec<_>>()
    };
    let before = held(&world);
    for arguments in [&["plan"][..], &["apply", "--dry-run", "--yes"]] {
        let plan = world.cli(&[&["--json", "retention"], arguments].concat());
        assert_eq!(plan.code, 0, "{plan:?}");
        let plan = plan.json();
        assert_eq!(plan[0]["outcome"], "plan", "{plan}");
        let deletions = plan[0]["prefixes"][0]["deletions"].as_array();
        assert_eq!(deletions.map(Vec::len), Some(4), "{plan}");
        assert_eq!(held(&world), before, "{arguments:?}");
        assert_eq!(world.backups().len(), 8, "{arguments:?}");
    }
    let plan = world.cli(&["--json", "retention", "plan"]).json();
    insta::assert_snapshot!("json_retention_plan_of_old", pretty(&plan));
    let text = world.cli(&["retention", "plan"]).stdout;
    insta::assert_snapshot!("text_retention_plan_of_old", plain(&world, &text));

    let applied = world.cli(&["retention", "apply", "--yes"]);
    assert_eq!(applied.code, 0, "{applied:?}");
    assert!(
        applied
            .stderr
            .contains("retention apply: 8 objects deleted"),
        "{applied:?}"
    );
    assert_ne!(held(&world), before);
}

/// The field names of a shape; what lies below `free` ones is the job's or the event's own.
fn names(value: &Value, found: &mut Vec<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                found.push(name.clone());
                if name != "args" && name != "counts" {
                    names(value, found);
                }
            }
        }
        Value::Array(list) => list.iter().for_each(|value| names(value, found)),
        _ => {}
    }
}

#[test]
fn every_field_of_every_snapshot_stands_in_its_row_of_the_document() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(here.join("../docs/json.md")).expect("docs/json.md");
    let shapes = document
        .split("Exit codes:")
        .next()
        .expect("what stands before");
    let mut compared = 0;
    for entry in std::fs::read_dir(here.join("tests/it/snapshots"))
        .expect("list")
        .flatten()
    {
        let file = entry.file_name().to_string_lossy().into_owned();
        let Some(command) = file
            .strip_prefix("it__commands__")
            .or_else(|| file.strip_prefix("it__output__json_"))
            .and_then(|name| name.strip_suffix(".snap"))
        else {
            continue;
        };
        let text = std::fs::read_to_string(entry.path()).expect("read a snapshot");
        let json = text.splitn(3, "---\n").nth(2).expect("a head and a body");
        let shape: Value = serde_json::from_str(json).unwrap_or_else(|e| panic!("{file}: {e}"));
        let command = command
            .split("_of_")
            .next()
            .unwrap_or(command)
            .replace('_', " ");
        let command = command.trim_end_matches(" applied");
        let words = |cell: &str| -> Vec<String> {
            let words = cell.split(|c: char| !c.is_alphanumeric());
            let words = words.filter(|word| !word.is_empty());
            words.map(str::to_owned).collect()
        };
        // Of `ls` and `queue ls` the one with no word besides.
        let rows = shapes.lines().filter_map(|line| {
            let cell = words(line.strip_prefix("| ")?.split(" | ").next()?);
            let all = command
                .split(' ')
                .all(|word| cell.iter().any(|one| one == word));
            all.then_some((cell.len(), line))
        });
        let (_, row) = rows
            .min_by_key(|(words, _)| *words)
            .unwrap_or_else(|| panic!("docs/json.md has no row of `{command}`"));
        let mut wanted = Vec::new();
        names(&shape, &mut wanted);
        let words: Vec<&str> = row
            .split(|c: char| !c.is_alphanumeric() && c != '_')
            .collect();
        for name in wanted {
            assert!(
                words.contains(&name.as_str()),
                "`{name}` of `{command}` is not in {row}"
            );
        }
        compared += 1;
    }
    assert!(compared > 25, "{compared} snapshots of JSON");
}
