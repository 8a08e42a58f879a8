//! A small HTTP server for what operators of a program ask it: health, metrics, administration. All of it is bounded, so
//! that nobody who reaches the port takes the program down.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;

/// Connections at a time; more wait to be accepted.
const CONNECTIONS: usize = 64;
/// A request head must come within this time.
const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// A whole connection ends after this time.
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(60);

/// An admin HTTP server that is bound and does not serve yet.
#[derive(Debug)]
pub enum AdminServer {
    /// TCP.
    Tcp(TcpListener),
    /// A unix socket.
    Unix(UnixListener),
}

impl AdminServer {
    /// Binds a TCP port.
    pub async fn tcp(address: SocketAddr) -> io::Result<Self> {
        TcpListener::bind(address).await.map(Self::Tcp)
    }

    /// Binds a unix socket that only this user may connect to. One that a crash left behind is replaced.
    pub fn unix(path: &Path) -> io::Result<Self> {
        use std::os::unix::fs::{FileTypeExt, PermissionsExt};
        if std::fs::symlink_metadata(path).is_ok_and(|found| found.file_type().is_socket()) {
            std::fs::remove_file(path)?;
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Self::Unix(listener))
    }

    /// The TCP address, with the port that was taken.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    /// Serves until it is dropped.
    pub async fn serve<H, F>(self, handler: H)
    where
        H: Fn(Request<Incoming>) -> F + Clone + Send + Sync + 'static,
        F: Future<Output = Response<Full<Bytes>>> + Send + 'static,
    {
        let slots = Arc::new(Semaphore::new(CONNECTIONS));
        loop {
            let Ok(slot) = slots.clone().acquire_owned().await else { return };
            let accepted = match &self {
                Self::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
                Self::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
            };
            let handler = handler.clone();
            match accepted {
                Ok(stream) => {
                    tokio::spawn(async move {
                        match stream {
                            Stream::Tcp(stream) => converse(stream, handler).await,
                            Stream::Unix(stream) => converse(stream, handler).await,
                        }
                        drop(slot);
                    });
                }
                Err(error) => {
                    // Out of file descriptors, mostly: others have to be closed first.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
    }
}

enum Stream {
    Tcp(tokio::net::TcpStream),
    Unix(tokio::net::UnixStream),
}

async fn converse<S, H, F>(stream: S, handler: H)
where
    S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    H: Fn(Request<Incoming>) -> F,
    F: Future<Output = Response<Full<Bytes>>>,
{
    let service = service_fn(|request| {
        let response = handler(request);
        async move { Ok::<_, std::convert::Infallible>(response.await) }
    });
    let connection = hyper::server::conn::http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    match tokio::time::timeout(CONNECTION_TIMEOUT, connection).await {
        Ok(Ok(())) | Err(_) => {}
        Ok(Err(error)) => tracing::debug!(%error, "connection ended"),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use http::StatusCode;
    use portcullis_test_tools::http::{ask, request};
    use tokio::net::{TcpStream, UnixStream};

    use super::*;
    use crate::response::text;

    async fn path_of(request: Request<Incoming>) -> Response<Full<Bytes>> {
        text(StatusCode::OK, request.uri().path().to_owned())
    }

    #[tokio::test]
    async fn a_port_answers() {
        let server = AdminServer::tcp("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.address().expect("a TCP port");
        tokio::spawn(server.serve(path_of));
        let stream = TcpStream::connect(address).await.unwrap();
        let answer = ask(stream, &request("GET", "/readyz", "", b"")).await.unwrap();
        assert_eq!((answer.status, answer.body.as_str()), (200, "/readyz"));
    }

    #[tokio::test]
    async fn a_socket_that_a_crash_left_is_replaced_and_is_this_users_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        drop(AdminServer::unix(&path).unwrap());
        let server = AdminServer::unix(&path).unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        tokio::spawn(server.serve(path_of));
        let stream = UnixStream::connect(&path).await.unwrap();
        assert_eq!(ask(stream, &request("GET", "/", "", b"")).await.unwrap().status, 200);
    }

    #[tokio::test]
    async fn what_is_no_socket_is_left_alone() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("admin.sock");
        std::fs::write(&path, "a file").unwrap();
        assert!(AdminServer::unix(&path).is_err());
        assert_eq!(std::fs::read_to_string(&path).unwrap(), "a file");
    }
}
