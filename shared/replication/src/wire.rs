//! Messages from and to the socket.

use std::io;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fallible_iterator::FallibleIterator as _;
use postgres_protocol::message::backend::{
    DATA_ROW_TAG, DataRowBody, ErrorResponseBody, Header, Message,
};
use postgres_protocol::message::frontend;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use crate::error::ReplicationError;
use crate::message::ServerMessage;

/// A server's data comes in messages of 32 KiB and some bytes; errors are shorter.
const LONGEST: usize = (1 << 20) + (1 << 16);
/// A row: a timeline history may be long.
const LONGEST_ROW: usize = 64 << 20;
/// What a result set may hold together.
const LONGEST_RESULT: usize = 64 << 20;
/// Read at once, so that a message costs less than one system call.
const READ: usize = 256 << 10;
const NOTICES: usize = 100;

/// TCP, a Unix-domain socket, or TLS.
pub(crate) trait Stream: AsyncRead + AsyncWrite + Send + Sync + Unpin {}
impl<S: AsyncRead + AsyncWrite + Send + Sync + Unpin> Stream for S {}

/// A connection that knows where a message ends.
pub(crate) struct Wire {
    stream: Box<dyn Stream>,
    input: BytesMut,
    /// For errors.
    pub(crate) server: String,
    pub(crate) during: &'static str,
    /// How long the server may send nothing.
    pub(crate) patience: Duration,
    /// The first hundred.
    pub(crate) notices: Vec<ServerMessage>,
}

/// Column values; `None` is NULL.
pub(crate) type Row = Vec<Option<Bytes>>;

impl Wire {
    pub(crate) fn new(stream: Box<dyn Stream>, server: String, patience: Duration) -> Self {
        Self {
            stream,
            input: BytesMut::new(),
            server,
            during: "authentication",
            patience,
            notices: Vec::new(),
        }
    }

