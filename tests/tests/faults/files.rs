//! What can lie in the archive directory under the name of a segment, or nearly so.

use std::ffi::OsStr;
use std::fs::Permissions;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use rustix::fs::{CWD, FileType, Mode};
use walferry_tests::users::SHARED_GROUP;
use walferry_tests::wal::Fill;
use walferry_tests::{User, eventually, wait};

use crate::fault::Fault;
use crate::stage::{BOUND, MAKER, Stage};

/// A segment that nobody else hands over, and its number.
pub(crate) const NAME: &str = "00000001000000010000004D";
pub(crate) const NUMBER: u64 = (1 << 12) + 0x4D;

const HISTORY: &str = "00000002.history";
const WHOLE_HISTORY: &[u8] = b"1\t0/500000\tno recovery target specified\n";

const OTHERS: &str = "in quarantine, in place; the others are archived";
const CONTRADICTS: &str = "its first page contradicts its name or size";

pub(crate) fn faults() -> Vec<Fault> {
    let mut faults = names();
    faults.extend(kinds());
    faults.extend(contents());
    faults.extend(crate::moving::faults());
    faults
}

/// Names that PostgreSQL gives to no WAL.
fn names() -> Vec<Fault> {
    let strange = |name, shown, file: &'static [u8]| {
        Suspicion {
            shown,
            file,
            cause: "the name is none that PostgreSQL gives to WAL",
            whole: None,
        }
        .fault(name, OTHERS, |path| write(path, &segment()))
    };
    vec![
        strange(
            "files.name_of_not_24_hex_digits",
            "00000001000000010000004X",
            b"00000001000000010000004X",
        ),
        strange(
            "files.name_in_lower_case",
            "00000001000000010000004d",
            b"00000001000000010000004d",
        ),
        strange(
            "files.name_with_an_extra_suffix",
            "00000001000000010000004D.gz",
            b"00000001000000010000004D.gz",
        ),
        strange(
            "files.name_that_is_no_utf8",
            r"00000001000000010000004\xff",
            b"00000001000000010000004\xff",
        ),
        strange(
            "files.name_with_newline_and_escape_codes",
            r"0000\n\x1b[2J4D",
            b"0000\n\x1b[2J4D",
        )
        .told("nothing hands the escape codes to a terminal", |stage| {
            let mut shown: Vec<String> = stage.logs();
            for command in [&["status"][..], &["check"], &["quarantine", "ls"]] {
                let finished = stage.world.cli(command);
                shown.extend([finished.stdout, finished.stderr]);
            }
            let raw = shown.into_iter().find(|text| text.contains("\x1b[2J"));
            raw.map_or(Ok(()), Err)
        }),
    ]
}

/// No regular files, or none that may be read.
fn kinds() -> Vec<Fault> {
    let irregular = |name, cause, place: fn(&Path)| {
        suspicious(cause).fault(
            name,
            "in quarantine, in place, never opened; the others are archived",
            place,
        )
    };
    vec![
        irregular("files.a_directory", "it is not a regular file", |path| {
            std::fs::create_dir(path).expect("make a folder");
            give(path, 0o770);
        }),
        irregular("files.a_symlink", "it is a symbolic link", |path| {
            let target = path.with_file_name(".another-segment");
            write(&target, &segment());
            std::os::unix::fs::symlink(target, path).expect("make a link");
        }),
        irregular(
            "files.a_symlink_to_outside",
            "it is a symbolic link",
            |path| {
                let outside = path.parent().and_then(Path::parent).expect("a parent");
                let target = outside.join("somebody's");
                write(&target, &segment());
                std::os::unix::fs::symlink(target, path).expect("make a link");
            },
        ),
        irregular("files.a_fifo", "it is not a regular file", |path| {
            make_node(path, FileType::Fifo, 0);
        }),
        // The kernel's /dev/zero: whoever reads it, reads for ever.
        irregular("files.a_device", "it is not a regular file", |path| {
            make_node(path, FileType::CharacterDevice, rustix::fs::makedev(1, 5));
        }),
        suspicious("it may not be read: owner postgres")
            .fault(
                "files.unreadable",
                "not yet for a minute, then in quarantine; archived once it may be read",
                |path| {
                    write_with_mode(path, &segment(), 0o600);
                },
            )
            // No need to put it aside.
            .end(|stage| {
                let path = stage.world.archive().join(NAME);
                stage.world.originals_mut().remember(NAME, &segment());
                std::fs::set_permissions(path, Permissions::from_mode(0o640)).expect("chmod");
            }),
    ]
}

