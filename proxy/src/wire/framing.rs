//! Where a message ends (RFC 9112 section 6).

use super::field::Field;
use super::violation::Violation;

/// How the body of a message is delimited, as its head says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Framing {
    /// Neither header was given.
    Unsaid,
    /// `Content-Length`.
    Length(u64),
    /// `Transfer-Encoding: chunked`.
    Chunked,
}

/// Collects the two headers that delimit a body. One of them, once, or none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Lengths {
    length: Option<u64>,
    chunked: bool,
}

impl Lengths {
    /// Takes a header line into account; others than the two are none of its business.
    pub(crate) fn add(&mut self, field: &Field<'_>) -> Result<(), Violation> {
        if field.is("content-length") {
            if self.chunked {
                return Err(Violation::LengthAndCoding);
            }
            if self.length.is_some() {
                return Err(Violation::RepeatedLength);
            }
            self.length = Some(content_length(field.value)?);
        } else if field.is("transfer-encoding") {
            if self.length.is_some() {
                return Err(Violation::LengthAndCoding);
            }
            if self.chunked {
                return Err(Violation::RepeatedCoding);
            }
            if !field.value.eq_ignore_ascii_case(b"chunked") {
                return Err(Violation::UnknownCoding);
            }
            self.chunked = true;
        }
        Ok(())
    }

    /// What the head as a whole says. HTTP/1.0 has no transfer codings.
    pub(crate) fn framing(self, http_10: bool) -> Result<Framing, Violation> {
        match self {
            Self { chunked: true, .. } if http_10 => Err(Violation::CodingInHttp10),
            Self { chunked: true, .. } => Ok(Framing::Chunked),
            Self { length: Some(length), .. } => Ok(Framing::Length(length)),
            Self { length: None, .. } => Ok(Framing::Unsaid),
        }
    }
}

/// Digits only: no sign, no list (`5, 5`), no leading zeros (octal to some), and below 2^63.
fn content_length(value: &[u8]) -> Result<u64, Violation> {
    let plain = match value {
        [] => false,
        [b'0'] => true,
        [b'0', ..] => false,
        digits => digits.len() <= 18 && digits.iter().all(u8::is_ascii_digit),
    };
    if !plain {
        return Err(Violation::LengthSyntax);
    }
    Ok(value.iter().fold(0, |length, digit| length * 10 + u64::from(digit - b'0')))
}

#[cfg(test)]
mod tests {
    use super::super::field::parse_field;
    use super::*;

    fn framing(lines: &[&str]) -> Result<Framing, Violation> {
        let mut lengths = Lengths::default();
        for line in lines {
            lengths.add(&parse_field(line.as_bytes()).unwrap())?;
        }
        lengths.framing(false)
    }

    #[test]
    fn one_header_delimits_the_body_or_none() {
        assert_eq!(framing(&["Accept: x"]), Ok(Framing::Unsaid));
        assert_eq!(framing(&["content-LENGTH: 0"]), Ok(Framing::Length(0)));
        assert_eq!(framing(&["Content-Length: 120"]), Ok(Framing::Length(120)));
        assert_eq!(framing(&["Transfer-Encoding: Chunked"]), Ok(Framing::Chunked));
    }

    #[test]
    fn both_headers_are_a_violation_in_any_order() {
        let (length, coding) = ("Content-Length: 1", "Transfer-Encoding: chunked");
        assert_eq!(framing(&[length, coding]), Err(Violation::LengthAndCoding));
        assert_eq!(framing(&[coding, length]), Err(Violation::LengthAndCoding));
        assert_eq!(framing(&[length, length]), Err(Violation::RepeatedLength));
        assert_eq!(framing(&[coding, coding]), Err(Violation::RepeatedCoding));
    }

    #[test]
    fn a_length_is_plain_digits() {
        for value in ["", "+1", "-1", "1, 1", "1,1", "01", "0x1", "1 1", "1.0", "9999999999999999999"] {
            let line = format!("Content-Length: {value}");
            assert_eq!(framing(&[line.as_str()]), Err(Violation::LengthSyntax), "{value:?}");
        }
    }

    #[test]
    fn only_exactly_chunked_is_a_coding() {
        for value in
            ["", "gzip", "gzip, chunked", "chunked, chunked", "chunked;q=1", "xchunked", "\"chunked\""]
        {
            let line = format!("Transfer-Encoding: {value}");
            assert_eq!(framing(&[line.as_str()]), Err(Violation::UnknownCoding), "{value:?}");
        }
    }
}
