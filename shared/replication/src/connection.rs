use std::str::FromStr;

use bytes::Bytes;
use walferry_wal::{Lsn, SegmentSize, SystemId, TimelineId};

use crate::backup::{self, BaseBackupOptions, BaseBackupStream};
use crate::connect;
use crate::error::ReplicationError;
use crate::message::ServerMessage;
use crate::quantity;
use crate::settings::ServerSettings;
use crate::wire::{Row, Wire};

/// `backup_manifest` and `in_hot_standby` are as old as this, and 13 is out of support.
const OLDEST: u32 = 140_000;

/// A WAL sender of a server, waiting for a command. Dropping it closes the connection.
pub struct Connection {
    wire: Wire,
    version: u32,
}

/// Who the server is, and where it is in WAL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    pub system_id: SystemId,
    pub timeline: TimelineId,
    /// Flushed on a primary, replayed on a standby.
    pub position: Lsn,
}

impl Connection {
    /// Connects to the first server of `settings` that lets us in, as a WAL sender.
    ///
    /// # Errors
    /// [`ReplicationError`]; what a person can do is in its hint.
    pub async fn open(settings: &ServerSettings) -> Result<Self, ReplicationError> {
        let mut wire = connect::open(settings).await?;
        wire.patience = settings.stall;
        wire.during = "a command";
        let mut connection = Self { wire, version: 0 };
        let version = connection.show("server_version_num").await?;
        connection.version = connection.parsed(&version, "a version")?;
        if connection.version < OLDEST {
            return Err(ReplicationError::TooOld {
                server: connection.wire.server,
                version: connection.version,
            });
        }
        Ok(connection)
    }

    /// As `server_version_num` has it: 150018.
    #[must_use]
    pub fn server_version(&self) -> u32 {
        self.version
    }

    /// Notices and warnings of the server, the first hundred.
    #[must_use]
    pub fn notices(&self) -> &[ServerMessage] {
        &self.wire.notices
    }

    /// IDENTIFY_SYSTEM.
    ///
    /// # Errors
    /// When the server is gone, stalls or answers something else.
    pub async fn identify(&mut self) -> Result<Identity, ReplicationError> {
        let rows = self.wire.query("IDENTIFY_SYSTEM").await?;
        let row = only(&self.wire, &rows)?;
        let system_id = text(&self.wire, row, 0)?;
        let timeline = text(&self.wire, row, 1)?;
        let position = text(&self.wire, row, 2)?;
        Ok(Identity {
            system_id: self.parsed(system_id, "a system id")?,
            timeline: backup::timeline(&self.wire, timeline)?,
            position: self.parsed(position, "a position in WAL")?,
        })
    }

    /// The size of a WAL segment.
    ///
    /// # Errors
    /// When the server is gone, stalls or answers something else.
    pub async fn segment_size(&mut self) -> Result<SegmentSize, ReplicationError> {
        let shown = self.show("wal_segment_size").await?;
        quantity::bytes(&shown)
            .and_then(|bytes| SegmentSize::try_from(bytes).ok())
            .ok_or_else(|| self.wire.protocol("no size of a segment", None))
    }

    /// SHOW: a setting's value as PostgreSQL prints it, with its unit.
    ///
    /// # Errors
    /// When there is no such setting, or the role may not see it, or the server is gone.
    pub async fn show(&mut self, name: &str) -> Result<String, ReplicationError> {
        // The grammar of a WAL sender takes a bare name only.
        let plain = |part: &str| {
            !part.is_empty() && part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_')
        };
        if !name.split('.').all(plain) || name.starts_with(|c: char| c.is_ascii_digit()) {
            return Err(ReplicationError::Argument {
                what: format!("`{name}` is no name of a setting"),
            });
        }
        let rows = self.wire.query(&format!("SHOW {name}")).await?;
        let row = only(&self.wire, &rows)?;
        Ok(text(&self.wire, row, 0)?.to_owned())
    }

    /// Whether the server is a standby, or recovers otherwise. A WAL sender runs no SQL, so
    /// `pg_is_in_recovery()` cannot be asked; `in_hot_standby` is the same state from 14 on.
    ///
    /// # Errors
    /// When the server is gone, stalls or answers something else.
    pub async fn in_recovery(&mut self) -> Result<bool, ReplicationError> {
        match self.show("in_hot_standby").await?.as_str() {
            "on" => Ok(true),
            "off" => Ok(false),
            _ => Err(self.wire.protocol("neither on nor off", None)),
        }
    }

    /// TIMELINE_HISTORY: the content of the history file, byte for byte; `None` if the server
    /// has none, as for timeline 1.
    ///
    /// # Errors
    /// When the server is gone, stalls, cannot read the file or answers something else.
    pub async fn timeline_history(
        &mut self,
        timeline: TimelineId,
    ) -> Result<Option<Bytes>, ReplicationError> {
        let command = format!("TIMELINE_HISTORY {}", timeline.get());
        let rows = match self.wire.query(&command).await {
            // undefined_file
            Err(ReplicationError::Server { source, .. }) if source.code == "58P01" => {
                return Ok(None);
            }
            rows => rows?,
        };
        let content = only(&self.wire, &rows)?.get(1).cloned().flatten();
        let missing = || self.wire.protocol("a history without content", None);
        content.map(Some).ok_or_else(missing)
    }

    /// BASE_BACKUP: makes the server begin, which waits for its checkpoint, and returns when
    /// it has begun. Without WAL: that is in the archive. With a manifest.
    ///
    /// A connection that is dropped later, with the stream, ends the backup at the server.
    ///
    /// # Errors
    /// [`ReplicationError::Argument`] for options that PostgreSQL refuses; otherwise when the
    /// server refuses, is gone or stalls for longer than its checkpoint may take.
    pub async fn base_backup(
        mut self,
        options: BaseBackupOptions,
    ) -> Result<BaseBackupStream, ReplicationError> {
        let command = options.command(self.version)?;
        let shown = self.show("checkpoint_timeout").await?;
        let checkpoint = quantity::duration(&shown)
            .ok_or_else(|| self.wire.protocol("no duration of a checkpoint", None))?;
        backup::begin(self.wire, self.version, &command, checkpoint).await
    }

    fn parsed<T: FromStr>(&self, text: &str, what: &str) -> Result<T, ReplicationError> {
        let parsed = text.parse();
        parsed.map_err(|_| self.wire.protocol(&format!("`{text}` for {what}"), None))
    }
}

impl std::fmt::Debug for Connection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Connection({})", self.wire.server)
    }
}

pub(crate) fn only<'a>(wire: &Wire, rows: &'a [Row]) -> Result<&'a Row, ReplicationError> {
    match rows {
        [row] => Ok(row),
        _ => Err(wire.protocol(&format!("{} rows instead of one", rows.len()), None)),
    }
}

/// A column as text; NULL is an error.
pub(crate) fn text<'a>(
    wire: &Wire,
    row: &'a Row,
    column: usize,
) -> Result<&'a str, ReplicationError> {
    let value = row.get(column).and_then(Option::as_ref);
    value
        .and_then(|value| std::str::from_utf8(value).ok())
        .ok_or_else(|| wire.protocol(&format!("no text in column {}", column + 1), None))
}
