//! Files that change while somebody works on them, names that come again, and very many at once.

use std::io::Write as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::Duration;

use walferry_tests::wal::Fill;
use walferry_tests::{eventually, wait};

use crate::fault::Fault;
use crate::files::{self, NAME};
use crate::stage::{BOUND, MAKER, Stage};

pub(crate) fn faults() -> Vec<Fault> {
    vec![
        vanishing(),
        growing(),
        growing_while_uploading(),
        replaced(),
        same_content(),
        other_content(),
        very_many(),
    ]
}

/// Somebody cleans the directory up, at any moment from the listing to the upload.
fn vanishing() -> Fault {
    let gone = Arc::new(Mutex::new(Vec::new()));
    let again = Arc::clone(&gone);
    Fault::new(
        "files.vanishing_while_read",
        "what was read is archived; what was not is called vanished until it comes again",
    )
    .built(|| {
        Stage::builder()
            .setting("worker.segments_in_flight", "1")
            .setting("repositories.r2.idle_timeout", "60s")
            .setting("repositories.b2.idle_timeout", "60s")
    })
    .begin(move |stage| {
        let gates = ["r2", "b2"].map(|cloud| stage.world.cloud(cloud).proxy().hold("PUT", ".gz"));
        let mut placed: Vec<_> = (0..3).map(|_| place_next(stage)).collect();
        gates[0].await_waiting(1);
        let names: Vec<_> = placed.iter().map(|(name, _)| format!("'{name}'")).collect();
        let registered = format!(
            "SELECT count(*) FROM wal_files WHERE name IN ({})",
            names.join(", ")
        );
        eventually("more are registered than are under way", || {
            let files = stage.world.number(&registered);
            wait::is(files == 3, files)
        });
        for (name, _) in &placed {
            remove(&stage.world.archive().join(name));
        }
        // And some that are only just being looked at.
        for pause in 0..30 {
            let (name, bytes) = place_next(stage);
            std::thread::sleep(Duration::from_millis(pause));
            remove(&stage.world.archive().join(&name));
            placed.push((name, bytes));
        }
        for gate in gates {
            gate.open();
        }
        *gone.lock().unwrap_or_else(PoisonError::into_inner) = placed;
    })
    .told_by_check("vanished", "critical", "vanished from its directory")
    .told_by_status("Vanished")
    .meanwhile(|stage| stage.world.await_verified_within(BOUND))
    .end(move |stage| {
        for (name, bytes) in again
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .drain(..)
        {
            stage.world.hand_over(&name, &bytes);
        }
    })
}

/// A `cp` at work, slower than anybody is patient.
fn growing() -> Fault {
    let copy: Arc<Mutex<Option<Copy>>> = Arc::default();
    let copied = Arc::clone(&copy);
    Fault::new(
        "files.growing_while_read",
        "not yet for a minute, then in quarantine; archived when it is whole",
    )
    .begin(move |stage| {
        let path = stage.world.archive().join(NAME);
        files::write(&path, &files::segment()[..4096]);
        *copy.lock().unwrap_or_else(PoisonError::into_inner) = Some(Copy::start(&path));
    })
    .told_by_status("which is less than a segment")
    .told_by_check("quarantined", "critical", "which is less than a segment")
    .meanwhile(|stage| stage.world.await_verified_within(BOUND))
    .end(move |stage| {
        let copy = copied.lock().unwrap_or_else(PoisonError::into_inner).take();
        copy.expect("it began").finish();
        stage
            .world
            .originals_mut()
            .remember(NAME, &files::segment());
    })
}

fn growing_while_uploading() -> Fault {
    while_uploading(
        "files.growing_while_uploading",
        "archived as it was read; what it became is in quarantine, in place",
        |path| {
            let file = std::fs::File::options().append(true).open(path);
            let mut file = file.expect("open a segment");
            file.write_all(&[7; 8192]).expect("make it grow");
        },
    )
    .told_by_check("quarantined", "critical", "contradicts its name or size")
    .told_by_status("contradicts its name or size")
}

fn replaced() -> Fault {
    while_uploading(
        "files.replaced_while_uploading",
        "archived as it was read; the other content is in quarantine, in place",
        |path| files::write(path, &other()),
    )
    .told_by_check("other-content", "critical", NAME)
    .told_by_status("is registered with content")
}

/// Something happens to a file of which each cloud is just getting its copy.
fn while_uploading(name: &'static str, outcome: &'static str, wrong: fn(&Path)) -> Fault {
    Fault::new(name, outcome)
        .begin(move |stage| {
            let gates =
                ["r2", "b2"].map(|cloud| stage.world.cloud(cloud).proxy().hold("PUT", NAME));
            stage.world.hand_over(NAME, &files::segment());
            gates[0].await_waiting(1);
            wrong(&stage.world.archive().join(NAME));
            for gate in gates {
                gate.open();
            }
            stage.world.await_verified_within(BOUND);
        })
        .meanwhile(|stage| stage.world.await_verified_within(BOUND))
        .end(put_aside)
}

