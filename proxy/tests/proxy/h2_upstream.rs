//! An upstream of the `h2` crate, which does with each request what a test wants.

use std::net::{SocketAddr, TcpListener};
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};

use bytes::{Bytes, BytesMut};
use h2::server::{Builder, SendResponse};
use h2::{RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};

/// What came on one stream, and how to answer it.
pub(crate) struct Exchange {
    /// Of the connection, from 0 on.
    pub(crate) connection: usize,
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
}

/// It listens until the test ends.
pub(crate) struct H2Upstream {
    pub(crate) address: SocketAddr,
    opened: Arc<AtomicUsize>,
    closed: Arc<AtomicUsize>,
    requests: Arc<AtomicUsize>,
}

impl H2Upstream {
    /// With default settings.
    pub(crate) fn start<F: Future<Output = ()> + 'static>(
        serve: impl Fn(Exchange) -> F + Send + 'static,
    ) -> Self {
        Self::configured(Builder::new(), serve)
    }

    /// With settings of its own.
    pub(crate) fn configured<F: Future<Output = ()> + 'static>(
        builder: Builder,
        serve: impl Fn(Exchange) -> F + Send + 'static,
    ) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let [opened, closed, requests] = [(); 3].map(|()| Arc::<AtomicUsize>::default());
        let counters = (Arc::clone(&opened), Arc::clone(&closed), Arc::clone(&requests));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let accepting = async move {
                let (opened, closed, requests) = counters;
                let serve = Rc::new(serve);
                let listener = tokio::net::TcpListener::from_std(listener).unwrap();
                while let Ok((stream, _)) = listener.accept().await {
                    let number = opened.fetch_add(1, SeqCst);
                    let (builder, serve) = (builder.clone(), Rc::clone(&serve));
                    let (closed, requests) = (Arc::clone(&closed), Arc::clone(&requests));
                    tokio::task::spawn_local(async move {
                        if let Ok(mut connection) = builder.handshake(stream).await {
                            while let Some(Ok((request, respond))) = connection.accept().await {
                                requests.fetch_add(1, SeqCst);
                                let exchange = Exchange { connection: number, request, respond };
                                tokio::task::spawn_local(serve(exchange));
                            }
                        }
                        closed.fetch_add(1, SeqCst);
                    });
                }
            };
            tokio::task::LocalSet::new().block_on(&runtime, accepting);
        });
        Self { address, opened, closed, requests }
    }

    /// Connections that came so far.
    pub(crate) fn opened(&self) -> usize {
        self.opened.load(SeqCst)
    }

    /// Connections that have ended.
    pub(crate) fn closed(&self) -> usize {
        self.closed.load(SeqCst)
    }

    /// Requests that came so far.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(SeqCst)
    }
}

impl Exchange {
    /// The next bytes of the request's body; `None` at its end.
    pub(crate) async fn data(&mut self) -> Option<Result<Bytes, h2::Error>> {
        let body = self.request.body_mut();
        let data = body.data().await;
        if let Some(Ok(data)) = &data {
            body.flow_control().release_capacity(data.len()).unwrap();
        }
        data
    }

    /// All of the request's body, and its trailers.
    pub(crate) async fn body(&mut self) -> (Vec<u8>, Option<HeaderMap>) {
        let mut all = Vec::new();
        while let Some(data) = self.data().await {
            all.extend_from_slice(&data.unwrap());
        }
        (all, self.request.body_mut().trailers().await.unwrap())
    }

    /// Begins an answer that is OK.
    pub(crate) fn ok(&mut self, is_all: bool) -> SendStream<Bytes> {
        self.respond.send_response(Response::new(()), is_all).unwrap()
    }

    /// Answers with this text.
    pub(crate) fn answer(&mut self, text: String) {
        self.ok(false).send_data(text.into(), true).unwrap();
    }
}

/// Sends bytes as the other side makes room for them. False if it has reset the stream.
pub(crate) async fn send(stream: &mut SendStream<Bytes>, mut data: Bytes) -> bool {
    while !data.is_empty() {
        stream.reserve_capacity(data.len());
        let Some(Ok(room)) = std::future::poll_fn(|cx| stream.poll_capacity(cx)).await else { return false };
        if stream.send_data(data.split_to(room.min(data.len())), false).is_err() {
            return false;
        }
    }
    true
}

/// A message of gRPC, without compression.
pub(crate) fn message(text: &str) -> Bytes {
    let length = u32::try_from(text.len()).unwrap().to_be_bytes();
    [&[0][..], &length, text.as_bytes()].concat().into()
}

/// Takes a whole message of gRPC from the front, if there is one.
pub(crate) fn take_message(bytes: &mut BytesMut) -> Option<String> {
    let length = u32::from_be_bytes(bytes.get(1..5)?.try_into().unwrap()) as usize;
    if bytes.len() < 5 + length {
        return None;
    }
    let message = bytes.split_to(5 + length);
    Some(String::from_utf8(message[5..].to_vec()).unwrap())
}

/// Trailers that end a call of gRPC.
pub(crate) fn status(code: &'static str) -> HeaderMap {
    HeaderMap::from_iter([("grpc-status".parse().unwrap(), HeaderValue::from_static(code))])
}
