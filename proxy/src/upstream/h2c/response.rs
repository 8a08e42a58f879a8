//! The answer of an upstream that speaks HTTP/2.

use std::fmt;
use std::io;
use std::task::{Context, Poll, ready};

use bytes::{Bytes, BytesMut};
use h2::RecvStream;
use http::{HeaderMap, Response, StatusCode};

use super::connection::Place;
use super::upload::Upload;
use crate::body::{Body, BodyError, BodySource};
use crate::fields::Fields;
use crate::head::ResponseHead;
use crate::metrics::{RequestMetrics, UpstreamFailure};
use crate::wire::{BadResponse, Field, Framing, Lengths, TRAILERS, Violation, is_forbidden_trailer};

/// Field lines of an answer, as in HTTP/1.1.
const FIELDS: usize = 100;

/// Reads the head of an answer. The body streams behind it, and what is left of the request is sent meanwhile.
pub(super) fn read(
    response: Response<RecvStream>,
    to_head: bool,
    upload: Upload,
    place: Place,
    metrics: &RequestMetrics,
) -> Result<(ResponseHead, Body), BadResponse> {
    let (parts, stream) = response.into_parts();
    if parts.headers.len() > FIELDS {
        return Err(Violation::TooManyHeaders.into());
    }
    let (mut fields, mut lengths) = (Fields::default(), Lengths::default());
    for (name, value) in &parts.headers {
        let (name, value) = (name.as_str().as_bytes(), value.as_bytes());
        lengths.add(&Field { name, value })?;
        fields.push(name, value);
    }
    let length = match lengths.framing(false)? {
        Framing::Length(length) => Some(length),
        Framing::Unsaid | Framing::Chunked => None,
    };
    let reason = parts.status.canonical_reason().unwrap_or_default().into();
    let head = ResponseHead { status: parts.status, reason, fields, closes: false };
    let has_body = !to_head
        && !matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED)
        && !stream.is_end_stream();
    if !has_body && upload.is_over() {
        return Ok((head, Body::default()));
    }
    let length = if has_body { length } else { Some(0) };
    let metrics = metrics.clone();
    let body = ResponseBody {
        stream,
        has_body,
        held: BytesMut::new(),
        is_over: false,
        broken: None,
        taken: 0,
        trailers: None,
        upload,
        failed: None,
        metrics,
        _place: place,
    };
    Ok((head, Body::from_source(Box::new(body), length)))
}

/// Reads an answer's body, and sends what is left of the request meanwhile. Dropping it before the end gives both up.
struct ResponseBody {
    stream: RecvStream,
    has_body: bool,
    /// What came while nobody asked for it: at most what the stream's window lets the upstream send.
    held: BytesMut,
    /// Whether the last piece has come.
    is_over: bool,
    /// Why no more comes, until it is told.
    broken: Option<h2::Error>,
    /// Bytes of the last piece. Who asks for the next one is through with it, and only then the upstream may send more.
    taken: usize,
    trailers: Option<Fields>,
    upload: Upload,
    /// Why the upload broke off, until it is told.
    failed: Option<BodyError>,
    metrics: RequestMetrics,
    _place: Place,
}

impl ResponseBody {
    /// Takes what has come out of the `h2` crate's hands. Small frames cost it more than their bytes: a client that reads
    /// none of many would have the connection ended, and with it the streams of others.
    fn hold(&mut self, cx: &mut Context<'_>) {
        while self.has_body && !self.is_over && self.broken.is_none() {
            match self.stream.poll_data(cx) {
                Poll::Ready(Some(Ok(data))) => self.held.extend_from_slice(&data),
                Poll::Ready(Some(Err(error))) => self.broken = Some(error),
                Poll::Ready(None) => self.is_over = true,
                Poll::Pending => return,
            }
        }
    }

    fn send_rest(&mut self, cx: &mut Context<'_>) {
        if !self.upload.is_over()
            && let Poll::Ready(Err(error)) = self.upload.poll_send(cx)
        {
            self.failed = Some(error);
        }
    }

    fn broke_off(&self, error: h2::Error) -> BodyError {
        tracing::debug!(%error, "the upstream's answer broke off");
        self.metrics.upstream_failed(UpstreamFailure::BodyBroken);
        io::Error::other(error).into()
    }
}

impl BodySource for ResponseBody {
    fn poll_data(&mut self, cx: &mut Context<'_>) -> Poll<Option<Result<Bytes, BodyError>>> {
        if !self.has_body {
            return Poll::Ready(None);
        }
        // A client that breaks off the rest of its request ends both.
        self.send_rest(cx);
        if let Some(error) = self.failed.take() {
            return Poll::Ready(Some(Err(error)));
        }
        let taken = std::mem::take(&mut self.taken);
        if taken > 0
            && let Err(error) = self.stream.flow_control().release_capacity(taken)
        {
            return Poll::Ready(Some(Err(self.broke_off(error))));
        }
        if !self.held.is_empty() {
            self.taken = self.held.len();
            return Poll::Ready(Some(Ok(std::mem::take(&mut self.held).freeze())));
        }
        if let Some(error) = self.broken.take() {
            return Poll::Ready(Some(Err(self.broke_off(error))));
        }
        while !self.is_over {
            match ready!(self.stream.poll_data(cx)) {
                Some(Ok(data)) if data.is_empty() => (),
                Some(Ok(data)) => {
                    self.taken = data.len();
                    return Poll::Ready(Some(Ok(data)));
                }
                Some(Err(error)) => return Poll::Ready(Some(Err(self.broke_off(error)))),
                None => self.is_over = true,
            }
        }
        match ready!(self.stream.poll_trailers(cx)) {
            Ok(trailers) => match trailers.as_ref().map(read_trailers).transpose() {
                Ok(trailers) => {
                    self.trailers = trailers;
                    Poll::Ready(None)
                }
                Err(violation) => {
                    self.metrics.upstream_failed(UpstreamFailure::BadResponse);
                    Poll::Ready(Some(Err(BodyError::BadResponse(violation.into()))))
                }
            },
            Err(error) => Poll::Ready(Some(Err(self.broke_off(error)))),
        }
    }

    fn take_trailers(&mut self) -> Option<Fields> {
        self.trailers.take()
    }

    fn poll_upload(&mut self, cx: &mut Context<'_>) {
        self.send_rest(cx);
        self.hold(cx);
    }

    fn poll_finish(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Err(error) = ready!(self.upload.poll_send(cx)) {
            tracing::debug!(%error, "a request broke off after its answer");
        }
        Poll::Ready(())
    }
}

impl fmt::Debug for ResponseBody {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ResponseBody").field("stream", &self.stream.stream_id()).finish_non_exhaustive()
    }
}

fn read_trailers(trailers: &HeaderMap) -> Result<Fields, Violation> {
    if trailers.len() > TRAILERS {
        return Err(Violation::TooManyHeaders);
    }
    let mut fields = Fields::default();
    for (name, value) in trailers {
        if is_forbidden_trailer(name.as_str().as_bytes()) {
            return Err(Violation::ForbiddenTrailer);
        }
        fields.push(name.as_str().as_bytes(), value.as_bytes());
    }
    Ok(fields)
}
