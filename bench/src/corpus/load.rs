//! The server that writes the segments, and pgbench, which keeps it busy.

use std::path::{Path, PathBuf};

use tokio::runtime::Handle;
use walferry_tests::postgres::Settings;
use walferry_tests::{Postgres, Process};

use super::Kind;

/// pgbench's scale: 160 MB of accounts, so that most transactions find a page that was not
/// touched since the last checkpoint, as they do where the database does not fit in memory.
const SCALE: u32 = 10;

/// A checkpoint comes after so many segments, as one comes every five minutes where
/// `archive_timeout` is one.
const CHECKPOINT_EVERY: usize = 6;

/// Ends the current segment in its own way and returns its name. A poll every millisecond,
/// inside the server: nothing outside is quick enough to stop at a share of a segment.
const FUNCTIONS: &str = r"
CREATE EXTENSION pgcrypto;
CREATE TABLE noise (bytes bytea);
ALTER TABLE noise ALTER bytes SET STORAGE EXTERNAL;

CREATE FUNCTION segment_of(lsn pg_lsn) RETURNS bigint LANGUAGE sql AS
  $$ SELECT div(lsn - '0/0', 16777216)::bigint $$;

CREATE FUNCTION finish_light(share float8) RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  segment bigint := segment_of(pg_current_wal_insert_lsn());
  target numeric := segment * 16777216 + share * 16777216;
  switched pg_lsn;
BEGIN
  WHILE pg_current_wal_insert_lsn() - '0/0' < target LOOP
    PERFORM pg_sleep(0.001);
  END LOOP;
  switched := pg_switch_wal();
  IF segment_of(switched) <> segment THEN
    RAISE 'segment % was full before it could be switched', segment;
  END IF;
  RETURN pg_walfile_name(switched);
END $$;

CREATE FUNCTION finish_full() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  segment bigint := segment_of(pg_current_wal_insert_lsn());
BEGIN
  WHILE segment_of(pg_current_wal_flush_lsn()) = segment LOOP
    PERFORM pg_sleep(0.001);
  END LOOP;
  RETURN pg_walfile_name('0/0'::pg_lsn + segment * 16777216 + 1);
END $$;

CREATE FUNCTION finish_random() RETURNS text LANGUAGE plpgsql AS $$
DECLARE
  segment bigint := segment_of(pg_current_wal_insert_lsn());
BEGIN
  WHILE segment_of(pg_current_wal_insert_lsn()) = segment LOOP
    INSERT INTO noise SELECT string_agg(gen_random_bytes(1024), '') FROM generate_series(1, 64);
  END LOOP;
  -- The commit returns when all of it is written, and not only inserted.
  PERFORM set_config('synchronous_commit', 'on', true);
  RETURN pg_walfile_name('0/0'::pg_lsn + segment * 16777216 + 1);
END $$;
";

/// A server under load.
pub(super) struct Load {
    server: Postgres,
    /// Not before the first segment that is not idle.
    pgbench: Option<Process>,
    logs: PathBuf,
}

impl Load {
    /// Starts the server; the next segment begins empty.
    pub(super) fn start(folder: &Path, runtime: &Handle) -> Load {
        let logs = folder.join("logs");
        std::fs::create_dir_all(&logs).expect("make the folder of the logs");
        let settings = Settings::new("writer")
            .option("shared_buffers", "256MB")
            .option("fsync", "off")
            .option("synchronous_commit", "off")
            .option("autovacuum", "off")
            .option("max_wal_size", "8GB")
            .option("checkpoint_timeout", "1h")
            // What the server is done with goes, so that a link to it stays as it is.
            .option("wal_recycle", "off")
            .option("wal_init_zero", "off");
        let server = Postgres::start(&settings, folder, runtime);
        server.pgbench_init(SCALE);
        server.execute(FUNCTIONS);
        server.execute("CHECKPOINT");
        server.switch();
        Load {
            server,
            pgbench: None,
            logs,
        }
    }

    /// Waits until segment `number` is one of this kind, and returns its name.
    pub(super) fn segment(&mut self, number: usize, kind: Kind) -> String {
        if number.is_multiple_of(CHECKPOINT_EVERY) {
            self.server.execute("CHECKPOINT");
        }
        if kind == Kind::Idle {
            return self.server.switch();
        }
        let mut command = self.server.client("pgbench");
        command.args(["-n", "-M", "prepared", "-c", "4", "-T", "86400"]);
        let logs = &self.logs;
        let pgbench = self
            .pgbench
            .get_or_insert_with(|| Process::spawn("pgbench", logs, &mut command));
        let report = pgbench.report(20);
        assert!(pgbench.running(), "pgbench ended:\n{report}");
        match kind {
            Kind::Random => {
                pgbench.freeze();
                let name = self.server.value("SELECT finish_random()");
                pgbench.thaw();
                name
            }
            Kind::Full => self.server.value("SELECT finish_full()"),
            Kind::Light | Kind::Idle => {
                let light = format!("SELECT finish_light({})", share(number));
                self.server.value(&light)
            }
        }
    }

    pub(super) fn server(&self) -> &Postgres {
        &self.server
    }

    /// Ends pgbench; the server goes on.
    pub(super) fn end(mut self) -> Postgres {
        if let Some(mut pgbench) = self.pgbench.take() {
            pgbench.kill();
        }
        self.server.execute("CHECKPOINT");
        self.server
    }
}

/// How much of a lightly filled segment is used: 5 to 25 %, more often little than much.
fn share(number: usize) -> f64 {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand segments")]
    let spread = (number as f64 * 0.618_034).fract();
    0.05 + 0.2 * spread * spread
}
