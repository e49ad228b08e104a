//! Bounds the time in which nothing moves, not the time a transfer takes.

use std::future::Future;
use std::pin::pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use futures::Stream;
use tokio::time::Instant;

/// Piece in which a body is handed to the socket; the finer, the better progress shows.
const PIECE: usize = 64 * 1024;

/// Bytes that the HTTP client and the kernel take in advance: what is left to be sent when
/// the last piece was handed over.
const IN_ADVANCE: u64 = 2 * 1024 * 1024;

/// The silence was too long.
#[derive(Debug)]
pub(crate) struct Silent;

/// How far a body has come.
#[derive(Debug)]
pub(crate) struct Progress {
    total: u64,
    start: Instant,
    at: Mutex<(u64, Instant)>,
}

/// The result of `work`, unless nothing moves for `idle`.
pub(crate) async fn unless_idle<T>(
    progress: &Progress,
    idle: Duration,
    work: impl Future<Output = T>,
) -> Result<T, Silent> {
    let mut work = pin!(work);
    loop {
        let deadline = progress.deadline(idle);
        if let Ok(output) = tokio::time::timeout_at(deadline, &mut work).await {
            return Ok(output);
        }
        // It may have moved while we slept.
        if progress.deadline(idle) <= Instant::now() {
            return Err(Silent);
        }
    }
}

impl Progress {
    pub(crate) fn new(total: u64) -> Arc<Self> {
        let now = Instant::now();
        Arc::new(Self {
            total,
            start: now,
            at: Mutex::new((0, now)),
        })
    }

    /// The body in pieces; taking one counts as progress.
    pub(crate) fn watch(
        self: &Arc<Self>,
        body: Bytes,
    ) -> impl Stream<Item = Result<Bytes, std::convert::Infallible>> + Send + use<> {
        let progress = Arc::clone(self);
        let count = body.len().div_ceil(PIECE);
        futures::stream::iter((0..count).map(move |index| {
            let piece = body.slice(index * PIECE..body.len().min((index + 1) * PIECE));
            progress.moved(piece.len());
            Ok(piece)
        }))
    }

    fn moved(&self, bytes: usize) {
        let mut at = self.at.lock().unwrap_or_else(PoisonError::into_inner);
        *at = (at.0 + bytes as u64, Instant::now());
    }

    fn deadline(&self, idle: Duration) -> Instant {
        let (sent, last) = *self.at.lock().unwrap_or_else(PoisonError::into_inner);
        let mut deadline = last + idle;
        if sent == self.total && self.total > 0 {
            // Handed over is not sent. On a slow link the bytes taken in advance need as
            // long again as as many needed so far.
            let share = IN_ADVANCE.min(self.total) as f64 / self.total as f64;
            deadline += (last - self.start).mul_f64(share);
        }
        deadline
    }
}
