//! `walferry fetch`: what PostgreSQL is told of a file, and what it does then.

mod answers;
mod copies;
mod recovery;

use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};
use walferry_tests::process::{self, Finished};
use walferry_tests::wal::{Fill, Maker};
use walferry_tests::{User, World, WorldBuilder};

const MAKER: Maker = Maker {
    system_id: 7_300_000_000_000_000_042,
    timeline: 1,
    segment_size: 1 << 20,
    seed: 0,
};

/// Segments 1 to 3 and 5 of timeline 1, and timeline 3, which left it in segment 5.
const HISTORY: &str = "00000003.history";
const LEFT_AT: &str = "1\t0/580000\tno recovery target specified\n";

fn builder() -> WorldBuilder {
    World::builder()
        .quick_clouds()
        .setting("fetch.retry_for", "0s")
        .setting("fetch.prefetch", "off")
}

/// A world whose clouds hold these files, and whose catalog and Redis nobody can reach.
fn archived() -> World {
    let mut world = builder().build();
    for number in [1, 2, 3, 5] {
        world.hand_over(&MAKER.name(number), &MAKER.bytes(number, Fill::Light));
    }
    let partial = format!("{}.partial", MAKER.name(6));
    world.hand_over(&partial, &MAKER.bytes(6, Fill::Light));
    world.hand_over(HISTORY, LEFT_AT.as_bytes());
    let worker = world.worker();
    world.await_archived();
    worker.terminate();
    worker.wait();
    alone(&mut world);
    world
}

/// From now on there is no catalog and no Redis.
fn alone(world: &mut World) {
    world.set_variable("DATABASE_URL", "postgres://nobody@127.0.0.1:1/gone");
    world.set_variable("REDIS_URL", "redis://127.0.0.1:1");
}

/// A directory of PostgreSQL's user, which is no data directory.
fn spot(world: &World) -> PathBuf {
    world.directory("spot")
}

/// Runs `walferry fetch` there as PostgreSQL would, with these flags.
fn fetch(world: &World, directory: &Path, arguments: &[&str]) -> Finished {
    let mut command = User::Postgres.command(world.program_path("walferry"));
    process::environment(&mut command, world.environment());
    command.current_dir(directory).arg("fetch").args(arguments);
    process::run(&mut command)
}

/// What PostgreSQL is told; the file lies there exactly when that is 0.
#[track_caller]
fn check(world: &World, directory: &Path, arguments: &[&str], code: i32, said: &str) {
    let destination = directory.join("RECOVERYXLOG");
    let mut all = arguments.to_vec();
    all.push("RECOVERYXLOG");
    let finished = fetch(world, directory, &all);
    assert_eq!(finished.code, code, "{arguments:?}: {finished:?}");
    assert!(
        finished.stderr.contains(said),
        "{arguments:?}: no `{said}` in {finished:?}"
    );
    assert_eq!(destination.exists(), code == 0, "{arguments:?}");
    let left: Vec<_> = std::fs::read_dir(directory)
        .expect("list the directory")
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name != "RECOVERYXLOG" && name.to_string_lossy().contains("walferry"))
        .collect();
    assert!(left.is_empty(), "{arguments:?} left {left:?}");
    if code == 0 {
        let name = arguments[arguments.len() - 1];
        let original = world.originals().get(name).expect("it was handed over");
        let bytes = std::fs::read(&destination).expect("read what was delivered");
        assert_eq!(
            hex::encode(Sha256::digest(&bytes)),
            original.sha256,
            "{name} came back as something else"
        );
        remove(&destination);
    }
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test plays PostgreSQL's part"
)]
fn remove(path: &Path) {
    std::fs::remove_file(path).expect("remove what was delivered");
}
