//! What hostile bytes are tried on, by tests and by the fuzz targets in `fuzz/`: that what is decoded does not depend on
//! how the bytes arrive, and that httparse, the parser under hyper, reads whatever is accepted in the same way.

use bytes::BytesMut;

use crate::config::ProxyLimits;
use crate::h1::{RequestDecoder, RequestPlace};
use crate::proxy_protocol::{Header, LONGEST, parse};
use crate::scheme::Scheme;
use crate::upstream::ResponseDecoder;
use crate::wire::{ContentDecoder, LineLimits};

/// Field lines of the largest head that is accepted, and one more.
const FIELDS: usize = 101;

/// The requests of one connection.
pub fn request(input: &[u8]) {
    let whole = requests(input, input.len().max(1));
    assert_eq!(requests(input, 1), whole, "byte by byte");
    assert_eq!(requests(input, 7), whole, "in pieces of seven");
}

/// What is decoded of `input` in pieces of so many bytes: heads, bodies, and why it ended.
fn requests(input: &[u8], piece: usize) -> Vec<u8> {
    let mut decoder = RequestDecoder::new(ProxyLimits::default(), Scheme::Http);
    let (mut pending, mut seen) = (BytesMut::new(), Vec::new());
    let mut start = 0;
    for (index, piece) in input.chunks(piece).enumerate() {
        pending.extend_from_slice(piece);
        while !pending.is_empty() {
            if decoder.place() == RequestPlace::Body {
                match decoder.body(&mut pending) {
                    Ok(Some(data)) => seen.extend_from_slice(&data),
                    Ok(None) => break,
                    Err(refusal) => return [seen, refusal.reason().into()].concat(),
                }
                start = consumed(input, index, piece, &pending);
                continue;
            }
            let mut rest = &pending[..];
            let request = decoder.head(&mut rest);
            pending = BytesMut::from(rest);
            let end = consumed(input, index, piece, &pending);
            match request {
                Ok(Some(request)) => {
                    let mut fields = [httparse::EMPTY_HEADER; FIELDS];
                    let mut theirs = httparse::Request::new(&mut fields);
                    // One empty line before a request is forgiven by both.
                    let bytes = &input[start..end];
                    let status = theirs.parse(bytes).expect("what is accepted is accepted by httparse");
                    assert_eq!(status, httparse::Status::Complete(bytes.len()), "{}", bytes.escape_ascii());
                    assert_eq!(theirs.method, Some(request.head.method().as_str()));
                    assert!(theirs.path.is_some_and(|path| path.ends_with(path_of(request.head.target()))));
                    same_fields(request.head.fields().iter(), theirs.headers);
                    request.head.fields().write_to(&mut seen);
                    start = end;
                }
                Ok(None) => (),
                Err(refusal) => return [seen, refusal.reason().into()].concat(),
            }
        }
    }
    seen
}

/// Bytes of `input` that are decoded while `pending` is left of the piece of this index.
fn consumed(input: &[u8], index: usize, piece: &[u8], pending: &[u8]) -> usize {
    let before = if index == 0 { 0 } else { piece.as_ptr().addr() - input.as_ptr().addr() };
    before + piece.len() - pending.len()
}

/// A target in absolute form without a path is forwarded as `/`.
fn path_of(target: &str) -> &str {
    if target == "/" || target.starts_with("/?") { &target[1..] } else { target }
}

/// What a connection begins with when a header of the PROXY protocol has to come first.
pub fn proxy_header(input: &[u8]) {
    let decided = (0..=input.len()).find_map(|end| match parse(&input[..end]) {
        Ok(Header::Incomplete) => None,
        decided => Some((end, decided)),
    });
    let Some((end, decided)) = decided else {
        assert!(input.len() < LONGEST, "{} bytes are still no header", input.len());
        return;
    };
    assert!(end <= LONGEST, "{end} bytes were waited for");
    if let Ok(Header::Complete { length, .. }) = decided {
        assert_eq!(length, end, "a header ends where its last byte is");
    }
    for more in end..=input.len().min(2 * LONGEST) {
        assert_eq!(parse(&input[..more]), decided, "what follows changes nothing");
    }
}

/// A chunked body.
pub fn chunked(input: &[u8]) {
    let whole = chunks(input, input.len().max(1));
    assert_eq!(chunks(input, 1), whole, "byte by byte");
    assert_eq!(chunks(input, 5), whole, "in pieces of five");
    let (Some(decoded), _) = whole else { return };
    let mut rest = input;
    let mut theirs = Vec::new();
    loop {
        let Ok(httparse::Status::Complete((start, size))) = httparse::parse_chunk_size(rest) else {
            panic!("httparse reads no chunk size in {}", rest.escape_ascii());
        };
        let size = usize::try_from(size).expect("the body is no longer than the input");
        if size == 0 {
            break;
        }
        theirs.extend_from_slice(&rest[start..start + size]);
        rest = &rest[start + size + 2..];
    }
    assert_eq!(decoded, theirs);
}

