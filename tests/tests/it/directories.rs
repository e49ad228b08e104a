//! One cluster with two archive directories: the old and the new primary after a failover.

use std::path::{Path, PathBuf};

use walferry_tests::originals::Originals;
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{World, eventually, wait};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_026,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

fn world_with_two_directories() -> (World, PathBuf) {
    let mut world = World::builder().quick_clouds().build();
    let new = world.directory("new");
    let both = format!("old={},new={}", world.archive().display(), new.display());
    world.set_variable("WAL_ARCHIVE_DIR", "");
    world.set("clusters.main.directories", &both);
    (world, new)
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test plays the disk that is gone"
)]
fn take_away(directory: &Path) {
    std::fs::remove_dir_all(directory).expect("take the directory away");
}

/// The jobs that are to be tried again, with their errors.
fn jobs(world: &World) -> String {
    world.cli(&["--json", "queue", "ls"]).stdout
}

#[test]
fn the_same_content_in_two_directories_is_one_segment_and_both_files_go() {
    let (mut world, new) = world_with_two_directories();
    for number in 1..3 {
        let bytes = MAKER.bytes(number, Fill::Light);
        world.hand_over(&MAKER.name(number), &bytes);
        world.place_in(&new, &MAKER.name(number), &bytes);
    }
    let only_new = MAKER.bytes(3, Fill::Light);
    world.place_in(&new, &MAKER.name(3), &only_new);
    world.originals_mut().remember(&MAKER.name(3), &only_new);
    world.worker();
    world.await_archived();
    eventually("the other directory is empty too", || {
        let left = world.files_in(&new);
        wait::is(left.is_empty(), left)
    });
    assert_eq!(world.number("SELECT count(*) FROM wal_files"), 3);
    world.assert_written_once();
}

#[test]
fn another_content_under_the_same_name_is_critical_and_stays_and_check_names_both() {
    let (world, new) = world_with_two_directories();
    let name = MAKER.name(1);
    let contents = [MAKER, MAKER.seed(1)].map(|maker| maker.bytes(1, Fill::Light));
    world.place(&name, &contents[0]);
    world.place_in(&new, &name, &contents[1]);
    world.worker();
    let check = eventually("check names the conflict", || {
        let check = world.cli(&["check"]);
        let said = check.stdout.contains("other-content") && check.stdout.contains(&name);
        if said { Ok(check) } else { Err(check) }
    });
    assert_ne!(check.code, 0, "{check:?}");
    let mut hashes = Originals::default();
    for (number, bytes) in contents.iter().enumerate() {
        hashes.remember(&number.to_string(), bytes);
        let sha256 = &hashes.get(&number.to_string()).expect("remembered").sha256;
        assert!(check.stdout.contains(sha256.as_str()), "{}", check.stdout);
    }

    // Nothing is lost: what is archived is one of them, and the other lies where it lay.
    eventually("one of them is archived", || {
        let verified = world.number("SELECT count(*) FROM backups WHERE status = 'VERIFIED'");
        wait::is(verified == 1, verified)
    });
    let archived = world.backups()[&name].checksum.clone();
    let stays = [world.archive(), new]
        .into_iter()
        .zip(&contents)
        .enumerate()
        .filter(|(number, _)| {
            let original = hashes.get(&number.to_string()).expect("remembered");
            Some(&original.sha256) != archived.as_ref()
        });
    for (_, (directory, bytes)) in stays {
        let path = directory.display().to_string();
        assert!(check.stdout.contains(&path), "{path}: {}", check.stdout);
        let found = std::fs::read(directory.join(&name)).expect("it stays");
        assert!(found == *bytes, "{path}");
    }
}

#[test]
fn a_directory_that_is_away_stops_neither_its_cluster_nor_what_lies_in_both() {
    let mut world = World::builder().quick_clouds().build();
    let away = world.directory("away");
    let both = format!("away={},here={}", away.display(), world.archive().display());
    world.set_variable("WAL_ARCHIVE_DIR", "");
    world.set("clusters.main.directories", &both);
    // In both, and known from both.
    let gates = ["r2", "b2"].map(|cloud| world.cloud(cloud).proxy().hold("PUT", ".gz"));
    let first = world.worker_with(&[("worker.shutdown_grace", "1s")]);
    let bytes = MAKER.bytes(1, Fill::Light);
    world.place_in(&away, &MAKER.name(1), &bytes);
    world.hand_over(&MAKER.name(1), &bytes);
    eventually("both files are registered", || {
        let files = world.number("SELECT count(*) FROM local_files");
        wait::is(files == 2, files)
    });
    gates[0].await_waiting(1);
    first.terminate();
    first.wait();

    take_away(&away);
    world.hand_over(&MAKER.name(2), &MAKER.bytes(2, Fill::Light));
    for gate in gates {
        gate.open();
    }
    world.worker();
    world.await_archived();
    eventually("the queue says which directory is not there", || {
        let jobs = jobs(&world);
        wait::is(jobs.contains(&away.display().to_string()), jobs)
    });
}

#[test]
fn a_cluster_whose_directory_is_away_does_not_stop_the_others() {
    let mut world = World::builder().quick_clouds().build();
    let (main, sales) = (world.folder().join("not-there"), world.directory("sales"));
    world.set_variable("WAL_ARCHIVE_DIR", "");
    world.set("clusters", "main,sales");
    world.set("clusters.main.directories", &main.display().to_string());
    world.set("clusters.sales.directories", &sales.display().to_string());
    world.set("clusters.sales.prefix", "sales/");
    // Nobody watches for a queue that is not served: the tick alone can archive it.
    world.set("clusters.sales.queue", "sales");
    let bytes = MAKER.bytes(1, Fill::Light);
    world.place_in(&sales, &MAKER.name(1), &bytes);
    world.worker_with(&[("worker.queues", "backups")]);
    let tick = ["enqueue", "continuous-wal-archiving", "--queue", "backups"];
    world.cli(&tick).ok();
    eventually(
        "sales is archived although main's directory is away",
        || {
            let verified = world.number("SELECT count(*) FROM backups WHERE status = 'VERIFIED'");
            wait::is(verified == 1, verified)
        },
    );
    let mut originals = Originals::default();
    originals.remember(&MAKER.name(1), &bytes);
    for cloud in world.clouds() {
        originals
            .compare(cloud.bucket(), "sales/")
            .expect("archived");
    }
    eventually("the job tells what is wrong", || {
        let jobs = jobs(&world);
        let told = jobs.contains("cluster `main`") && jobs.contains("not-there");
        wait::is(told, jobs)
    });
}

#[test]
fn a_worker_says_which_directories_it_serves() {
    let (mut world, new) = world_with_two_directories();
    world.set("worker.directories", "main/new");
    let worker = world.worker();
    let serves = format!("main/new={}", new.display());
    worker.await_log(&serves);
    let workers = eventually("the worker is listed", || {
        let workers = world.cli(&["--json", "workers"]);
        if workers.code == 0 {
            Ok(workers.json())
        } else {
            Err(workers)
        }
    });
    assert_eq!(workers[0]["directories"], serde_json::json!([serves]));
    let text = world.cli(&["workers"]).ok();
    assert!(text.contains(&serves), "{text}");
    let log = worker.log();
    assert!(
        !log.contains("main/old="),
        "not what it does not serve: {log}"
    );
}
