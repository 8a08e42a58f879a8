//! Takes the header off a connection, and not one byte of what follows it: that may be TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use thiserror::Error;
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;

use super::header::{Header, LONGEST, MalformedHeader, parse};

/// Why a connection that has to begin with a header does not.
#[derive(Debug, Error)]
pub(crate) enum HeaderError {
    #[error("the header did not come to its end in time")]
    Timeout,
    #[error("the connection ended before the header did")]
    Closed,
    #[error(transparent)]
    Malformed(#[from] MalformedHeader),
    #[error("the connection broke: {0}")]
    Broken(#[from] io::Error),
}

/// Whose the connection is, read within this time; `None` if it is the peer's own.
pub(crate) async fn receive(
    stream: &mut TcpStream,
    timeout: Duration,
) -> Result<Option<SocketAddr>, HeaderError> {
    match tokio::time::timeout(timeout, read(stream)).await {
        Ok(result) => result,
        Err(_) => Err(HeaderError::Timeout),
    }
}

async fn read(stream: &mut TcpStream) -> Result<Option<SocketAddr>, HeaderError> {
    let mut buffer = [0; LONGEST];
    let mut taken = 0;
    loop {
        // Looked at first, and taken once it is known to belong to the header.
        let seen = taken + stream.peek(&mut buffer[taken..]).await?;
        if seen == taken {
            return Err(HeaderError::Closed);
        }
        let (source, end) = match parse(&buffer[..seen])? {
            Header::Complete { source, length } => (Some(source), length),
            Header::Incomplete => (None, seen),
        };
        stream.read_exact(&mut buffer[taken..end]).await?;
        taken = end;
        if let Some(source) = source {
            return Ok(source);
        }
    }
}
