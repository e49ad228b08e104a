//! What a disk can do to the archive directory, and a process to itself.

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use walferry_tests::users::SHARED_GROUP;
use walferry_tests::{User, eventually, mounts, process, wait};

use crate::fault::Fault;
use crate::stage::{BOUND, Stage};

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        full(),
        read_only(),
        removed(),
        unmounted(),
        out_of_handles(),
    ]
}

fn full() -> Fault {
    Fault::new(
        "disk.full",
        "`push` refuses and PostgreSQL keeps the segment; what lies there is archived",
    )
    .before(|stage| on_a_file_system_of_its_own(stage, "size=24m"))
    .takes_no_files()
    .begin(|stage| {
        while_uploads_stand(stage, |stage| {
            fill(stage);
            await_push_refused(stage, "% full, the limit is");
        });
        stage.world.await_verified_within(BOUND);
        fill(stage);
    })
    .told_by_check("directory-full", "critical", "% full")
    .told("status shows how full the file system is", |stage| {
        // Under load there is room for a moment, since what is archived goes.
        fill(stage);
        let shown = stage.world.cli(&["status"]).stdout;
        // As of the last scan, which may have seen it before the last bytes came.
        let full = ["file system 9", "file system 100 % used"];
        wait::is(full.iter().any(|full| shown.contains(full)), shown)
    })
    .told("the metric of the file system's use says so", |stage| {
        let used = r#"walferry_spool_filesystem_used_ratio{cluster="main",directory="main"}"#;
        let used = stage.running_worker().metric(used);
        wait::is(used.is_some_and(|used| used > 0.9), format!("{used:?}"))
    })
    .meanwhile(|stage| await_push_refused(stage, "% full, the limit is"))
    .end(|stage| {
        remove(&stage.world.archive().join(BALLAST));
        push_what_was_refused(stage);
    })
}