/// Regular files under a segment's name that are not that segment.
fn contents() -> Vec<Fault> {
    let content = |name, cause, place: fn(&Path)| suspicious(cause).fault(name, OTHERS, place);
    vec![
        content("files.truncated", "which is less than a segment", |path| {
            write(path, &segment()[..500_000]);
        }),
        content("files.empty", "it has 0 bytes", |path| write(path, b"")),
        content("files.zero_filled", CONTRADICTS, |path| {
            write(path, &[0; 1 << 20]);
        }),
        content("files.header_of_another_segment", CONTRADICTS, |path| {
            write(path, &MAKER.bytes(NUMBER + 1, Fill::Light));
        }),
        content("files.another_system_id", "it belongs to system", |path| {
            let mut other = MAKER;
            other.system_id += 1;
            write(path, &other.bytes(NUMBER, Fill::Light));
        }),
        // It contradicts neither itself nor its name: only the cluster's other segments.
        content(
            "files.another_size",
            "it is a segment of 2 MiB, this cluster's have 1 MiB",
            |path| {
                let other = MAKER.segment_size(2 << 20);
                let number = (1 << 11) + 0x4D;
                assert_eq!(other.name(number), NAME);
                write(path, &other.bytes(number, Fill::Light));
            },
        ),
        Suspicion {
            shown: HISTORY,
            file: HISTORY.as_bytes(),
            cause: "its last line is not there yet",
            whole: Some(|| WHOLE_HISTORY.to_vec()),
        }
        .fault("files.half_of_a_history", OTHERS, |path| {
            write(path, &WHOLE_HISTORY[..10]);
        }),
        Fault::new(
            "files.another_page_magic",
            "archived; the worker's log warns of an unknown PostgreSQL version",
        )
        .begin(|stage| {
            let mut bytes = segment();
            bytes[..2].copy_from_slice(&0xD1FF_u16.to_le_bytes());
            stage.world.hand_over(NAME, &bytes);
        })
        .told("the log warns of it", |stage| {
            let logs = stage.logs().concat();
            let told = logs.lines().any(|line| {
                ["WARN", "unknown PostgreSQL version", NAME, "D1FF"]
                    .iter()
                    .all(|part| line.contains(part))
            });
            wait::is(told, "no warning".to_owned())
        }),
        Fault::new("files.sparse", "archived as any other").begin(|stage| {
            let mut bytes = segment();
            bytes[8192..].fill(0);
            let path = stage.world.archive().join(".sparse");
            let file = std::fs::File::create(&path).expect("make a file");
            file.write_all_at(&bytes[..8192], 0).expect("write");
            file.set_len(1 << 20).expect("make a hole");
            let blocks = file.metadata().expect("stat").blocks();
            assert!(blocks * 512 < 1 << 20, "it is sparse");
            stage.world.originals_mut().remember(NAME, &bytes);
            give(&path, 0o640);
            rename(&path, &stage.world.archive().join(NAME));
        }),
    ]
}

/// The segment that should have been there.
pub(crate) fn segment() -> Vec<u8> {
    assert_eq!(MAKER.name(NUMBER), NAME);
    MAKER.bytes(NUMBER, Fill::Light)
}

fn suspicious(cause: &'static str) -> Suspicion {
    Suspicion {
        shown: NAME,
        file: NAME.as_bytes(),
        cause,
        whole: Some(segment),
    }
}

/// A file that is not archived, and what is said of it.
#[derive(Clone, Copy)]
struct Suspicion {
    /// Its name as it is printed.
    shown: &'static str,
    /// Its name.
    file: &'static [u8],
    cause: &'static str,
    /// What is handed over in its place when it has been put aside.
    whole: Option<fn() -> Vec<u8>>,
}

