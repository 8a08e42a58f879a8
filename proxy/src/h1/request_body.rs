//! The body of a request in HTTP/1.1, as it comes.

use std::cell::RefCell;
use std::rc::Rc;
use std::task::{Context, Poll};

use bytes::Bytes;
use tokio::io::{AsyncRead, AsyncWrite};

use super::client_stream::ClientStream;
use crate::body::{Body, BodyError, BodySource};
use crate::fields::Fields;
use crate::wire::Framing;

/// Reads from the connection as long as it lives. Dropping it leaves the rest of the body unread.
#[derive(Debug)]
struct RequestBody<S>(Rc<RefCell<ClientStream<S>>>);

impl<S: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug> BodySource for RequestBody<S> {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        self.0.borrow_mut().poll_body(cx)
    }

    fn take_trailers(&mut self) -> Option<Fields> {
        self.0.borrow_mut().take_trailers()
    }
}

/// The body that a head announced.
pub(super) fn request_body<S>(stream: &Rc<RefCell<ClientStream<S>>>, framing: Framing) -> Body
where
    S: AsyncRead + AsyncWrite + Unpin + std::fmt::Debug + 'static,
{
    let length = match framing {
        Framing::Unsaid | Framing::Length(0) => return Body::default(),
        Framing::Length(length) => Some(length),
        Framing::Chunked => None,
    };
    Body::from_source(Box::new(RequestBody(Rc::clone(stream))), length)
}
