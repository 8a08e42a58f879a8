//! The end of a connection to a client.

use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// This much of what a client still sends is read and thrown away: closing with unread bytes resets the connection, and
/// the client may lose the answer.
const BYTES: u64 = 64 * 1024;
const TIME: Duration = Duration::from_secs(2);

/// Closes our side, and waits a little for the client to close its own.
pub(crate) async fn linger(mut stream: impl AsyncRead + AsyncWrite + Unpin) {
    let drained = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(BYTES), &mut tokio::io::sink()).await
    };
    match tokio::time::timeout(TIME, drained).await {
        // In all cases we are done with the connection.
        Ok(Ok(_)) | Err(_) => (),
        Ok(Err(error)) => tracing::trace!(%error, "the client did not wait for the end"),
    }
}
