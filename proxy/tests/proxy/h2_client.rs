//! A client of the `h2` crate, which knows its way about.

use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures::future::poll_fn;
use h2::client::SendRequest;
use http::{HeaderMap, Request, Response};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

use super::world::PATIENCE;

/// One connection.
#[derive(Clone)]
pub(crate) struct H2Client {
    pub(crate) requests: SendRequest<Bytes>,
}

/// An answer that has come to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: String,
    pub(crate) trailers: Option<HeaderMap>,
}

/// Runs a test that waits, and not for ever.
pub(crate) fn block_on<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("it takes too long") })
}

impl H2Client {
    /// Without TLS.
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        Self::over(TcpStream::connect(address).await.unwrap()).await
    }

    /// The same with bytes of a proxy before it.
    pub(crate) async fn connect_behind(header: &[u8], address: SocketAddr) -> Self {
        let mut stream = TcpStream::connect(address).await.unwrap();
        tokio::io::AsyncWriteExt::write_all(&mut stream, header).await.unwrap();
        Self::over(stream).await
    }

    pub(crate) async fn connect_tls(address: SocketAddr, config: &Arc<ClientConfig>, name: &str) -> Self {
        let stream = TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from(name.to_owned()).unwrap();
        let stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await.unwrap();
        assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
        Self::over(stream).await
    }

    async fn over(
        stream: impl tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    ) -> Self {
        let (requests, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(connection);
        Self { requests }
    }

    /// Sends a request without a body.
    pub(crate) async fn send(&self, request: Request<()>) -> Result<Answer, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, _) = requests.send_request(request, true)?;
        read(response.await?).await
    }

    /// Sends a request with a body in pieces, and trailers.
    pub(crate) async fn send_with(
        &self,
        request: Request<()>,
        pieces: &[&str],
        trailers: Option<HeaderMap>,
    ) -> Result<Answer, h2::Error> {
        let mut requests = self.requests.clone().ready().await?;
        let (response, mut stream) = requests.send_request(request, false)?;
        for (index, piece) in pieces.iter().enumerate() {
            let is_last = index + 1 == pieces.len() && trailers.is_none();
            stream.send_data(Bytes::copy_from_slice(piece.as_bytes()), is_last)?;
        }
        if let Some(trailers) = trailers {
            stream.send_trailers(trailers)?;
        }
        read(response.await?).await
    }

    pub(crate) async fn get(&self, uri: &str) -> Answer {
        self.send(get(uri)).await.unwrap()
    }
}

pub(crate) fn get(uri: &str) -> Request<()> {
    Request::get(uri).version(http::Version::HTTP_2).body(()).unwrap()
}

pub(crate) fn post(uri: &str) -> Request<()> {
    Request::post(uri).version(http::Version::HTTP_2).body(()).unwrap()
}

/// Reads an answer to its end.
pub(crate) async fn read(response: Response<h2::RecvStream>) -> Result<Answer, h2::Error> {
    let (head, mut body) = response.into_parts();
    let mut bytes = Vec::new();
    while let Some(data) = body.data().await {
        let data = data?;
        body.flow_control().release_capacity(data.len())?;
        bytes.extend_from_slice(&data);
    }
    let trailers = poll_fn(|cx| body.poll_trailers(cx)).await?;
    Ok(Answer {
        status: head.status.as_u16(),
        headers: head.headers,
        body: String::from_utf8(bytes).unwrap(),
        trailers,
    })
}
