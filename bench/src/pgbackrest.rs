//! pgBackRest with two repositories, as its documentation sets it up for asynchronous
//! archiving, and what all its processes use.

mod processes;

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::check;
use walferry_tests::process::{self, Finished};
use walferry_tests::{Bucket, Cloud, Postgres, User};

pub use processes::Processes;

/// The stanza's name, in every configuration.
pub const STANZA: &str = "main";

/// How a stanza is set up.
#[derive(Debug, Clone)]
pub struct Settings {
    /// `compress-type`: `gz`, `zst`, ….
    pub compress_type: String,
    /// `compress-level`.
    pub compress_level: u8,
    /// `process-max`.
    pub process_max: usize,
    /// `archive-async`.
    pub asynchronous: bool,
}

/// A configured stanza.
#[derive(Debug)]
pub struct PgBackRest {
    settings: Settings,
    folder: PathBuf,
    configuration: PathBuf,
    data: PathBuf,
    prefix: String,
}

impl Settings {
    /// Asynchronous with two processes, compressing so.
    #[must_use]
    pub fn new(compress_type: &str, compress_level: u8) -> Settings {
        Settings {
            compress_type: compress_type.into(),
            compress_level,
            process_max: 2,
            asynchronous: true,
        }
    }

    /// As tables call it: `pgBackRest gz 6`.
    #[must_use]
    pub fn name(&self) -> String {
        format!("pgBackRest {} {}", self.compress_type, self.compress_level)
    }

    /// What unpacks its objects.
    #[must_use]
    pub fn unpack(&self) -> check::Unpack {
        if self.compress_type == "zst" {
            check::zst
        } else {
            check::gz
        }
    }
}

/// What `pgbackrest version` says.
///
/// # Panics
/// When it is not installed.
#[must_use]
pub fn version() -> String {
    let mut command = Command::new("pgbackrest");
    process::run(command.arg("version")).ok().trim().to_owned()
}

impl PgBackRest {
    /// Writes the configuration `<folder>/<name>/pgbackrest.conf` and makes the stanza. The
    /// repositories are below `/<name>` in the buckets of `clouds`, each of which is reached
    /// over TLS at its front, whose CA is `ca`. The server has to run for this, as
    /// PostgreSQL's user, with its socket in the folder that its data folder lies in.
    ///
    /// # Panics
    /// When pgBackRest fails.
    #[must_use]
    pub fn new(
        name: &str,
        folder: &Path,
        settings: Settings,
        server: &Postgres,
        clouds: &[(&Cloud, SocketAddr)],
        ca: &Path,
    ) -> PgBackRest {
        let folder = folder.join(name);
        for path in ["", "spool", "lock", "log"] {
            let path = folder.join(path);
            std::fs::create_dir_all(&path)
                .unwrap_or_else(|error| panic!("make {}: {error}", path.display()));
            User::Postgres.own(&path, None);
        }
        let stanza = PgBackRest {
            settings,
            configuration: folder.join("pgbackrest.conf"),
            folder,
            data: server.data().to_owned(),
            prefix: name.into(),
        };
        let text = stanza.configuration(server, clouds, ca);
        std::fs::write(&stanza.configuration, text).expect("write the configuration");
        process::run(stanza.command().arg("stanza-create")).ok();
        stanza
    }

    /// `pgbackrest` as PostgreSQL's user in its data folder; the caller names the command.
    #[must_use]
    pub fn command(&self) -> Command {
        let mut command = User::Postgres.command("pgbackrest");
        command
            .current_dir(&self.data)
            .env_clear()
            .args(self.options());
        command
    }