/// The whole content, if its end was decoded; else how far it came, and whether it was refused.
type Chunks = (Option<Vec<u8>>, Result<usize, &'static str>);

fn chunks(input: &[u8], piece: usize) -> Chunks {
    let mut decoder = ContentDecoder::chunked(LineLimits { line: 8192, head: 32 * 1024 });
    let (mut pending, mut content) = (BytesMut::new(), Vec::new());
    for piece in input.chunks(piece) {
        pending.extend_from_slice(piece);
        loop {
            match decoder.next(&mut pending) {
                Ok(Some(data)) if data.is_empty() => {
                    return (Some(content.clone()), Ok(content.len()));
                }
                Ok(Some(data)) => content.extend_from_slice(&data),
                Ok(None) => break,
                Err(violation) => return (None, Err(violation.reason())),
            }
        }
    }
    (None, Ok(content.len()))
}

/// The answer to a GET.
pub fn response(input: &[u8]) {
    let whole = answer(input, input.len().max(1));
    assert_eq!(answer(input, 1), whole, "byte by byte");
    assert_eq!(answer(input, 7), whole, "in pieces of seven");
}

/// The final head and the content, or the reason why there is none.
fn answer(input: &[u8], piece: usize) -> Vec<u8> {
    let mut decoder = ResponseDecoder::new(false);
    let (mut pending, mut seen, mut content) = (BytesMut::new(), Vec::new(), None);
    for (index, piece) in input.chunks(piece).enumerate() {
        pending.extend_from_slice(piece);
        if content.is_none() {
            let decoded = match decoder.head(&mut pending) {
                Ok(Some(decoded)) => decoded,
                Ok(None) => continue,
                Err(bad) => return bad.to_string().into_bytes(),
            };
            let end = consumed(input, index, piece, &pending);
            same_answer(&input[..end], &decoded.head);
            seen.extend_from_slice(decoded.head.status.as_str().as_bytes());
            decoded.head.fields.write_to(&mut seen);
            content = Some(decoded.content);
        }
        while let Some(decoder) = &mut content {
            match decoder.next(&mut pending) {
                Ok(Some(data)) if data.is_empty() => return seen,
                Ok(Some(data)) => seen.extend_from_slice(&data),
                Ok(None) => break,
                Err(violation) => return [seen, violation.reason().into()].concat(),
            }
        }
    }
    seen
}

/// The last head of `bytes` is the final one.
fn same_answer(mut bytes: &[u8], ours: &crate::head::ResponseHead) {
    loop {
        let mut fields = [httparse::EMPTY_HEADER; FIELDS];
        let mut theirs = httparse::Response::new(&mut fields);
        let Ok(httparse::Status::Complete(end)) = theirs.parse(bytes) else {
            panic!("httparse does not accept {}", bytes.escape_ascii());
        };
        if end == bytes.len() {
            assert_eq!(theirs.code, Some(ours.status.as_u16()));
            return same_fields(ours.fields.iter(), theirs.headers);
        }
        bytes = &bytes[end..];
    }
}

fn same_fields<'a>(ours: impl Iterator<Item = (&'a [u8], &'a [u8])>, theirs: &[httparse::Header<'_>]) {
    let ours: Vec<_> = ours.collect();
    let theirs: Vec<_> = theirs.iter().map(|field| (field.name.as_bytes(), field.value)).collect();
    assert_eq!(ours, theirs);
}

#[cfg(test)]
mod tests {
    use rand::rngs::SmallRng;
    use rand::{RngExt, SeedableRng};

    /// Messages, changed in a few places.
    fn try_on(messages: &[&[u8]], check: fn(&[u8])) {
        const BYTES: &[u8] = b"\r\n\t :;,0159afA/%\0\x7f\xff-_";
        for seed in 0..20_000 {
            let mut random = SmallRng::seed_from_u64(seed);
            let mut bytes = Vec::new();
            for _ in 0..random.random_range(1..3) {
                bytes.extend_from_slice(messages[random.random_range(0..messages.len())]);
            }
            for _ in 0..random.random_range(0..3) {
                let at = random.random_range(0..bytes.len());
                let byte = BYTES[random.random_range(0..BYTES.len())];
                match random.random_range(0..3) {
                    0 => bytes[at] = byte,
                    1 => bytes.insert(at, byte),
                    _ => drop(bytes.remove(at)),
                }
            }
            check(&bytes);
        }
    }

    #[test]
    fn requests_are_decoded_alike_in_any_pieces_and_by_httparse() {
        let messages: [&[u8]; 4] = [
            b"GET /a?b=1 HTTP/1.1\r\nHost: a\r\nAccept: */*\r\n\r\n",
            b"POST http://a HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\nX: y\r\n\r\n",
            b"PUT / HTTP/1.0\r\nHost: a\r\nContent-Length: 5\r\nConnection: keep-alive\r\n\r\nhello",
            b"\r\nGET / HTTP/1.1\r\nHost: [::1]:80\r\nCookie:  a=b \t\r\n\r\n",
        ];
        try_on(&messages, super::request);
    }

    #[test]
    fn chunked_bodies_are_decoded_alike_in_any_pieces_and_by_httparse() {
        let messages: [&[u8]; 3] =
            [b"5\r\nhello\r\n0\r\n\r\n", b"A;x=y\r\n0123456789\r\n0\r\nX: y\r\n\r\n", b"1\r\na\r\n"];
        try_on(&messages, super::chunked);
    }

    #[test]
    fn answers_are_decoded_alike_in_any_pieces_and_by_httparse() {
        let messages: [&[u8]; 4] = [
            b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nSet-Cookie: a\r\n\r\nhello",
            b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
            b"HTTP/1.1 200 \r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n",
            b"HTTP/1.0 404\r\n\r\nuntil the end",
        ];
        try_on(&messages, super::response);
    }
}
