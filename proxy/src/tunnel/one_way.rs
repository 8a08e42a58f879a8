//! One direction of a tunnel.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use std::time::Instant;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

/// Bytes on their way from one side to the other. No more is read before all that was read is written, so what waits is at
/// most what one read brought.
#[derive(Debug)]
pub(super) struct OneWay {
    pending: BytesMut,
    end: End,
    /// Whether TLS may keep some of it back.
    is_kept: bool,
    moved: Instant,
}

/// How far the end of a direction has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Not,
    /// The one side sends no more.
    Read,
    /// The other side was told.
    PassedOn,
}

impl OneWay {
    /// A direction of which these bytes were read before.
    pub(super) fn new(pending: BytesMut) -> Self {
        Self { pending, end: End::Not, is_kept: false, moved: Instant::now() }
    }

    /// When the last byte was written.
    pub(super) fn moved(&self) -> Instant {
        self.moved
    }

    /// Whether all that was read is written.
    pub(super) fn is_through(&self) -> bool {
        self.pending.is_empty()
    }

    /// Whether the one side sends no more.
    pub(super) fn has_ended(&self) -> bool {
        self.end != End::Not
    }

    /// Adds bytes of our own.
    pub(super) fn push(&mut self, bytes: &[u8]) {
        self.pending.extend_from_slice(bytes);
    }

    /// Passes on what there is, and the end. Of what is read, so many bytes from the front as `pass` says, the rest is dropped.
    /// Ready when the end is passed on.
    pub(super) fn poll(
        &mut self,
        from: &mut (impl AsyncRead + Unpin),
        to: &mut (impl AsyncWrite + Unpin),
        scratch: &mut [u8],
        cx: &mut Context<'_>,
        mut pass: impl FnMut(&[u8]) -> usize,
    ) -> Poll<io::Result<()>> {
        loop {
            while !self.pending.is_empty() {
                let written = ready!(Pin::new(&mut *to).poll_write(cx, &self.pending))?;
                self.wrote(written)?;
                self.pending.advance(written);
            }
            match self.end {
                End::Not => (),
                End::Read => {
                    ready!(Pin::new(&mut *to).poll_shutdown(cx))?;
                    self.end = End::PassedOn;
                }
                End::PassedOn => return Poll::Ready(Ok(())),
            }
            // Quiet tunnels hold no memory.
            self.pending = BytesMut::new();
            let mut buffer = ReadBuf::new(scratch);
            match Pin::new(&mut *from).poll_read(cx, &mut buffer) {
                Poll::Ready(result) => result?,
                Poll::Pending => {
                    if self.is_kept {
                        ready!(Pin::new(&mut *to).poll_flush(cx))?;
                        self.is_kept = false;
                    }
                    return Poll::Pending;
                }
            }
            let bytes = buffer.filled();
            if bytes.is_empty() {
                self.end = End::Read;
                continue;
            }
            let bytes = &bytes[..pass(bytes)];
            let written = match Pin::new(&mut *to).poll_write(cx, bytes) {
                _ if bytes.is_empty() => 0,
                Poll::Ready(written) => {
                    let written = written?;
                    self.wrote(written)?;
                    written
                }
                Poll::Pending => 0,
            };
            self.pending.extend_from_slice(&bytes[written..]);
        }
    }

    fn wrote(&mut self, bytes: usize) -> io::Result<()> {
        if bytes == 0 {
            return Err(io::ErrorKind::WriteZero.into());
        }
        self.is_kept = true;
        self.moved = Instant::now();
        Ok(())
    }
}
