//! multipart/form-data (RFC 7578, with the grammar of RFC 2046, section 5.1.1), strictly.
//!
//! What a strict reader refuses is MALFORMED, and is read on where only one way to go on makes sense: nothing of the
//! body is to be missing for a rule that looks all the same.
//!
//! Cost: the body is searched once for `--boundary`, from delimiter to delimiter; each part's head is read once.

mod disposition;
mod part;

use std::ops::ControlFlow;

use memchr::memmem::Finder;

use self::disposition::Disposition;
use self::part::Part;
use super::charset;
use super::media_type::{Format, MediaType};
use super::parameters::Parameter;
use crate::abi::{Flags, Kind};
use crate::found::{Found, Text};

/// Longest boundary (RFC 2046, section 5.1.1).
const MAX_BOUNDARY: usize = 70;

/// Buffers that are kept between bodies.
#[derive(Default)]
pub(super) struct Scratch {
    /// `--boundary`.
    dashes: Vec<u8>,
    disposition: disposition::Scratch,
}

/// Hands every part to `sink`: its content and, where it has them, its file names and its media type.
pub(super) fn parse(
    body: &[u8],
    boundary: Option<Parameter<'_>>,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let Some(boundary) = boundary.map(|parameter| parameter.value).filter(|value| is_boundary(value)) else {
        return Flags::MALFORMED;
    };
    scratch.dashes.clear();
    scratch.dashes.extend_from_slice(b"--");
    scratch.dashes.extend_from_slice(boundary);
    let finder = Finder::new(&scratch.dashes);
    let mut delimiters = Delimiters { body, finder, at: 0, flags: Flags::NONE };
    let mut flags = Flags::NONE;

    let Some(mut delimiter) = delimiters.next() else { return delimiters.flags | Flags::MALFORMED };
    if !matches!(&body[..delimiter.start], b"" | b"\r\n") {
        flags |= Flags::MALFORMED;
    }
    while !delimiter.is_last {
        let start = delimiters.at;
        let next = delimiters.next();
        let end = match &next {
            Some(next) => next.start.saturating_sub(2).max(start),
            None => body.len(),
        };
        match emit(&Part::read(&body[start..end]), &mut scratch.disposition, sink) {
            ControlFlow::Continue(of_part) => flags |= of_part,
            ControlFlow::Break(of_part) => return flags | of_part | delimiters.flags | Flags::TRUNCATED,
        }
        match next {
            Some(next) => delimiter = next,
            None => return flags | delimiters.flags | Flags::MALFORMED,
        }
    }
    if !matches!(&body[delimiters.at..], b"" | b"\r\n") {
        flags |= Flags::MALFORMED;
    }
    flags | delimiters.flags
}

/// Hands out one part and says what is to be known of it. Break: the sink is full.
fn emit(
    part: &Part<'_>,
    scratch: &mut disposition::Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> ControlFlow<Flags, Flags> {
    let disposition = Disposition::parse(part.disposition, scratch);
    let mut flags = part.flags | disposition.flags;
    if disposition.name.raw == b"_charset_" {
        flags |= charset::flags(part.content);
    }
    let media_type = part.media_type.filter(|value| !value.is_empty());
    if let Some(value) = media_type {
        flags |= of_media_type(value);
    }
    let values = [
        (Kind::Part, Some(Text::plain(part.content))),
        (Kind::PartFileName, disposition.file_name),
        (Kind::PartFileName, disposition.extended_file_name),
        (Kind::PartMediaType, media_type.map(Text::plain)),
    ];
    for (kind, value) in values {
        if let Some(value) = value
            && sink(Found { kind, name: disposition.name, value, flags }).is_break()
        {
            return ControlFlow::Break(flags);
        }
    }
    ControlFlow::Continue(flags)
}

/// A part's own media type: parts inside parts are gone from forms (RFC 7578, section 4.3), and a charset counts as that
/// of a whole body does.
fn of_media_type(value: &[u8]) -> Flags {
    let media = MediaType::parse(value);
    match media.format {
        Format::Multipart | Format::FormData => media.flags | Flags::MALFORMED,
        _ => media.flags,
    }
}

/// `bchars` of RFC 2046, 1 to 70 of them, the last no space.
fn is_boundary(boundary: &[u8]) -> bool {
    let is_allowed = |byte: &u8| byte.is_ascii_alphanumeric() || b"'()+_,-./:=? ".contains(byte);
    boundary.len() <= MAX_BOUNDARY
        && boundary.iter().all(is_allowed)
        && boundary.last().is_some_and(|&last| last != b' ')
}

/// A line that parts two parts.
struct Delimiter {
    /// Where its dashes begin. The line break before them belongs to it too.
    start: usize,
    is_last: bool,
}

struct Delimiters<'b, 'n> {
    body: &'b [u8],
    finder: Finder<'n>,
    /// Behind the delimiter that was found last, its line break included; of the last one, behind its dashes.
    at: usize,
    flags: Flags,
}

impl Delimiters<'_, '_> {
    fn next(&mut self) -> Option<Delimiter> {
        let mut from = self.at;
        loop {
            let start = from + self.finder.find(&self.body[from..])?;
            let end = start + self.finder.needle().len();
            from = end;
            match &self.body[..start] {
                [] | [.., b'\r', b'\n'] => {}
                // A line for readers that take one of the two for a line break.
                [.., b'\r' | b'\n'] => {
                    self.flags |= Flags::MALFORMED;
                    continue;
                }
                // Content for a reader of lines, a delimiter for one that splits.
                _ => {
                    self.flags |= Flags::AMBIGUOUS;
                    continue;
                }
            }
            let rest = &self.body[end..];
            if rest.starts_with(b"--") {
                self.at = end + 2;
                return Some(Delimiter { start, is_last: true });
            }
            let padding = rest.iter().take_while(|&&byte| byte == b' ' || byte == b'\t').count();
            if rest[padding..].starts_with(b"\r\n") {
                if padding > 0 {
                    self.flags |= Flags::AMBIGUOUS;
                }
                self.at = end + padding + 2;
                return Some(Delimiter { start, is_last: false });
            }
            // The boundary begins a longer line: a delimiter for readers that compare only its beginning.
            self.flags |= Flags::MALFORMED;
        }
    }
}