impl Suspicion {
    /// It is put there, told by everybody, left alone, and put aside at the end.
    fn fault(self, name: &'static str, outcome: &'static str, place: fn(&Path)) -> Fault {
        let before = Arc::new(Mutex::new(None));
        let seen = Arc::clone(&before);
        Fault::new(name, outcome)
            .begin(move |stage| {
                let path = self.path(stage);
                place(&path);
                *before.lock().unwrap_or_else(PoisonError::into_inner) = Some(Shape::of(&path));
            })
            .told(format!("status shows QUARANTINED and {}", self.cause), {
                move |stage| {
                    let shown = stage.world.cli(&["status"]).stdout;
                    let told = format!("QUARANTINED {}: ", self.shown);
                    let line = shown.lines().find(|line| line.contains(&told));
                    wait::is(line.is_some_and(|line| line.contains(self.cause)), shown)
                }
            })
            .told(
                format!("check says critical quarantined: {}", self.cause),
                {
                    move |stage| {
                        let told = self.checked(stage).unwrap_or_default();
                        wait::is(told.contains(self.cause), told)
                    }
                },
            )
            .told_by_metric(r#"walferry_suspect_files{cluster="main"}"#)
            .meanwhile(move |stage| {
                stage.world.await_verified_within(BOUND);
                let now = Some(Shape::of(&self.path(stage)));
                let then = *seen.lock().unwrap_or_else(PoisonError::into_inner);
                assert_eq!(now, then, "it is left alone");
            })
            .end(move |stage| self.put_aside(stage))
            .after(move |stage| {
                eventually("nobody speaks of it any more", || {
                    self.checked(stage).map_or(Ok(()), Err)
                });
            })
    }

    fn path(self, stage: &Stage) -> PathBuf {
        stage.world.archive().join(OsStr::from_bytes(self.file))
    }

    /// What `check` says of it.
    fn checked(self, stage: &Stage) -> Option<String> {
        let named = format!("`{}` in ", self.shown);
        stage.findings().iter().find_map(|finding| {
            let message = finding["message"].as_str()?;
            let named = finding["code"] == "quarantined" && message.starts_with(&named);
            (named && finding["level"] == "critical").then(|| message.to_owned())
        })
    }

    /// As the HINT says, and PostgreSQL hands over the right one.
    fn put_aside(self, stage: &mut Stage) {
        let shape = Shape::of(&self.path(stage));
        let aside = stage.world.directory("archive/quarantine");
        let aside = aside.join(OsStr::from_bytes(self.file));
        match std::str::from_utf8(self.file) {
            Ok(name) => {
                stage.world.cli(&["quarantine", "move", name]).ok();
            }
            // A shell completes such a name; the tests' world has none.
            Err(_) => rename(&self.path(stage), &aside),
        }
        assert_eq!(Shape::of(&aside), shape, "it is never deleted");
        if let Some(whole) = self.whole {
            stage.world.hand_over(self.shown, &whole());
        }
    }
}

/// What a file is, without opening it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Shape {
    inode: u64,
    mode: u32,
    size: u64,
    modified: (i64, i64),
}

impl Shape {
    fn of(path: &Path) -> Shape {
        let found = path.symlink_metadata();
        let found = found.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        Shape {
            inode: found.ino(),
            mode: found.mode(),
            size: found.size(),
            modified: (found.mtime(), found.mtime_nsec()),
        }
    }
}

/// Puts a file there as `push` does: complete at once.
pub(crate) fn write(path: &Path, bytes: &[u8]) {
    write_with_mode(path, bytes, 0o640);
}

fn write_with_mode(path: &Path, bytes: &[u8], mode: u32) {
    let temporary = path.with_file_name(".walferry-push.test");
    std::fs::write(&temporary, bytes).expect("write a file");
    give(&temporary, mode);
    rename(&temporary, path);
}

/// PostgreSQL's, of the shared group.
fn give(path: &Path, mode: u32) {
    User::Postgres.own(path, Some(SHARED_GROUP));
    std::fs::set_permissions(path, Permissions::from_mode(mode)).expect("chmod");
}

fn make_node(path: &Path, kind: FileType, device: u64) {
    let mode = Mode::from_raw_mode(0o660);
    rustix::fs::mknodat(CWD, path, kind, mode, device).expect("make a node");
}

#[expect(
    clippy::disallowed_methods,
    reason = "the test plays PostgreSQL's part"
)]
pub(crate) fn rename(from: &Path, to: &Path) {
    std::fs::rename(from, to).expect("rename a file");
}
