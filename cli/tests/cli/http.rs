//! A small HTTP/1.1 client over any stream.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

/// Longer than anything here takes on a busy machine.
pub(crate) const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) const BROWSER: &str = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";
pub(crate) const SQLMAP: &str = "sqlmap/1.8.2#stable (https://sqlmap.org)";
/// Let through by 1.0.0 of bad-bot-blocker, blocked by 2.0.0.
pub(crate) const SCRIPT: &str = "python-requests/2.32.3";

#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) body: String,
}

/// A connection that stays open between requests.
pub(crate) struct Client<S>(BufReader<S>);

impl Client<TcpStream> {
    pub(crate) fn connect(address: SocketAddr) -> std::io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }
}

impl<S: Read + Write> Client<S> {
    /// GET / with this user agent.
    pub(crate) fn get(&mut self, user_agent: &str) -> std::io::Result<Answer> {
        self.ask(&request("GET", "/", &format!("User-Agent: {user_agent}\r\n"), b""))
    }

    /// Sends whole bytes and reads one answer.
    pub(crate) fn ask(&mut self, request: &[u8]) -> std::io::Result<Answer> {
        self.0.get_mut().write_all(request)?;
        let (status_line, mut length) = (self.line()?, None);
        loop {
            let line = self.line()?.to_ascii_lowercase();
            if line.is_empty() {
                break;
            }
            if let Some(value) = line.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        let broken = |what: &str| std::io::Error::other(format!("{what} in an answer: {status_line}"));
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken("no status"))?;
        let mut body = vec![0; length.ok_or_else(|| broken("no Content-Length"))?];
        self.0.read_exact(&mut body)?;
        Ok(Answer { status, body: String::from_utf8_lossy(&body).into_owned() })
    }

    fn line(&mut self) -> std::io::Result<String> {
        let mut line = String::new();
        if self.0.read_line(&mut line)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        Ok(line.trim_end().to_owned())
    }
}

/// GET / on a connection of its own.
pub(crate) fn get(address: SocketAddr, user_agent: &str) -> Answer {
    Client::connect(address).and_then(|mut client| client.get(user_agent)).unwrap()
}

/// One request on a connection of its own.
pub(crate) fn tcp(address: SocketAddr, request: &[u8]) -> Answer {
    Client::connect(address).and_then(|mut client| client.ask(request)).unwrap()
}

/// One request to a unix socket.
pub(crate) fn unix(socket: &Path, request: &[u8]) -> Answer {
    let stream = UnixStream::connect(socket).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    Client(BufReader::new(stream)).ask(request).unwrap()
}

/// The bytes of a request; `headers` are whole lines.
pub(crate) fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let length = if length == 0 { String::new() } else { format!("Content-Length: {length}\r\n") };
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n{length}{headers}\r\n").into_bytes();
    request.extend_from_slice(body);
    request
}

/// What `curl -F name=NAME -F file=@FILE` sends.
pub(crate) fn form(path: &str, headers: &str, name: &str, file: &[u8]) -> Vec<u8> {
    let mut body = format!(
        "--B\r\nContent-Disposition: form-data; name=\"name\"\r\n\r\n{name}\r\n\
         --B\r\nContent-Disposition: form-data; name=\"file\"; filename=\"rule.wasm\"\r\n\
         Content-Type: application/wasm\r\n\r\n"
    )
    .into_bytes();
    body.extend_from_slice(file);
    body.extend_from_slice(b"\r\n--B--\r\n");
    request("POST", path, &format!("Content-Type: multipart/form-data; boundary=B\r\n{headers}"), &body)
}
