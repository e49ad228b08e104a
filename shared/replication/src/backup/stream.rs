use postgres_protocol::message::backend::Message;
use walferry_wal::{Lsn, TimelineId};

use super::begin::point;
use super::each::EachArchive;
use super::event::{BackupEvent, StartPoint, TablespaceInfo};
use super::one::OneCopy;
use crate::error::ReplicationError;
use crate::message::ServerMessage;
use crate::wire::Wire;

/// A base backup under way. Dropping it closes the connection, and the server gives up.
pub struct BaseBackupStream {
    wire: Wire,
    start: StartPoint,
    tablespaces: Vec<TablespaceInfo>,
    phase: Phase,
}

/// How far it is. Changed only by a message that has come as a whole.
enum Phase {
    /// 15 and later.
    One(OneCopy),
    /// 14.
    Each(EachArchive),
    /// All data has come: where the backup stopped, and whether the server objects.
    Tail(Option<(Lsn, TimelineId)>),
    /// Ended or failed: nothing more will come.
    Over,
}

/// What a message of the copy means.
pub(super) enum Step {
    Event(BackupEvent),
    /// It was the protocol's own affair.
    Nothing,
    /// All data has come.
    Complete,
    /// It does not belong there, for this reason.
    Wrong(&'static str),
}

impl BaseBackupStream {
    pub(super) fn new(
        wire: Wire,
        version: u32,
        start: StartPoint,
        tablespaces: Vec<TablespaceInfo>,
    ) -> Self {
        let archives: Vec<_> = tablespaces.iter().map(|one| one.oid).collect();
        let phase = if version >= 150_000 {
            Phase::One(OneCopy::new(archives))
        } else {
            Phase::Each(EachArchive::new(archives))
        };
        Self {
            wire,
            start,
            tablespaces,
            phase,
        }
    }

    /// Where it starts.
    #[must_use]
    pub fn start(&self) -> &StartPoint {
        &self.start
    }

    /// The archives that will come, in the server's order: the data directory is the last.
    #[must_use]
    pub fn tablespaces(&self) -> &[TablespaceInfo] {
        &self.tablespaces
    }

    /// Notices and warnings of the server, the first hundred. Each is logged as it comes. A
    /// page with a wrong checksum is a warning here and an error instead of the end.
    #[must_use]
    pub fn notices(&self) -> &[ServerMessage] {
        &self.wire.notices
    }

    /// The next event. Reads from the socket only if it has to. Cancelling it loses nothing:
    /// call it again.
    ///
    /// # Errors
    /// The backup failed and has to begin anew: the server reports an error, is gone, or sent
    /// nothing for the time that the settings give it. Also when asked again after the end.
    pub async fn next(&mut self) -> Result<BackupEvent, ReplicationError> {
        loop {
            if matches!(self.phase, Phase::Over) {
                return Err(self.wire.protocol("nothing more will come", None));
            }
            let message = match self.wire.message().await {
                Ok(message) => message,
                Err(error) => return Err(self.failed(error)),
            };
            match self.step(message) {
                Ok(Some(event)) => return Ok(event),
                Ok(None) => {}
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    fn step(&mut self, message: Message) -> Result<Option<BackupEvent>, ReplicationError> {
        if let Message::ErrorResponse(body) = &message {
            return Err(self.wire.refusal(body));
        }
        let step = match &mut self.phase {
            Phase::One(copy) => copy.step(message),
            Phase::Each(copy) => copy.step(message),
            Phase::Tail(_) => return self.tail(&message),
            Phase::Over => Step::Nothing,
        };
        match step {
            Step::Event(event) => Ok(Some(event)),
            Step::Nothing => Ok(None),
            Step::Complete => {
                self.phase = Phase::Tail(None);
                Ok(None)
            }
            Step::Wrong(what) => Err(self.wire.protocol(what, None)),
        }
    }

    /// The result set with the end, and the end of the command. The server verifies checksums
    /// and says so between the two: before `ReadyForQuery` nothing has succeeded.
    fn tail(&mut self, message: &Message) -> Result<Option<BackupEvent>, ReplicationError> {
        let Phase::Tail(stop) = &mut self.phase else {
            return Ok(None);
        };
        match (message, &stop) {
            (Message::RowDescription(_) | Message::CommandComplete(_), _) => Ok(None),
            (Message::DataRow(body), None) => {
                let row = self.wire.row(body)?;
                *stop = Some(point(&self.wire, &row)?);
                Ok(None)
            }
            (Message::ReadyForQuery(_), Some((stop_lsn, stop_timeline))) => {
                let (stop_lsn, stop_timeline) = (*stop_lsn, *stop_timeline);
                self.phase = Phase::Over;
                Ok(Some(BackupEvent::End {
                    stop_lsn,
                    stop_timeline,
                }))
            }
            (other, _) => Err(self.wire.unexpected(other)),
        }
    }

    fn failed(&mut self, error: ReplicationError) -> ReplicationError {
        self.phase = Phase::Over;
        error
    }
}

impl std::fmt::Debug for BaseBackupStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "BaseBackupStream({})", self.wire.server)
    }
}