fn same_content() -> Fault {
    Fault::new(
        "files.same_name_with_the_same_content",
        "`push` says 0 each time; archived once, and each file is deleted",
    )
    .begin(|stage| {
        hand_over_at_a_gate(stage, |stage| {
            let source = stage.world.source(NAME, &files::segment());
            stage.world.push(&source).ok();
        });
        let source = stage.world.source(NAME, &files::segment());
        stage.world.push(&source).ok();
    })
    .meanwhile(|stage| stage.world.await_verified_within(BOUND))
}

fn other_content() -> Fault {
    Fault::new(
        "files.same_name_with_another_content",
        "`push` refuses; what came otherwise is in quarantine, in place, with both hashes",
    )
    .begin(|stage| {
        hand_over_at_a_gate(stage, |stage| {
            let source = stage.world.source(NAME, &other());
            let refused = stage.world.push(&source);
            assert!((1..126).contains(&refused.code), "{refused:?}");
            assert!(refused.stderr.contains(NAME), "{refused:?}");
        });
        // As `cp` would.
        stage.world.place(NAME, &other());
    })
    .told_by_check("other-content", "critical", NAME)
    .told_by_status("is registered with content")
    .meanwhile(|stage| {
        stage.world.await_verified_within(BOUND);
    })
    .end(put_aside)
}

/// `push` hands a segment over; while it waits for its upload, and not before, something else
/// is tried. It is archived then.
fn hand_over_at_a_gate(stage: &mut Stage, then: impl Fn(&mut Stage)) {
    let gate = stage.world.cloud("r2").proxy().hold("PUT", NAME);
    let source = stage.world.source(NAME, &files::segment());
    stage.world.push(&source).ok();
    gate.await_waiting(1);
    then(stage);
    gate.open();
    stage.world.await_verified_within(BOUND);
}

const VERY_MANY: u64 = 100_000;

/// What `cp` leaves on a full disk, for a day.
fn very_many() -> Fault {
    Fault::new(
        "files.one_hundred_thousand_at_once",
        "the first ones are named and all are counted; segments among them are archived",
    )
    .begin(|stage| {
        let archive = stage.world.archive();
        for number in many() {
            let path = archive.join(MAKER.name(number));
            std::fs::File::create(path).expect("make an empty file");
        }
    })
    .told_by_status("99980 more files")
    .told_by_check("quarantined", "critical", "99980 more files")
    .meanwhile(|stage| {
        let (name, bytes) = stage.next();
        let source = stage.world.source(&name, &bytes);
        stage.world.push(&source).ok();
        stage.world.await_verified_within(BOUND);
    })
    .end(|stage| {
        let archive = stage.world.archive();
        for number in many() {
            remove(&archive.join(MAKER.name(number)));
        }
    })
}

/// Far from those that are handed over.
fn many() -> std::ops::Range<u64> {
    1 << 20..(1 << 20) + VERY_MANY
}

fn other() -> Vec<u8> {
    MAKER.seed(9).bytes(files::NUMBER, Fill::Light)
}

/// Puts the next segment there; what becomes of it is the cell's affair.
fn place_next(stage: &Stage) -> (String, Vec<u8>) {
    let (name, bytes) = stage.next();
    stage.world.place(&name, &bytes);
    (name, bytes)
}

fn put_aside(stage: &mut Stage) {
    stage.world.cli(&["quarantine", "move", NAME]).ok();
}

/// A thread that appends to a file, from its fourth KiB to its last but one.
struct Copy {
    stop: Arc<AtomicBool>,
    thread: JoinHandle<(std::fs::File, usize)>,
}

impl Copy {
    fn start(path: &Path) -> Copy {
        let stop = Arc::new(AtomicBool::new(false));
        let file = std::fs::File::options().append(true).open(path);
        let (mut file, stopped) = (file.expect("open the copy"), Arc::clone(&stop));
        let bytes = files::segment();
        let thread = std::thread::spawn(move || {
            let mut at = 4096;
            while !stopped.load(Ordering::Relaxed) && at < bytes.len() - 1024 {
                file.write_all(&bytes[at..at + 512]).expect("copy");
                at += 512;
                std::thread::sleep(Duration::from_millis(10));
            }
            (file, at)
        });
        Copy { stop, thread }
    }

    /// The rest, at once.
    fn finish(self) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut file, at) = self.thread.join().expect("the copy goes well");
        file.write_all(&files::segment()[at..]).expect("copy");
    }
}

#[expect(clippy::disallowed_methods, reason = "somebody cleans up")]
fn remove(path: &Path) {
    // A worker may have been faster.
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => panic!("{error}"),
        _ => {}
    }
}
