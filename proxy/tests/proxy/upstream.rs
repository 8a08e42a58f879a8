//! Upstreams: one that echoes, built on hyper, and ones that do whatever a test wants on a raw socket.

use std::convert::Infallible;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use http_body_util::{BodyExt, Full};
use hyper::body::{Bytes, Incoming};
use hyper::service::service_fn;
use hyper::{Request, Response};
use hyper_util::rt::TokioIo;

/// An upstream that answers every request with what it received: the request line, the headers, an
/// empty line, the body, the trailers.
pub(crate) struct Echo {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    connections: Arc<AtomicUsize>,
}

impl Echo {
    pub(crate) fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let (requests, connections) = (Arc::<AtomicUsize>::default(), Arc::<AtomicUsize>::default());
        let counters = (Arc::clone(&requests), Arc::clone(&connections));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(async move {
                let (requests, connections) = counters;
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                loop {
                    let (stream, _) = listener.accept().await.unwrap();
                    connections.fetch_add(1, SeqCst);
                    let requests = Arc::clone(&requests);
                    let service = service_fn(move |request| {
                        requests.fetch_add(1, SeqCst);
                        echo(request)
                    });
                    let mut http = hyper::server::conn::http1::Builder::new();
                    // The hundred that a client may send, and ours.
                    http.max_headers(110);
                    tokio::spawn(http.serve_connection(TokioIo::new(stream), service));
                }
            });
        });
        Self { address, requests, connections }
    }

    /// Requests that came so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }

    /// Connections that came so far.
    pub(crate) fn connections(&self) -> usize {
        self.connections.load(SeqCst)
    }
}

async fn echo(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let (head, body) = request.into_parts();
    let mut text = format!("{} {} {:?}\n", head.method, head.uri, head.version).into_bytes();
    for (name, value) in &head.headers {
        text.extend_from_slice(format!("{name}: ").as_bytes());
        text.extend_from_slice(value.as_bytes());
        text.push(b'\n');
    }
    text.push(b'\n');
    match body.collect().await {
        Ok(body) => {
            let trailers = body.trailers().cloned().unwrap_or_default();
            text.extend_from_slice(&body.to_bytes());
            for (name, value) in &trailers {
                text.extend_from_slice(format!("\n{name}: ").as_bytes());
                text.extend_from_slice(value.as_bytes());
            }
        }
        Err(error) => text.extend_from_slice(format!("broken: {error}").as_bytes()),
    }
    Ok(Response::new(Full::new(text.into())))
}

/// An upstream that hands each connection, with its number from 0 on, to a function.
pub(crate) fn raw(serve: impl Fn(usize, TcpStream) + Send + Sync + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let serve = Arc::new(serve);
    std::thread::spawn(move || {
        for (number, stream) in listener.incoming().enumerate() {
            let (serve, stream) = (Arc::clone(&serve), stream.unwrap());
            std::thread::spawn(move || serve(number, stream));
        }
    });
    address
}

/// An upstream that answers every request of every connection with these bytes.
pub(crate) fn answering(answer: &'static [u8]) -> SocketAddr {
    raw(move |_, mut stream| {
        while read_head(&mut stream).is_some() {
            if stream.write_all(answer).is_err() {
                return;
            }
        }
    })
}

/// Reads up to the end of a head, which is all that a request without a body has; `None` at the end of the stream.
pub(crate) fn read_head(stream: &mut TcpStream) -> Option<String> {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return None,
        }
    }
    Some(String::from_utf8(head).unwrap())
}
