//! Where one WebSocket frame ends and the next begins, by their headers alone (RFC 6455 section 5.2). What stands in them is
//! none of our business.

/// Bytes of the longest header: two, eight of a length, four of a mask.
const HEADER: usize = 14;
const CLOSE: u8 = 0x8;

/// A position in a stream of frames.
#[derive(Debug, Default)]
pub(super) struct FrameBoundary {
    /// Bytes left of the present payload.
    payload: u64,
    header: [u8; HEADER],
    filled: usize,
    closes: bool,
}

impl FrameBoundary {
    /// Whether the next byte begins a frame.
    pub(super) fn is_here(&self) -> bool {
        self.payload == 0 && self.filled == 0
    }

    /// Whether the last frame said that no more are to come.
    pub(super) fn is_after_close(&self) -> bool {
        self.closes
    }

    /// Goes on by these bytes, or only to the first boundary among them; says by how many.
    pub(super) fn advance(&mut self, bytes: &[u8], to_boundary: bool) -> usize {
        let mut rest = bytes;
        while !(rest.is_empty() || to_boundary && self.is_here()) {
            if self.payload > 0 {
                let passed = usize::try_from(self.payload).map_or(rest.len(), |left| left.min(rest.len()));
                self.payload -= passed as u64;
                rest = &rest[passed..];
                continue;
            }
            self.header[self.filled] = rest[0];
            self.filled += 1;
            rest = &rest[1..];
            if let Some(payload) = self.payload_of_header() {
                self.closes = self.header[0] & 0xf == CLOSE;
                self.filled = 0;
                self.payload = payload;
            }
        }
        bytes.len() - rest.len()
    }

    /// Bytes of the payload, once the header is whole.
    fn payload_of_header(&self) -> Option<u64> {
        let header = &self.header[..self.filled];
        let (&second, rest) = header.get(1..)?.split_first()?;
        let (length, rest) = match second & 0x7f {
            126 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from(u16::from_be_bytes(*length)), rest)
            }
            127 => {
                let (length, rest) = rest.split_first_chunk()?;
                (u64::from_be_bytes(*length), rest)
            }
            length => (u64::from(length), rest),
        };
        let is_masked = second & 0x80 != 0;
        (!is_masked || rest.len() == 4).then_some(length)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(opcode: u8, length: usize, is_masked: bool) -> Vec<u8> {
        let mask = u8::from(is_masked) << 7;
        let mut bytes = vec![0x80 | opcode];
        match length {
            0..126 => bytes.push(mask | u8::try_from(length).unwrap()),
            126..0x1_0000 => {
                bytes.push(mask | 126);
                bytes.extend(u16::try_from(length).unwrap().to_be_bytes());
            }
            _ => {
                bytes.push(mask | 127);
                bytes.extend((length as u64).to_be_bytes());
            }
        }
        bytes.extend(std::iter::repeat_n(0x81, length + if is_masked { 4 } else { 0 }));
        bytes
    }

    #[test]
    fn boundaries_are_found_however_the_bytes_are_split() {
        let frames = [
            frame(1, 0, false),
            frame(2, 125, true),
            frame(0, 126, false),
            frame(9, 0, true),
            frame(2, 65_535, true),
            frame(2, 65_536, false),
        ];
        let bytes = frames.concat();
        let mut expected = vec![0];
        for frame in &frames {
            expected.push(expected.last().unwrap() + frame.len());
        }
        for piece in [1, 2, 3, 127, 4096, bytes.len()] {
            let (mut boundary, mut at, mut seen) = (FrameBoundary::default(), 0, vec![0]);
            for mut piece in bytes.chunks(piece) {
                while !piece.is_empty() {
                    // Off the boundary by one byte, and then to the next.
                    let first = boundary.advance(&piece[..1], false);
                    let passed = first + boundary.advance(&piece[first..], true);
                    at += passed;
                    piece = &piece[passed..];
                    if boundary.is_here() {
                        seen.push(at);
                    }
                }
            }
            assert_eq!(seen, expected, "in pieces of {piece}");
            assert!(!boundary.is_after_close());
        }
    }

    #[test]
    fn at_a_boundary_nothing_is_passed_on_that_belongs_to_the_next_frame() {
        let mut boundary = FrameBoundary::default();
        assert_eq!(boundary.advance(&frame(1, 9, false), true), 0);
        let bytes = [frame(1, 9, false), frame(1, 9, false)].concat();
        assert_eq!(boundary.advance(&bytes[..5], false), 5);
        assert_eq!(boundary.advance(&bytes[5..], true), 6);
    }

    #[test]
    fn a_close_frame_is_the_last() {
        let mut boundary = FrameBoundary::default();
        boundary.advance(&frame(CLOSE, 2, false), false);
        assert!(boundary.is_here() && boundary.is_after_close());
    }
}
