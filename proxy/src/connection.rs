//! One client connection, from the accept to the last byte.

use std::convert::Infallible;
use std::future::poll_fn;
use std::net::SocketAddr;
use std::pin::pin;
use std::rc::Rc;
use std::task::Poll;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::answer;
use super::exchange;
use super::head_guard::{ConnectionState, GuardedStream, Refusal};
use super::worker::Worker;

/// After the answer to a request that was not read to its end, this much of the rest is read and
/// thrown away: closing with unread bytes resets the connection, and the client may lose the answer.
const LINGER_BYTES: u64 = 64 * 1024;
const LINGER: Duration = Duration::from_secs(2);
/// While the proxy ends, a connection on which a request is likely has this long to bring it.
const GRACE: Duration = Duration::from_secs(1);
/// Bytes that hyper buffers of one connection: a whole head fits, and bodies flow in pieces of this size.
const BUFFER: usize = 64 * 1024;

/// Serves a client until it goes, misbehaves, or the proxy ends.
pub(super) async fn serve(worker: Rc<Worker>, stream: TcpStream, peer: SocketAddr) {
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "the client was gone before it was served");
        return;
    }
    let config = &worker.shared.config;
    let state = Rc::new(ConnectionState::new());
    let mut guarded = GuardedStream::new(
        stream,
        Rc::clone(&state),
        Rc::clone(&worker.scratch),
        config.limits,
        config.timeouts,
    );
    let refusal = drive(&worker, &state, &mut guarded, peer).await;
    let (mut stream, eof) = guarded.into_inner();
    if let Some(refusal) = refusal {
        worker.shared.metrics.refused(refusal.reason());
        tracing::debug!(client = %peer, %refusal, "refused a request");
        // A client that is gone needs no answer.
        if stream.write_all(&answer::refusal_bytes(refusal)).await.is_err() {
            return;
        }
    }
    if !eof {
        linger(stream).await;
    }
}

/// Lets hyper serve the connection. Returns why it has to be refused, once all earlier requests are answered.
async fn drive(
    worker: &Rc<Worker>,
    state: &Rc<ConnectionState>,
    guarded: &mut GuardedStream,
    peer: SocketAddr,
) -> Option<Refusal> {
    let service = service_fn(|request| {
        let exchange = exchange::serve(Rc::clone(worker), Rc::clone(state), peer, request);
        async { Ok::<_, Infallible>(exchange.await) }
    });
    let mut http = pin!(http1::Builder::new().max_buf_size(BUFFER).serve_connection(guarded, service));
    let mut closing = pin!(async {
        worker.closing().await;
        if state.expects_request() {
            tokio::time::sleep(GRACE).await;
        }
    });
    let mut told = false;
    poll_fn(|cx| {
        // First, so that a request that is already here is seen before its connection is closed.
        let mut polled = http.as_mut().poll(cx);
        if polled.is_pending() && !told && closing.as_mut().poll(cx).is_ready() {
            told = true;
            http.as_mut().graceful_shutdown();
            polled = http.as_mut().poll(cx);
        }
        match polled {
            Poll::Ready(Ok(())) => Poll::Ready(None),
            Poll::Ready(Err(error)) => {
                tracing::debug!(client = %peer, %error, "a client connection broke off");
                Poll::Ready(None)
            }
            Poll::Pending => match state.refusal() {
                Some(_) if state.is_quiet() && state.refused_in_body() => Poll::Ready(None),
                Some(refusal) if state.is_quiet() => Poll::Ready(Some(refusal)),
                _ => Poll::Pending,
            },
        }
    })
    .await
}

/// Tells a client that there are too many.
pub(super) async fn shed(mut stream: TcpStream) {
    if stream.write_all(&answer::overloaded_bytes()).await.is_ok() {
        linger(stream).await;
    }
}

/// Closes our side, and waits a little for the client to close its own.
async fn linger(mut stream: TcpStream) {
    let drained = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(LINGER_BYTES), &mut tokio::io::sink()).await
    };
    match tokio::time::timeout(LINGER, drained).await {
        // In all cases we are done with the connection.
        Ok(Ok(_)) | Err(_) => (),
        Ok(Err(error)) => tracing::trace!(%error, "the client did not wait for the end"),
    }
}
