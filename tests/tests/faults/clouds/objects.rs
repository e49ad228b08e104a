//! Objects that somebody else deleted, changed or put there.

use std::io::Write as _;
use std::sync::{Arc, Mutex};

use flate2::Compression;
use flate2::write::GzEncoder;
use walferry_tests::{Fault as Strike, Rule, eventually, wait};

use super::{B2, BOTH, Clouds, R2, on_each, others_go_on, pass, strike, told};
use crate::fault::Fault;
use crate::invariants::Allowed;
use crate::stage::{MAKER, Stage};

pub(super) fn faults() -> Vec<Fault> {
    [
        on_each("object-deleted", |name, clouds| match clouds {
            [cloud] => deleted_in_one(name, cloud),
            _ => deleted_in_both(name),
        }),
        on_each("object-changed", |name, clouds| match clouds {
            [_] => changed_in_one(name, clouds),
            _ => changed_in_both(name),
        }),
        on_each("object-of-another-encoder", of_another_encoder),
    ]
    .concat()
}

/// What somebody deletes or changes is written again, over nothing and over nothing good.
const TAMPERED: Allowed = Allowed {
    copies: 1,
    rewritten: true,
    foreign: true,
};

/// Keys and bodies.
type Objects = Vec<(String, Vec<u8>)>;

fn key(name: &str) -> String {
    format!("wal/{name}.gz")
}

/// Long after it was VERIFIED: nobody looks, until `import` compares.
fn deleted_in_one(name: &'static str, cloud: &'static str) -> Fault {
    Fault::new(
        name,
        "`walferry import` tells and makes it due; copied from the other cloud",
    )
    .begin(move |stage| {
        // The first of those that were archived before.
        let key = key(&MAKER.name(1));
        stage.world.cloud(cloud).bucket().delete(&key);
    })
    .told(
        format!("import says that one copy is missing in {cloud}"),
        move |stage| {
            let shown = stage.world.cli(&["--json", "import"]);
            let import: serde_json::Value = serde_json::from_str(&shown.stdout).unwrap_or_default();
            let compared = import["compared"].as_array();
            let due = compared
                .into_iter()
                .flatten()
                .any(|one| one["repository"] == cloud && one["due"] == 1);
            wait::is(due, format!("{shown:?}"))
        },
    )
    .allowed(TAMPERED)
    .archives_again()
}

/// Between its copy in R2 and the proof of the one in B2, while the local file is there.
fn deleted_in_both(name: &'static str) -> Fault {
    let fault = Fault::new(
        name,
        "`damaged-copy` says that it is not there; made again from the local file",
    )
    .begin(|stage| {
        let key = unproven_in_b2(stage);
        for cloud in BOTH {
            stage.world.cloud(cloud).bucket().delete(&key);
        }
        pass(stage, B2);
    })
    .allowed(TAMPERED);
    told::by_check(fault, R2, "damaged-copy", "is not there")
}

/// Read when the other cloud, which was away, needs it.
fn changed_in_one(name: &'static str, clouds: Clouds) -> Fault {
    let others = if clouds == R2 { B2 } else { R2 };
    let fault = Fault::new(
        name,
        "`damaged-copy`, the other cloud gets the local file; `other-content` until it is moved away",
    )
    .begin(move |stage| {
        strike(stage, others, &Strike::Refuse.into());
        let segment = stage.hand_over(1).remove(0);
        await_copies(stage, &segment, clouds);
        change(stage, clouds, &key(&segment));
        pass(stage, others);
    })
    .end(move |stage| move_away(stage, clouds))
    .allowed(TAMPERED);
    let fault = told::by_check(fault, clouds, "damaged-copy", "`wal/");
    told::by_check(fault, clouds, "other-content", "holds other content")
}

