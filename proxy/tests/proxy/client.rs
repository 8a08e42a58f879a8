//! A client that sends exactly the bytes it is told to.

use std::io::{self, ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;

use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection, HandshakeKind, ProtocolVersion, StreamOwned};

use super::world::PATIENCE;

/// One connection.
pub(crate) struct Client {
    socket: TcpStream,
    stream: Box<dyn Stream>,
    received: Vec<u8>,
}

/// What bytes are read from and written to.
trait Stream: Read + Write + Send {}

impl<S: Read + Write + Send> Stream for S {}

/// An answer.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    /// What follows the status and one space.
    pub(crate) reason: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: String,
}

impl Answer {
    /// The value of a header, if it was sent once.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(n, _)| n == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} was sent twice");
        value
    }
}

/// What a client sees of TLS.
#[derive(Debug)]
pub(crate) struct TlsSession {
    pub(crate) certificate: Vec<u8>,
    pub(crate) version: ProtocolVersion,
    pub(crate) protocol: Option<Vec<u8>>,
    pub(crate) is_resumed: bool,
}

impl From<TcpStream> for Client {
    fn from(socket: TcpStream) -> Self {
        let stream = Box::new(socket.try_clone().unwrap());
        Self { socket, stream, received: Vec::new() }
    }
}

fn socket(address: SocketAddr) -> TcpStream {
    let socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.set_nodelay(true).unwrap();
    socket
}

impl Client {
    pub(crate) fn connect(address: SocketAddr) -> Self {
        socket(address).into()
    }

    /// By TLS. The handshake is through, or this is why not.
    pub(crate) fn connect_tls(
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        server_name: &str,
    ) -> io::Result<(Self, TlsSession)> {
        Self::connect_tls_behind(b"", address, config, server_name)
    }

    /// The same with bytes of a proxy before it.
    pub(crate) fn connect_tls_behind(
        header: &[u8],
        address: SocketAddr,
        config: &Arc<ClientConfig>,
        server_name: &str,
    ) -> io::Result<(Self, TlsSession)> {
        let mut socket = socket(address);
        socket.write_all(header)?;
        let name = ServerName::try_from(server_name.to_owned()).unwrap();
        let mut session = ClientConnection::new(Arc::clone(config), name).unwrap();
        while session.is_handshaking() {
            session.complete_io(&mut socket)?;
        }
        let seen = TlsSession {
            certificate: session.peer_certificates().unwrap()[0].to_vec(),
            version: session.protocol_version().unwrap(),
            protocol: session.alpn_protocol().map(<[u8]>::to_vec),
            is_resumed: session.handshake_kind() == Some(HandshakeKind::Resumed),
        };
        let stream = Box::new(StreamOwned::new(session, socket.try_clone().unwrap()));
        Ok((Self { socket, stream, received: Vec::new() }, seen))
    }

    /// Sends bytes. A peer that has already closed is no error: its answer tells.
    pub(crate) fn send(&mut self, bytes: impl AsRef<[u8]>) -> &mut Self {
        if let Err(error) = self.stream.write_all(bytes.as_ref()) {
            assert!(matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset), "{error}");
        }
        self
    }

    /// A GET of this path, and its answer.
    pub(crate) fn get(&mut self, path: &str) -> Answer {
        self.send(format!("GET {path} HTTP/1.1\r\nHost: shop.example\r\n\r\n")).answer()
    }

    /// Reads one answer to anything but HEAD.
    pub(crate) fn answer(&mut self) -> Answer {
        let mut answer = self.head();
        let chunked = answer.header("transfer-encoding") == Some("chunked");
        let length = answer.header("content-length").map(|length| length.parse().unwrap());
        let body = match (chunked, length) {
            // Whatever its head announces (RFC 9112 section 6.3).
            _ if matches!(answer.status, 100..=199 | 204 | 304) => Vec::new(),
            (true, None) => self.chunks(),
            (false, Some(length)) => self.take(length),
            (false, None) => self.rest(),
            (true, Some(_)) => panic!("both lengths: {answer:?}"),
        };
        answer.body = String::from_utf8(body).unwrap();
        answer
    }

    /// Reads the head of an answer only.
    pub(crate) fn head(&mut self) -> Answer {
        let end = loop {
            if let Some(at) = self.received.windows(4).position(|w| w == b"\r\n\r\n") {
                break at + 4;
            }
            assert!(
                self.read() > 0,
                "closed before the end of a head: {:?}",
                String::from_utf8_lossy(&self.received)
            );
        };
        let head = String::from_utf8(self.take(end)).unwrap();
        let mut lines = head.strip_suffix("\r\n\r\n").unwrap().split("\r\n");
        let status_line = lines.next().unwrap();
        assert!(
            status_line.starts_with("HTTP/1.1 ") || status_line.starts_with("HTTP/1.0 "),
            "{status_line}"
        );
        Answer {
            status: status_line[9..12].parse().unwrap(),
            reason: status_line[12..].strip_prefix(' ').unwrap().to_owned(),
            headers: lines
                .map(|line| line.split_once(':').unwrap())
                .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
                .collect(),
            body: String::new(),
        }
    }

    /// Reads the next chunk of a chunked body, and not more.
    pub(crate) fn chunk(&mut self) -> String {
        let size = usize::from_str_radix(&self.line(), 16).unwrap();
        let chunk = self.take(size);
        assert_eq!(self.line(), "");
        String::from_utf8(chunk).unwrap()
    }

    /// Everything until the peer closes.
    pub(crate) fn rest(&mut self) -> Vec<u8> {
        while self.read() > 0 {}
        std::mem::take(&mut self.received)
    }

    /// Nothing more comes, and the peer has closed.
    pub(crate) fn assert_closed(&mut self) {
        let rest = self.rest();
        assert!(rest.is_empty(), "after the last answer: {:?}", String::from_utf8_lossy(&rest));
    }

    /// Closes our side for writing, if the peer has not closed the connection.
    pub(crate) fn finish_writing(&mut self) {
        if let Err(error) = self.socket.shutdown(std::net::Shutdown::Write) {
            assert_eq!(error.kind(), ErrorKind::NotConnected);
        }
    }

    fn chunks(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        loop {
            let chunk = self.chunk();
            if chunk.is_empty() {
                return body;
            }
            body.extend(chunk.into_bytes());
        }
    }

    fn line(&mut self) -> String {
        loop {
            if let Some(at) = self.received.windows(2).position(|w| w == b"\r\n") {
                let line = self.take(at);
                self.take(2);
                return String::from_utf8(line).unwrap();
            }
            assert!(self.read() > 0, "closed within a line");
        }
    }

    fn take(&mut self, bytes: usize) -> Vec<u8> {
        while self.received.len() < bytes {
            assert!(self.read() > 0, "closed after {} of {bytes} bytes", self.received.len());
        }
        self.received.drain(..bytes).collect()
    }

    fn read(&mut self) -> usize {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(read) => {
                self.received.extend_from_slice(&buffer[..read]);
                read
            }
            Err(error) if error.kind() == ErrorKind::ConnectionReset => 0,
            Err(error) => panic!("no answer: {error}"),
        }
    }
}
