use std::time::Duration;

use postgres_protocol::message::frontend;
use walferry_wal::{Lsn, TimelineId};

use super::event::{StartPoint, TablespaceInfo};
use super::stream::BaseBackupStream;
use crate::connection::{only, text};
use crate::error::ReplicationError;
use crate::wire::{Row, Wire};

/// Sends the command and reads where the backup starts and what it will be made of.
pub(crate) async fn begin(
    mut wire: Wire,
    version: u32,
    command: &str,
    checkpoint: Duration,
) -> Result<BaseBackupStream, ReplicationError> {
    wire.during = "the start of a base backup";
    wire.send(|output| frontend::query(command, output)).await?;
    // Nothing comes while the server writes its checkpoint; no stall is meant by that.
    let patience = wire.patience;
    wire.patience = patience.saturating_add(checkpoint);
    let rows = wire.result_set().await?;
    let (lsn, timeline) = point(&wire, only(&wire, &rows)?)?;
    wire.patience = patience;
    let rows = wire.result_set().await?;
    let tablespaces = rows
        .iter()
        .map(|row| tablespace(&wire, row))
        .collect::<Result<Vec<_>, _>>()?;
    wire.during = "a base backup";
    let start = StartPoint { lsn, timeline };
    Ok(BaseBackupStream::new(wire, version, start, tablespaces))
}

/// Start and end of a backup are told in the same form.
pub(super) fn point(wire: &Wire, row: &Row) -> Result<(Lsn, TimelineId), ReplicationError> {
    let lsn = text(wire, row, 0)?;
    let lsn = lsn
        .parse()
        .map_err(|_| wire.protocol(&format!("`{lsn}` for a position in WAL"), None))?;
    Ok((lsn, timeline(wire, text(wire, row, 1)?)?))
}

/// Timelines are decimal in this protocol.
pub(crate) fn timeline(wire: &Wire, text: &str) -> Result<TimelineId, ReplicationError> {
    let number = text.parse().ok();
    number
        .and_then(TimelineId::new)
        .ok_or_else(|| wire.protocol(&format!("`{text}` for a timeline"), None))
}

fn tablespace(wire: &Wire, row: &Row) -> Result<TablespaceInfo, ReplicationError> {
    let null = |column: usize| row.get(column).is_none_or(Option::is_none);
    let number = |column: usize| -> Result<Option<i64>, ReplicationError> {
        if null(column) {
            return Ok(None);
        }
        let text = text(wire, row, column)?;
        let parsed = text.parse().map(Some);
        parsed.map_err(|_| wire.protocol(&format!("`{text}` for a number"), None))
    };
    let oid = match number(0)? {
        None => None,
        Some(oid) => {
            let oid = u32::try_from(oid);
            Some(oid.map_err(|_| wire.protocol("an OID that is none", None))?)
        }
    };
    let path = if null(1) {
        String::new()
    } else {
        text(wire, row, 1)?.to_owned()
    };
    Ok(TablespaceInfo {
        oid,
        path,
        // -1 stands for "not estimated".
        size_kib: number(2)?.and_then(|size| u64::try_from(size).ok()),
    })
}