    /// Hands over one file of `pg_wal`, as PostgreSQL does. It returns when the file is in
    /// both repositories, which asynchronous processes may have seen to before.
    ///
    /// # Panics
    /// When pgBackRest cannot be started.
    #[must_use]
    pub fn archive_push(&self, name: &str) -> Finished {
        let mut command = self.command();
        command.arg("archive-push").arg(format!("pg_wal/{name}"));
        // Waited for and not polled: the caller measures how long it took.
        let ended = command
            .stdin(Stdio::null())
            .output()
            .expect("pgbackrest starts");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Finished {
            code: process::shell_code(ended.status),
            stdout: text(&ended.stdout),
            stderr: text(&ended.stderr),
        }
    }

    /// The same as an `archive_command`.
    #[must_use]
    pub fn archive_command(&self) -> String {
        format!("pgbackrest {} archive-push %p", self.options().join(" "))
    }

    /// Where a bucket holds this stanza's archive.
    #[must_use]
    pub fn archive_prefix(&self) -> String {
        format!("{}/archive/{STANZA}/", self.prefix)
    }

    /// The objects of archived segments in a bucket: segment's name and key. pgBackRest calls
    /// them `<segment>-<SHA-1>.<type>`.
    ///
    /// # Panics
    /// When the bucket does not answer.
    #[must_use]
    pub fn archived(&self, bucket: &Bucket) -> Vec<(String, String)> {
        let segment = |key: String| {
            let (_, file) = key.rsplit_once('/')?;
            let (segment, _) = file.split_once('-')?;
            (segment.len() == 24).then(|| (segment.to_owned(), key.clone()))
        };
        let keys = bucket.keys(&self.archive_prefix());
        keys.into_iter().filter_map(segment).collect()
    }

    /// The folder of its configuration, spool, locks and logs.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// How it was set up.
    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// How it was set up, in words: `gz 9, process-max 2, asynchronous`.
    #[must_use]
    pub fn described(&self) -> String {
        let settings = &self.settings;
        format!(
            "{} {}, process-max {}, {}",
            settings.compress_type,
            settings.compress_level,
            settings.process_max,
            if settings.asynchronous {
                "asynchronous"
            } else {
                "synchronous"
            }
        )
    }

    fn options(&self) -> [String; 2] {
        [
            format!("--stanza={STANZA}"),
            format!("--config={}", self.configuration.display()),
        ]
    }

    fn configuration(
        &self,
        server: &Postgres,
        clouds: &[(&Cloud, SocketAddr)],
        ca: &Path,
    ) -> String {
        let settings = &self.settings;
        let folder = self.folder.display();
        let yes = if settings.asynchronous { "y" } else { "n" };
        let mut text = format!(
            "[global]\n\
             archive-async={yes}\n\
             process-max={}\n\
             compress-type={}\n\
             compress-level={}\n\
             spool-path={folder}/spool\n\
             lock-path={folder}/lock\n\
             log-path={folder}/log\n\
             log-level-console=warn\n\
             log-level-file=info\n",
            settings.process_max, settings.compress_type, settings.compress_level
        );
        for (number, (cloud, front)) in (1..).zip(clouds) {
            let keys = cloud.credentials();
            let _ = write!(
                text,
                "repo{number}-type=s3\n\
                 repo{number}-path=/{}\n\
                 repo{number}-s3-bucket={}\n\
                 repo{number}-s3-endpoint={}\n\
                 repo{number}-storage-host={}\n\
                 repo{number}-storage-port={}\n\
                 repo{number}-s3-region={}\n\
                 repo{number}-s3-key={}\n\
                 repo{number}-s3-key-secret={}\n\
                 repo{number}-s3-uri-style=path\n\
                 repo{number}-storage-ca-file={}\n",
                self.prefix,
                cloud.bucket().name(),
                front.ip(),
                front.ip(),
                front.port(),
                keys.region,
                keys.id,
                keys.secret,
                ca.display()
            );
        }
        let _ = write!(
            text,
            "[{STANZA}]\n\
             pg1-path={}\n\
             pg1-port={}\n\
             pg1-socket-path={}\n\
             pg1-user=postgres\n",
            self.data.display(),
            server.port(),
            self.data.parent().unwrap_or(&self.data).display()
        );
        text
    }
}
