//! Tells one frame from the next in the bytes of a connection, by their headers alone (RFC 9113 section 4.1). Nothing is decided
//! by what stands in a frame: that is for the `h2` crate.

/// Bytes of a frame's header.
const HEADER: usize = 9;
/// Bytes that a client sends before its first frame (RFC 9113 section 3.4).
pub(super) const PREFACE: usize = 24;

const END_HEADERS: u8 = 0x4;

/// What a frame is, as far as it is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Frame {
    Data,
    /// HEADERS or CONTINUATION.
    Head,
    Reset,
    Settings,
    Ping,
    /// PRIORITY, WINDOW_UPDATE, and what nobody knows.
    Other,
}

/// A position in a stream of frames.
#[derive(Debug)]
pub(super) struct FrameMeter {
    /// Bytes left of what is passed over: the preface, or a payload.
    skip: usize,
    header: [u8; HEADER],
    filled: usize,
    /// Whether a head has begun that has not come to its end.
    in_head: bool,
    /// Whether it ends with the payload that is passed over.
    ends_head: bool,
}

impl FrameMeter {
    /// At so many bytes before the first frame.
    pub(super) fn new(before: usize) -> Self {
        Self { skip: before, header: [0; HEADER], filled: 0, in_head: false, ends_head: false }
    }

    /// Whether a head has begun that has not come to its end.
    pub(super) fn is_in_head(&self) -> bool {
        self.in_head
    }

    /// Goes on by these bytes, and tells of each frame whose header is whole.
    pub(super) fn advance(&mut self, mut bytes: &[u8], mut tell: impl FnMut(Frame)) {
        loop {
            let skipped = self.skip.min(bytes.len());
            self.skip -= skipped;
            bytes = &bytes[skipped..];
            if self.skip > 0 {
                return;
            }
            if self.ends_head {
                (self.in_head, self.ends_head) = (false, false);
            }
            if bytes.is_empty() {
                return;
            }
            let taken = (HEADER - self.filled).min(bytes.len());
            self.header[self.filled..self.filled + taken].copy_from_slice(&bytes[..taken]);
            self.filled += taken;
            bytes = &bytes[taken..];
            if self.filled < HEADER {
                return;
            }
            self.filled = 0;
            tell(self.frame());
        }
    }

    /// The frame of a whole header, whose payload comes next.
    fn frame(&mut self) -> Frame {
        let [high, middle, low, kind, flags, ..] = self.header;
        let length = usize::from(high) << 16 | usize::from(middle) << 8 | usize::from(low);
        self.skip = length;
        match kind {
            0 => Frame::Data,
            1 | 9 => {
                self.in_head = true;
                self.ends_head = flags & END_HEADERS != 0;
                Frame::Head
            }
            3 => Frame::Reset,
            4 => Frame::Settings,
            6 => Frame::Ping,
            _ => Frame::Other,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, length: usize) -> Vec<u8> {
        let mut bytes = u32::try_from(length).unwrap().to_be_bytes()[1..].to_vec();
        bytes.extend([kind, flags, 0, 0, 0, 1]);
        bytes.extend(vec![0xff; length]);
        bytes
    }

    #[test]
    fn frames_are_told_apart_however_the_bytes_are_split() {
        let bytes = [
            vec![b'P'; PREFACE],
            frame(4, 0, 12),
            frame(1, 0, 300),
            frame(9, 4, 5),
            frame(0, 0, 70_000),
            frame(0, 0, 0),
            frame(0, 1, 0),
            frame(3, 0, 4),
            frame(6, 0, 8),
            frame(8, 0, 4),
            frame(0xfa, 0, 1),
        ]
        .concat();
        let expected = [
            Frame::Settings,
            Frame::Head,
            Frame::Head,
            Frame::Data,
            Frame::Data,
            Frame::Data,
            Frame::Reset,
            Frame::Ping,
            Frame::Other,
            Frame::Other,
        ];
        for piece in [1, 2, 7, 9, 10, 4096, bytes.len()] {
            let (mut meter, mut seen) = (FrameMeter::new(PREFACE), Vec::new());
            for piece in bytes.chunks(piece) {
                meter.advance(piece, |frame| seen.push(frame));
            }
            assert_eq!(seen, expected, "in pieces of {piece}");
        }
    }

    #[test]
    fn a_head_goes_from_its_first_frame_to_the_last_byte_of_its_last() {
        let bytes = [frame(1, 0, 3), frame(9, 0, 0), frame(9, END_HEADERS, 2)].concat();
        let mut meter = FrameMeter::new(0);
        for (at, byte) in bytes.iter().enumerate() {
            assert_eq!(meter.is_in_head(), at >= HEADER, "before byte {at}");
            meter.advance(&[*byte], |_| ());
        }
        assert!(!meter.is_in_head());
    }
}
