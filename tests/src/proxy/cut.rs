//! A connection that can end after some bytes of an answer.

use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;

/// So much of an answer is its first header and half of the next.
const SOME: usize = 40;

/// What is left to be written; shared with who handles the requests.
#[derive(Clone, Debug)]
pub(super) struct Scissors(Arc<AtomicUsize>);

impl Scissors {
    pub(super) fn new() -> Scissors {
        Scissors(Arc::new(AtomicUsize::new(usize::MAX)))
    }

    /// The next answer ends early, and the connection with it.
    pub(super) fn cut(&self) {
        self.0.store(SOME, Ordering::Relaxed);
    }
}

/// A stream that writes until the scissors close.
pub(super) struct Cutting {
    pub(super) stream: TcpStream,
    pub(super) scissors: Scissors,
}

impl AsyncRead for Cutting {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for Cutting {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let left = self.scissors.0.load(Ordering::Relaxed);
        if left == 0 {
            return Poll::Ready(Err(io::ErrorKind::BrokenPipe.into()));
        }
        let some = &bytes[..bytes.len().min(left)];
        let written = std::task::ready!(Pin::new(&mut self.stream).poll_write(cx, some))?;
        if left != usize::MAX {
            self.scissors.0.store(left - written, Ordering::Relaxed);
        }
        Poll::Ready(Ok(written))
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