fn changed_in_both(name: &'static str) -> Fault {
    let fault = Fault::new(
        name,
        "`other-content` and `damaged-copy`, made again from the local file once moved away",
    )
    .begin(|stage| {
        let key = unproven_in_b2(stage);
        change(stage, BOTH, &key);
        pass(stage, B2);
    })
    .meanwhile(|stage| {
        move_away(stage, B2);
        for (code, words) in [
            ("damaged-copy", "`wal/"),
            ("other-content", "other content"),
        ] {
            eventually(&format!("check says {code} of r2"), || {
                told::checked(stage, R2, code, words)
            });
        }
    })
    .end(|stage| move_away(stage, R2))
    .allowed(TAMPERED);
    told::by_check(fault, B2, "other-content", "holds other content")
}

/// It unpacks to the same: there is nothing to tell.
fn of_another_encoder(name: &'static str, clouds: Clouds) -> Fault {
    let put: Arc<Mutex<Objects>> = Arc::default();
    let theirs = Arc::clone(&put);
    Fault::new(name, "read, found to be the same segment, adopted as it is")
        .takes_no_files()
        .begin(move |stage| {
            for _ in 0..3 {
                let (name, bytes) = stage.next();
                let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
                encoder.write_all(&bytes).expect("memory takes it");
                let object = encoder.finish().expect("memory takes it");
                for cloud in clouds {
                    stage.world.cloud(cloud).bucket().put(&key(&name), &object);
                }
                put.lock()
                    .expect("no panic under the lock")
                    .push((key(&name), object));
                stage.world.hand_over(&name, &bytes);
            }
        })
        .meanwhile(move |stage| others_go_on(stage, clouds))
        .after(move |stage| {
            for (key, object) in theirs.lock().expect("no panic under the lock").iter() {
                for cloud in clouds {
                    let cloud = stage.world.cloud(cloud);
                    let held = cloud.bucket().get(key).expect("it is still there");
                    assert!(held.body == object, "{key}: overwritten");
                    assert_eq!(cloud.proxy().writes().get(key), None, "{key}");
                }
            }
        })
}

/// Hands over a segment that is verified in R2, and put into B2, which does not say so.
fn unproven_in_b2(stage: &mut Stage) -> String {
    let (name, bytes) = stage.next();
    let key = key(&name);
    let rule = Rule::new(Strike::Status(503))
        .on("HEAD")
        .for_keys_with(&key);
    strike(stage, B2, &rule);
    stage.world.hand_over(&name, &bytes);
    await_copies(stage, &name, R2);
    eventually("b2 has the object", || {
        let there = stage.world.cloud("b2").bucket().head(&key).is_some();
        wait::is(there, "not yet")
    });
    key
}

/// Waits until the catalog has copies of a segment in these clouds, and in no others.
fn await_copies(stage: &Stage, segment: &str, clouds: Clouds) {
    eventually(&format!("the catalog has a copy in {clouds:?}"), || {
        let backup = stage.world.backups().get(segment).cloned();
        let of = |cloud, path: Option<&String>| clouds.contains(&cloud) == path.is_some();
        let so = backup.as_ref().is_some_and(|backup| {
            of("r2", backup.r2_path.as_ref()) && of("b2", backup.b2_path.as_ref())
        });
        wait::is(so, backup)
    });
}

/// Flips a byte of an object, behind everybody's back.
fn change(stage: &Stage, clouds: Clouds, key: &str) {
    for cloud in clouds {
        let bucket = stage.world.cloud(cloud).bucket();
        let mut body = bucket.get(key).expect("it is there").body.to_vec();
        let middle = body.len() / 2;
        body[middle] ^= 1;
        bucket.put(key, &body);
    }
}

/// A person removes every object that does not unpack to its segment, as `check` says.
fn move_away(stage: &Stage, clouds: Clouds) {
    for cloud in clouds {
        let bucket = stage.world.cloud(cloud).bucket();
        for key in bucket.keys("wal/0") {
            let object = bucket.get(&key).expect("it is listed");
            if walferry_tests::originals::gunzip(&object.body).is_err() {
                bucket.delete(&key);
            }
        }
    }
}
