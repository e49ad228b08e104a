//! Handing files over, in each of the ways that are supported.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use super::World;
use crate::postgres::{Postgres, Settings};
use crate::process::{self, Finished};
use crate::scratch;
use crate::users::{SHARED_GROUP, User};

/// How PostgreSQL hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Intake {
    /// `archive_command = 'walferry push %p'`.
    Push,
    /// `archive_library = 'basic_archive'`.
    BasicArchive,
    /// The old system's `test ! -f … && cp … && chmod 644 …`.
    Cp,
}

impl World {
    /// A protected server that archives into the world's directory.
    #[track_caller]
    pub fn postgres(&self, intake: Intake) -> Postgres {
        self.postgres_with(self.protected("protected", intake))
    }

    /// A protected server made to measure; start from [`World::protected`].
    #[track_caller]
    pub fn postgres_with(&self, settings: Settings) -> Postgres {
        Postgres::start(&settings, self.folder(), self.runtime().handle())
    }

    /// Settings of a protected server: it keeps its WAL, so that the test can
    /// compare with it, and switches only when told to.
    pub fn protected(&self, name: &str, intake: Intake) -> Settings {
        let archive = self.archive().display().to_string();
        let settings = Settings::new(name)
            .option("archive_mode", "on")
            .option("wal_level", "replica")
            .option("wal_keep_size", "4GB")
            .option("max_wal_size", "1GB")
            .option("fsync", "off")
            .option("full_page_writes", "on");
        match intake {
            Intake::Push => settings.option("archive_command", &self.push_command()),
            Intake::BasicArchive => settings
                .option("archive_library", "basic_archive")
                .option("basic_archive.archive_directory", &archive),
            Intake::Cp => settings.option(
                "archive_command",
                &format!("test ! -f {archive}/%f && cp %p {archive}/%f && chmod 644 {archive}/%f"),
            ),
        }
    }

    /// `walferry push %p`, with the one variable that it needs.
    pub fn push_command(&self) -> String {
        format!(
            "WAL_ARCHIVE_DIR={} {} push %p",
            self.archive().display(),
            self.program_path("walferry").display()
        )
    }

    /// Runs `walferry push FILE` as PostgreSQL's user, with nothing in its
    /// environment but the directory, and remembers the file if it was taken.
    #[track_caller]
    pub fn push(&mut self, file: &Path) -> Finished {
        let finished = self.run_push(file, &[]);
        if finished.code == 0 {
            let name = file
                .file_name()
                .expect("a file")
                .to_string_lossy()
                .into_owned();
            let bytes = std::fs::read(file).expect("read the file that was pushed");
            self.originals.remember(&name, &bytes);
        }
        finished
    }

    /// The same, killed at a point between two of its steps: PostgreSQL was told nothing.
    #[track_caller]
    pub fn push_and_die(&self, file: &Path, point: &str) {
        let finished = self.run_push(file, &[("WALFERRY_TEST_KILL_AT", point)]);
        assert_eq!(
            finished.code, 137,
            "it should have died at {point}: {finished:?}"
        );
    }

    fn run_push(&self, file: &Path, more: &[(&str, &str)]) -> Finished {
        let mut command = User::Postgres.command(self.program_path("walferry"));
        let archive = self.archive().display().to_string();
        let variables = more
            .iter()
            .chain(&[("WAL_ARCHIVE_DIR", archive.as_str())])
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        process::environment(&mut command, &variables);
        process::run(command.current_dir(self.folder()).arg("push").arg(file))
    }

    /// Puts a file where PostgreSQL's user can read it, for [`World::push`].
    #[track_caller]
    pub fn source(&self, name: &str, bytes: &[u8]) -> std::path::PathBuf {
        let folder = self.folder().join("source");
        scratch::make(&folder, 0o755);
        let path = folder.join(name);
        std::fs::write(&path, bytes).expect("write a source file");
        User::Postgres.own(&path, None);
        scratch::set_mode(&path, 0o600);
        path
    }

    /// Hands a file over as `push` leaves it (complete at once, owner
    /// `postgres`, 0640), without starting a process, and remembers it: for
    /// hundreds of segments.
    #[track_caller]
    pub fn hand_over(&mut self, name: &str, bytes: &[u8]) {
        self.place(name, bytes);
        self.originals.remember(name, bytes);
    }

    /// The same without remembering: a file that must not be archived.
    #[track_caller]
    pub fn place(&self, name: &str, bytes: &[u8]) {
        self.place_in(&self.archive(), name, bytes);
    }

    /// The same in another directory, one of [`World::directory`]'s.
    #[track_caller]
    pub fn place_in(&self, directory: &Path, name: &str, bytes: &[u8]) {
        place_file(directory, name, bytes).expect("write into the archive directory");
    }

    /// Somebody's hand removes a file from the archive directory.
    #[track_caller]
    #[expect(
        clippy::disallowed_methods,
        reason = "the test plays somebody's clean-up"
    )]
    pub fn clean_up(&self, name: &str) {
        std::fs::remove_file(self.archive().join(name)).expect("somebody cleans up");
    }

    /// One more directory, with owner, group and mode of the archive directory.
    #[track_caller]
    pub fn directory(&self, name: &str) -> std::path::PathBuf {
        let path = self.folder().join(name);
        scratch::make(&path, 0o755);
        User::Postgres.own(&path, Some(SHARED_GROUP));
        scratch::set_mode(&path, 0o2770);
        path
    }
}

/// Puts a file into an archive directory as `push` leaves it: for threads that have no world.
///
/// # Errors
/// The file system's; what it has left under a temporary name a later `push` removes.
#[expect(
    clippy::disallowed_methods,
    reason = "the test plays PostgreSQL's part"
)]
pub fn place_file(directory: &Path, name: &str, bytes: &[u8]) -> std::io::Result<()> {
    let temporary = directory.join(format!(".walferry-push.{name}.test"));
    std::fs::write(&temporary, bytes)?;
    User::Postgres.try_own(&temporary, Some(SHARED_GROUP))?;
    std::fs::set_permissions(&temporary, std::fs::Permissions::from_mode(0o640))?;
    std::fs::rename(&temporary, directory.join(name))
}