fn read_only() -> Fault {
    Fault::new(
        "disk.read_only",
        "`push` refuses; what lies there is archived, and deleted when it may be",
    )
    .before(|stage| on_a_file_system_of_its_own(stage, "size=256m"))
    .takes_no_files()
    .begin(|stage| {
        while_uploads_stand(stage, |stage| remount(stage, "ro"));
    })
    .told_by_status("Read-only file system")
    .told_by_check("permissions", "critical", "Read-only file system")
    .told_by_check("failures", "warning", "Read-only file system")
    .told_by_readyz("Read-only file system")
    .told_by_metric(r#"walferry_claims_total{outcome="failed"}"#)
    .meanwhile(|stage| {
        stage.world.await_verified_within(BOUND);
        await_push_refused(stage, "Read-only file system");
    })
    .end(|stage| {
        remount(stage, "rw");
        push_what_was_refused(stage);
    })
}

fn removed() -> Fault {
    Fault::new(
        "disk.removed_and_back",
        "`push` refuses; what lay there waits and is archived when it is back",
    )
    .takes_no_files()
    .begin(|stage| {
        while_uploads_stand(stage, |stage| {
            rename(&stage.world.archive(), &disk(stage));
        });
    })
    .told_by_status("NOT SCANNED")
    .told_by_check("not-scanned", "critical", "does not exist")
    .told_by_check("directory", "unknown", "does not exist")
    .told_by_readyz("No such file or directory")
    .told_by_metric(r#"walferry_spool_scan_failed{cluster="main",directory="main"}"#)
    .meanwhile(|stage| await_push_refused(stage, "does not exist"))
    .end(|stage| {
        rename(&disk(stage), &stage.world.archive());
        push_what_was_refused(stage);
    })
    .after(|stage| {
        eventually("nobody speaks of it any more", || {
            let shown = stage.world.cli(&["status"]).stdout;
            wait::is(!shown.contains("NOT SCANNED"), shown)
        });
    })
}

/// An empty mount point is a directory like any other: what was known to lie there has vanished.
fn unmounted() -> Fault {
    Fault::new(
        "disk.unmounted_and_back",
        "each segment that waited is called vanished, and is archived when it is back",
    )
    .built(|| Stage::builder().setting("worker.segments_in_flight", "1"))
    .before(|stage| {
        let (archive, disk) = (stage.world.archive(), disk(stage));
        rename(&archive, &disk);
        std::fs::create_dir(&archive).expect("make a mount point");
        mounts::tmpfs(&archive, &format!("ro,mode=2770,gid={SHARED_GROUP}"));
        mounts::bind(&disk, &archive);
    })
    .takes_no_files()
    .begin(|stage| {
        while_uploads_stand(stage, |stage| {
            stage.hand_over(3);
            eventually("more files are registered than are under way", || {
                let files = stage.world.number("SELECT count(*) FROM local_files");
                wait::is(files >= 4, files)
            });
            mounts::unmount(&stage.world.archive());
        });
    })
    .told_by_check("vanished", "critical", "vanished from its directory")
    .told_by_status("Vanished")
    .end(|stage| mounts::bind(&disk(stage), &stage.world.archive()))
}

fn out_of_handles() -> Fault {
    Fault::new(
        "disk.out_of_file_handles",
        "the health port is silent and nothing is archived; it goes on by itself",
    )
    .begin(|stage| limit_handles(stage, 0))
    .told_by_status("Too many open files")
    .told_by_check("not-scanned", "critical", "Too many open files")
    .told("the health port is silent", |stage| {
        let answer = stage.running_worker().http("/healthz");
        wait::is(answer.is_err(), format!("{answer:?}"))
    })
    .end(|stage| limit_handles(stage, 1024))
}

/// Puts the archive directory onto a file system in memory.
fn on_a_file_system_of_its_own(stage: &mut Stage, size: &str) {
    let archive = stage.world.archive();
    mounts::tmpfs(&archive, size);
    User::Postgres.own(&archive, Some(SHARED_GROUP));
    let mode = std::fs::Permissions::from_mode(0o2770);
    std::fs::set_permissions(&archive, mode).expect("chmod");
}

/// Three segments are under way when the disk goes wrong: at each cloud's door.
fn while_uploads_stand(stage: &mut Stage, wrong: impl Fn(&mut Stage)) {
    let gates = ["r2", "b2"].map(|cloud| stage.world.cloud(cloud).proxy().hold("PUT", ".gz"));
    stage.hand_over(3);
    gates[0].await_waiting(1);
    wrong(stage);
    for gate in gates {
        gate.open();
    }
}

/// What PostgreSQL hands over is refused with the cause, and kept by it.
fn await_push_refused(stage: &mut Stage, cause: &str) {
    let (mut name, mut bytes) = stage.next();
    for _ in 0..100 {
        let source = stage.world.source(&name, &bytes);
        let pushed = stage.world.push(&source);
        if pushed.code != 0 {
            assert!(pushed.code < 126, "PostgreSQL's archiver lives: {pushed:?}");
            assert!(pushed.stderr.contains(cause), "{pushed:?}");
            return;
        }
        (name, bytes) = stage.next();
    }
    panic!("`push` is never refused");
}

/// PostgreSQL has kept it and hands it over again.
fn push_what_was_refused(stage: &mut Stage) {
    let folder = stage.world.folder().join("source");
    for name in stage.world.files_in(&folder) {
        if stage.world.originals().get(&name).is_none() {
            stage.world.push(&folder.join(name)).ok();
        }
    }
}

/// Something else on the same disk; no scan looks at a name with a dot.
const BALLAST: &str = ".something-else";

fn fill(stage: &Stage) {
    let path = stage.world.archive().join(BALLAST);
    let file = std::fs::File::options()
        .create(true)
        .append(true)
        .open(path);
    let mut file = file.expect("open the ballast");
    while file.write_all(&[7; 4096]).is_ok() {}
}

fn remount(stage: &mut Stage, mode: &str) {
    let archive = stage.world.archive();
    // Under load somebody may be writing just now.
    eventually("nobody is writing", || mounts::remount(&archive, mode));
}

/// Where the directory is while it is away; the invariants look there, too.
fn disk(stage: &Stage) -> PathBuf {
    stage.world.folder().join("disk")
}

/// How many files the worker may open, all told; those that are open stay so.
fn limit_handles(stage: &mut Stage, limit: u32) {
    let id = stage.running_worker().process().id();
    // Its own user may; root only with CAP_SYS_RESOURCE.
    let mut command = User::Walferry.command("prlimit");
    let limit = format!("--nofile={limit}:");
    process::run(command.args(["--pid", &id.to_string(), &limit])).ok();
}

#[expect(clippy::disallowed_methods, reason = "the disk goes and comes back")]
fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).expect("rename the directory");
}

#[expect(clippy::disallowed_methods, reason = "a file of the test's own")]
fn remove(path: &Path) {
    std::fs::remove_file(path).expect("remove the ballast");
}