    /// Sends what `write` composes.
    pub(crate) async fn send(
        &mut self,
        write: impl FnOnce(&mut BytesMut) -> io::Result<()>,
    ) -> Result<(), ReplicationError> {
        let mut output = BytesMut::new();
        write(&mut output).map_err(|error| ReplicationError::Argument {
            what: format!("the command cannot be sent: {error}"),
        })?;
        let sent = async {
            self.stream.write_all(&output).await?;
            self.stream.flush().await
        };
        match timeout(self.patience, sent).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(self.gone(Some(error))),
            Err(_) => Err(self.stalled()),
        }
    }

    /// The next message that is an answer. Notices are kept and logged on the way. Reads from
    /// the socket only if no whole message is there. Cancelling it loses nothing.
    pub(crate) async fn message(&mut self) -> Result<Message, ReplicationError> {
        loop {
            match split_message(&mut self.input) {
                Ok(Some(Message::NoticeResponse(body))) => self.notice(body.fields()),
                Ok(Some(Message::ParameterStatus(_) | Message::NotificationResponse(_))) => {}
                Ok(Some(message)) => return Ok(message),
                Ok(None) => self.fill().await?,
                Err(error) => return Err(self.protocol("a malformed message", Some(error))),
            }
        }
    }

    /// Runs a command that answers with rows, up to where the next command may be sent.
    pub(crate) async fn query(&mut self, command: &str) -> Result<Vec<Row>, ReplicationError> {
        self.send(|output| frontend::query(command, output)).await?;
        let mut rows = Rows::default();
        let mut refused = None;
        loop {
            let message = match self.message().await {
                // After a FATAL error the connection ends.
                Err(ReplicationError::Gone { .. }) if refused.is_some() => break,
                message => message?,
            };
            match message {
                Message::RowDescription(_)
                | Message::CommandComplete(_)
                | Message::EmptyQueryResponse => {}
                Message::DataRow(body) => rows.add(self, &body)?,
                Message::ErrorResponse(body) => refused = Some(self.refusal(&body)),
                Message::ReadyForQuery(_) => break,
                other => return Err(self.unexpected(&other)),
            }
        }
        match refused {
            Some(error) => Err(error),
            None => Ok(rows.rows),
        }
    }

    /// One result set of several that a command answers with.
    pub(crate) async fn result_set(&mut self) -> Result<Vec<Row>, ReplicationError> {
        let mut rows = Rows::default();
        loop {
            match self.message().await? {
                Message::RowDescription(_) => {}
                Message::DataRow(body) => rows.add(self, &body)?,
                Message::CommandComplete(_) => return Ok(rows.rows),
                Message::ErrorResponse(body) => return Err(self.refusal(&body)),
                other => return Err(self.unexpected(&other)),
            }
        }
    }

    pub(crate) fn row(&self, body: &DataRowBody) -> Result<Row, ReplicationError> {
        let buffer = body.buffer_bytes();
        let value = |range: Option<std::ops::Range<usize>>| Ok(range.map(|at| buffer.slice(at)));
        body.ranges()
            .map(value)
            .collect()
            .map_err(|error| self.protocol("a malformed row", Some(error)))
    }

    /// An error that the server answers with.
    pub(crate) fn refusal(&self, body: &ErrorResponseBody) -> ReplicationError {
        match ServerMessage::read(body.fields()) {
            Ok(source) => ReplicationError::Server {
                server: self.server.clone(),
                during: self.during,
                source: Box::new(source),
            },
            Err(error) => self.protocol("a malformed error", Some(error)),
        }
    }

    pub(crate) fn protocol(&self, what: &str, source: Option<io::Error>) -> ReplicationError {
        ReplicationError::Protocol {
            server: self.server.clone(),
            what: format!("{what} during {}", self.during),
            source: source.map(Into::into),
        }
    }

    pub(crate) fn unexpected(&self, message: &Message) -> ReplicationError {
        self.protocol(kind(message), None)
    }

    fn notice(&mut self, fields: postgres_protocol::message::backend::ErrorFields<'_>) {
        let Ok(notice) = ServerMessage::read(fields) else {
            return;
        };
        tracing::warn!(
            server = self.server,
            severity = notice.severity,
            "the server says: {notice}"
        );
        if self.notices.len() < NOTICES {
            self.notices.push(notice);
        }
    }

    async fn fill(&mut self) -> Result<(), ReplicationError> {
        if self.input.capacity() - self.input.len() < READ / 8 {
            // What was handed out keeps the old allocation alive, so this makes a new one.
            self.input.reserve(READ);
        }
        match timeout(self.patience, self.stream.read_buf(&mut self.input)).await {
            Ok(Ok(0)) => Err(self.gone(None)),
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(self.gone(Some(error))),
            Err(_) => Err(self.stalled()),
        }
    }

    fn gone(&self, source: Option<io::Error>) -> ReplicationError {
        ReplicationError::Gone {
            server: self.server.clone(),
            during: self.during,
            source,
        }
    }

    fn stalled(&self) -> ReplicationError {
        ReplicationError::Stalled {
            server: self.server.clone(),
            during: self.during,
            limit: self.patience,
        }
    }
}

#[derive(Default)]
struct Rows {
    rows: Vec<Row>,
    bytes: usize,
}

impl Rows {
    fn add(&mut self, wire: &Wire, body: &DataRowBody) -> Result<(), ReplicationError> {
        self.bytes = self.bytes.saturating_add(body.buffer().len() + 32);
        if self.bytes > LONGEST_RESULT {
            return Err(wire.protocol("a result set that is too long", None));
        }
        self.rows.push(wire.row(body)?);
        Ok(())
    }
}

/// Takes the first message out of `input`; `None` if it is not there as a whole. The length
/// that it claims is checked before anything is reserved for it.
fn split_message(input: &mut BytesMut) -> io::Result<Option<Message>> {
    let Some(header) = Header::parse(input)? else {
        return Ok(None);
    };
    let limit = if header.tag() == DATA_ROW_TAG {
        LONGEST_ROW
    } else {
        LONGEST
    };
    if usize::try_from(header.len()).is_ok_and(|length| length <= limit) {
        Message::parse(input)
    } else {
        Err(io::Error::new(
            io::ErrorKind::InvalidData,
            format!("a message claims to have {} bytes", header.len()),
        ))
    }
}

fn kind(message: &Message) -> &'static str {
    match message {
        Message::CommandComplete(_) => "the end of a command",
        Message::CopyData(_) => "data",
        Message::CopyDone => "the end of a copy",
        Message::CopyOutResponse(_) => "the beginning of a copy",
        Message::CopyInResponse(_) => "a request for data",
        Message::DataRow(_) => "a row",
        Message::RowDescription(_) => "the beginning of rows",
        Message::ReadyForQuery(_) => "the server waits for a command",
        _ => "a message that does not belong here",
    }
}

#[cfg(test)]
mod tests;
