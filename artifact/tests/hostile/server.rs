//! A registry that misbehaves: it writes exactly the bytes a test wants, for each path.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

/// What the server does for one path, whatever the method.
#[derive(Clone)]
pub(crate) enum Reply {
    /// Writes these bytes and closes the connection.
    Bytes(Vec<u8>),
    /// Writes the first bytes, then the second ones again and again until the client leaves.
    Endless(Vec<u8>, Vec<u8>),
    /// Writes these bytes, one more every 20 ms until the client leaves.
    Dribble(Vec<u8>),
    /// The first reply without an Authorization header, the second with one.
    Authorized(Box<Reply>, Box<Reply>),
}

impl Reply {
    /// A complete answer with its length.
    pub(crate) fn of(status: &str, headers: &[(&str, &str)], body: &[u8]) -> Self {
        let mut bytes = format!("HTTP/1.1 {status}\r\nconnection: close\r\n").into_bytes();
        for (name, value) in headers {
            bytes.extend_from_slice(format!("{name}: {value}\r\n").as_bytes());
        }
        bytes.extend_from_slice(format!("content-length: {}\r\n\r\n", body.len()).as_bytes());
        bytes.extend_from_slice(body);
        Self::Bytes(bytes)
    }

    /// 200 with this body.
    pub(crate) fn ok(body: &[u8]) -> Self {
        Self::of("200 OK", &[], body)
    }
}

/// The server; it ends when this is dropped.
pub(crate) struct Server {
    host: String,
    requests: Arc<Mutex<Vec<String>>>,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
    task: JoinHandle<()>,
}

impl Server {
    pub(crate) async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let requests = Arc::new(Mutex::new(Vec::new()));
        let replies = Arc::new(Mutex::new(HashMap::new()));
        let (seen, table) = (requests.clone(), replies.clone());
        let task = tokio::spawn(async move {
            while let Ok((connection, _)) = listener.accept().await {
                tokio::spawn(answer(connection, seen.clone(), table.clone()));
            }
        });
        Self { host, requests, replies, task }
    }

    pub(crate) fn host(&self) -> &str {
        &self.host
    }

    /// Sets what a path (with its query) answers; any other path answers 404.
    pub(crate) fn on(&self, path: &str, reply: Reply) -> &Self {
        self.replies.lock().unwrap().insert(path.to_owned(), reply);
        self
    }

    /// Sets what one method of a path answers, whatever the others do.
    pub(crate) fn on_method(&self, method: &str, path: &str, reply: Reply) -> &Self {
        self.on(&format!("{method} {path}"), reply)
    }

    /// `GET /v2/...` and, when there is one, the Authorization header, in the order they came.
    pub(crate) fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap().clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.task.abort();
    }
}

async fn answer(
    connection: TcpStream,
    requests: Arc<Mutex<Vec<String>>>,
    replies: Arc<Mutex<HashMap<String, Reply>>>,
) {
    let mut reader = BufReader::new(connection);
    let mut line = String::new();
    if reader.read_line(&mut line).await.is_err() {
        return;
    }
    let Some((request, _http)) = line.trim_end().rsplit_once(' ') else { return };
    let mut seen = request.to_owned();
    let mut authorized = false;
    loop {
        let mut header = String::new();
        match reader.read_line(&mut header).await {
            Ok(0) | Err(_) => return,
            Ok(_) if header.trim_end().is_empty() => break,
            Ok(_) => {}
        }
        if header.to_ascii_lowercase().starts_with("authorization:") {
            authorized = true;
            seen = format!("{seen} {}", header.trim_end());
        }
    }
    requests.lock().unwrap().push(seen);
    let path = request.split_once(' ').map_or(request, |(_method, path)| path);
    let reply = {
        let replies = replies.lock().unwrap();
        replies.get(request).or_else(|| replies.get(path)).cloned()
    };
    let mut reply = reply.unwrap_or_else(|| Reply::of("404 Not Found", &[], b"{}"));
    while let Reply::Authorized(without, with) = reply {
        reply = if authorized { *with } else { *without };
    }
    // The client leaving early is part of most of these tests.
    drop(write(reader.into_inner(), reply).await);
}

async fn write(mut connection: TcpStream, reply: Reply) -> std::io::Result<()> {
    match reply {
        Reply::Bytes(bytes) => {
            connection.write_all(&bytes).await?;
            connection.shutdown().await
        }
        Reply::Endless(start, again) => {
            connection.write_all(&start).await?;
            loop {
                connection.write_all(&again).await?;
            }
        }
        Reply::Dribble(start) => {
            connection.write_all(&start).await?;
            loop {
                // Not a wait for a condition: this pace is the behaviour under test.
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                connection.write_all(b" ").await?;
            }
        }
        Reply::Authorized(..) => unreachable!("chosen before"),
    }
}
