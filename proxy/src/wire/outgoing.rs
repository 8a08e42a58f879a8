//! Bytes of a message on their way out, so that what is there is written together.

use std::io::IoSlice;

use bytes::Bytes;

use crate::fields::Fields;

/// Data of up to this size is copied behind what comes before it.
const COPIED: usize = 4 * 1024;
/// So many bytes are written before more is looked for.
const GATHERED: usize = 16 * 1024;

/// A head and pieces of the content behind it, of which some bytes were written.
#[derive(Debug)]
pub(crate) struct Outgoing {
    buffer: Vec<u8>,
    /// Comes behind `buffer`, and `tail` behind it.
    data: Bytes,
    tail: &'static [u8],
    written: usize,
    is_chunked: bool,
}

impl Outgoing {
    /// What begins with this head. The content is written as it is, or in chunks (RFC 9112 section 7.1).
    pub(crate) fn new(head: Vec<u8>, is_chunked: bool) -> Self {
        Self { buffer: head, data: Bytes::new(), tail: b"", written: 0, is_chunked }
    }

    /// Adds a piece of the content, if there [`is room`](Self::has_room).
    pub(crate) fn push(&mut self, data: Bytes) {
        debug_assert!(self.data.is_empty());
        let after: &[u8] = if self.is_chunked { b"\r\n" } else { b"" };
        if self.is_chunked {
            self.buffer.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        }
        if data.len() <= COPIED {
            self.buffer.extend_from_slice(&data);
            self.buffer.extend_from_slice(after);
        } else {
            (self.data, self.tail) = (data, after);
        }
    }

    /// Adds the end of the content, and trailers, for which only chunks have a place.
    pub(crate) fn end(&mut self, trailers: Option<&Fields>) {
        if self.is_chunked {
            debug_assert!(self.data.is_empty(), "it would come before the last piece");
            self.buffer.extend_from_slice(b"0\r\n");
            if let Some(trailers) = trailers {
                trailers.write_to(&mut self.buffer);
            }
            self.buffer.extend_from_slice(b"\r\n");
        }
    }

    /// Whether another piece may be added before these are written.
    pub(crate) fn has_room(&self) -> bool {
        self.data.is_empty() && self.buffer.len() < GATHERED
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.written == self.buffer.len() + self.data.len() + self.tail.len()
    }

    /// What is to be written, for a vectored write.
    pub(crate) fn slices(&self) -> [IoSlice<'_>; 3] {
        let mut skipped = self.written;
        [&self.buffer[..], &self.data[..], self.tail].map(|part| {
            let skip = skipped.min(part.len());
            skipped -= skip;
            IoSlice::new(&part[skip..])
        })
    }

    /// So many bytes of it were written.
    pub(crate) fn advance(&mut self, written: usize) {
        self.written += written;
        if self.is_empty() {
            self.written = 0;
            self.buffer.clear();
            self.data = Bytes::new();
            self.tail = b"";
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All bytes, written so many at a time.
    fn written(mut outgoing: Outgoing, at_once: usize) -> Vec<u8> {
        let mut out = Vec::new();
        while !outgoing.is_empty() {
            let bytes: Vec<u8> = outgoing.slices().iter().flat_map(|slice| slice.to_vec()).collect();
            let count = bytes.len().min(at_once);
            out.extend_from_slice(&bytes[..count]);
            outgoing.advance(count);
        }
        assert!(outgoing.slices().iter().all(|slice| slice.is_empty()));
        out
    }

    #[test]
    fn pieces_are_written_in_order_however_few_bytes_are_taken_at_once() {
        for size in [3, COPIED + 1] {
            let data = Bytes::from(vec![b'x'; size]);
            for at_once in [1, 2, 5, COPIED, 2 * COPIED] {
                let mut plain = Outgoing::new(b"head".to_vec(), false);
                plain.push(data.clone());
                plain.end(None);
                assert_eq!(written(plain, at_once), [b"head", &data[..]].concat());
                let mut chunked = Outgoing::new(b"head".to_vec(), true);
                chunked.push(data.clone());
                let expected = format!("head{size:x}\r\n{}\r\n", String::from_utf8_lossy(&data));
                assert_eq!(written(chunked, at_once), expected.as_bytes());
            }
        }
    }
}
