//! A small HTTP/1.1 client over any stream: whole bytes go out, one answer with a Content-Length comes back.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};

/// Longer than anything in a test takes on a busy machine.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// An answer, as far as tests look at it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// Of the status line.
    pub status: u16,
    /// The body as text.
    pub body: String,
}

/// A blocking connection that stays open between requests.
#[derive(Debug)]
pub struct Client<S>(BufReader<S>);

// === impl Answer ===

impl Answer {
    /// Reads one answer.
    ///
    /// # Errors
    /// `UnexpectedEof` when there is not all of it, `Other` when it is no answer with a Content-Length.
    pub fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let (status_line, mut length) = (line(from)?, None);
        loop {
            let field = line(from)?.to_ascii_lowercase();
            if field.is_empty() {
                break;
            }
            if let Some(value) = field.strip_prefix("content-length:") {
                length = value.trim().parse().ok();
            }
        }
        let broken = |what: &str| io::Error::other(format!("{what} in an answer: {status_line}"));
        let status = status_line.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| broken("no status"))?;
        let mut body = vec![0; length.ok_or_else(|| broken("no Content-Length"))?];
        from.read_exact(&mut body)?;
        Ok(Self { status, body: String::from_utf8_lossy(&body).into_owned() })
    }
}

fn line(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = String::new();
    from.read_line(&mut line)?;
    let Some(line) = line.strip_suffix('\n') else { return Err(io::ErrorKind::UnexpectedEof.into()) };
    Ok(line.trim_end().to_owned())
}

// === impl Client ===

impl Client<TcpStream> {
    /// Connects; an answer that does not come within [`PATIENCE`] is an error.
    pub fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }
}

impl Client<UnixStream> {
    /// Connects to a unix socket, with the same patience.
    pub fn open(socket: &Path) -> io::Result<Self> {
        let stream = UnixStream::connect(socket)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        Ok(Self(BufReader::new(stream)))
    }
}

impl<S: Read + Write> Client<S> {
    /// GET / with this user agent.
    pub fn get(&mut self, user_agent: &str) -> io::Result<Answer> {
        self.ask(&request("GET", "/", &format!("User-Agent: {user_agent}\r\n"), b""))
    }

    /// Sends whole bytes and reads one answer.
    pub fn ask(&mut self, request: &[u8]) -> io::Result<Answer> {
        self.0.get_mut().write_all(request)?;
        Answer::read(&mut self.0)
    }
}

/// [`Client::ask`] for tests that run beside other tasks.
pub async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin, request: &[u8]) -> io::Result<Answer> {
    stream.write_all(request).await?;
    let mut bytes = Vec::new();
    loop {
        match Answer::read(&mut bytes.as_slice()) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {}
            answer => return answer,
        }
        if stream.read_buf(&mut bytes).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}

/// The bytes of a request; `headers` are whole lines.
pub fn request(method: &str, path: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let length = if length == 0 { String::new() } else { format!("Content-Length: {length}\r\n") };
    let mut request =
        format!("{method} {path} HTTP/1.1\r\nHost: shop.example\r\n{length}{headers}\r\n").into_bytes();
    request.extend_from_slice(body);
    request
}

/// What `curl -F name=NAME -F file=@FILE` sends.
pub fn form(path: &str, headers: &str, name: &str, file: &[u8]) -> Vec<u8> {
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

#[cfg(test)]
mod tests {
    use super::*;

    const WHOLE: &[u8] = b"HTTP/1.1 403 Forbidden\r\ncontent-length: 7\r\nServer: x\r\n\r\nblocked";

    #[test]
    fn an_answer_is_read_once_all_of_it_is_there() {
        for end in 0..WHOLE.len() {
            let error = Answer::read(&mut &WHOLE[..end]).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::UnexpectedEof, "{end} bytes");
        }
        let answer = Answer::read(&mut &*WHOLE).unwrap();
        assert_eq!(answer, Answer { status: 403, body: "blocked".into() });
    }

    #[test]
    fn what_is_no_answer_is_an_error_that_shows_it() {
        let error = Answer::read(&mut &b"HTTP/1.1 OK\r\nContent-Length: 0\r\n\r\n"[..]).unwrap_err();
        assert_eq!(error.to_string(), "no status in an answer: HTTP/1.1 OK");
        let error = Answer::read(&mut &b"HTTP/1.1 200 OK\r\n\r\n"[..]).unwrap_err();
        assert_eq!(error.to_string(), "no Content-Length in an answer: HTTP/1.1 200 OK");
    }
}
