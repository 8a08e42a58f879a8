//! JSON (RFC 8259), strictly: each leaf with its place as a JSON Pointer (RFC 6901).
//!
//! Why not a parser that others maintain: serde_json, simd-json and jiter keep one of two equal keys or hand them out
//! without a word, give strings only decoded, numbers only converted, and cannot bound what the names of leaves add up
//! to. All of that is what a rule has to know. This one keeps its own stack of at most [`MAX_DEPTH`] levels instead of
//! recursing, and allocates nothing once its buffers have grown.
//!
//! Cost: `Parser::at` only grows, and what is read is looked at a bounded number of times: once for UTF-8, once as
//! syntax, once when an escape in it is decoded, once when a key is hashed. Keys of an object are sorted by hash when it
//! ends. A name costs its length for each leaf; the sink bounds the sum of names.

mod pointer;
pub(in crate::body) mod string;

use std::hash::{BuildHasher, RandomState};
use std::ops::ControlFlow;

use self::pointer::{Mark, Pointer};
use self::string::{Contents, Decoded};
use crate::abi::{Flags, Kind};
use crate::found::{Found, Text};

/// Objects and arrays inside each other.
const MAX_DEPTH: usize = 32;

/// Buffers that are kept between bodies.
#[derive(Default)]
pub(super) struct Scratch {
    pointer: Pointer,
    /// A string without its escapes.
    decoded: Vec<u8>,
    levels: Vec<Level>,
    /// Hashes of the keys of all open objects, the outermost first.
    keys: Vec<u64>,
    /// Keyed at random, so that nobody can choose keys that look equal.
    hasher: RandomState,
}

/// An open object or array.
struct Level {
    is_object: bool,
    /// Values begun so far; of an array, the index of the next.
    count: usize,
    /// The pointer of the object or array itself.
    mark: Mark,
    /// Where its keys begin in `Scratch::keys`.
    keys: usize,
}

/// Why the parser ended before the text did.
enum Stop {
    Malformed,
    TooDeep,
    /// The sink takes no more.
    Full,
}

impl From<Stop> for Flags {
    fn from(stop: Stop) -> Flags {
        match stop {
            Stop::Malformed => Flags::MALFORMED,
            Stop::TooDeep => Flags::MALFORMED | Flags::TRUNCATED,
            Stop::Full => Flags::TRUNCATED,
        }
    }
}

/// How much of a text is JSON.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Extent {
    /// All of it is one JSON text in UTF-8.
    One,
    /// It begins with one. Others may follow, as in newline-delimited JSON, and strings may hold any bytes: who reads JSON
    /// whatever its type is called mostly reads one text after the other, and U+FFFD for what is no UTF-8.
    Sequence,
}

/// Hands every leaf of `text` to `sink`, and the keys of what is empty. What stands before an error is handed out.
pub(super) fn parse(
    text: &[u8],
    extent: Extent,
    scratch: &mut Scratch,
    sink: &mut impl FnMut(Found<'_>) -> ControlFlow<()>,
) -> Flags {
    let mut flags = Flags::NONE;
    let mut text = text;
    if let Some(rest) = text.strip_prefix(b"\xef\xbb\xbf") {
        flags |= Flags::AMBIGUOUS;
        text = rest;
    }
    if let Extent::One = extent
        && let Err(error) = std::str::from_utf8(text)
    {
        flags |= Flags::MALFORMED;
        text = &text[..error.valid_up_to()];
    }
    scratch.pointer.cut(Mark::default());
    scratch.levels.clear();
    scratch.keys.clear();
    let mut parser = Parser { text, extent, at: 0, scratch, flags, sink };
    match parser.document() {
        Ok(()) => parser.flags,
        Err(stop) => parser.flags | stop.into(),
    }
}

struct Parser<'t, 's, S> {
    text: &'t [u8],
    extent: Extent,
    at: usize,
    scratch: &'s mut Scratch,
    flags: Flags,
    sink: &'s mut S,
}

/// What the text goes on with.
enum Next {
    Value,
    End,
}

impl<'t, S: FnMut(Found<'_>) -> ControlFlow<()>> Parser<'t, '_, S> {
    fn document(&mut self) -> Result<(), Stop> {
        loop {
            let next = match self.token()? {
                b'{' => self.open(true)?,
                b'[' => self.open(false)?,
                b'"' => {
                    let contents = self.string()?;
                    self.string_leaf(contents)?;
                    self.after_value()?
                }
                first => {
                    let leaf = self.number_or_literal(first)?;
                    self.leaf(Text::plain(leaf), Flags::NONE)?;
                    self.after_value()?
                }
            };
            if let Next::End = next {
                return Ok(());
            }
        }
    }

    /// Enters an object or array, and leaves it at once if it is empty.
    fn open(&mut self, is_object: bool) -> Result<Next, Stop> {
        self.at += 1;
        if self.scratch.levels.len() == MAX_DEPTH {
            return Err(Stop::TooDeep);
        }
        let (mark, keys) = (self.scratch.pointer.mark(), self.scratch.keys.len());
        if self.token()? != if is_object { b'}' } else { b']' } {
            self.scratch.levels.push(Level { is_object, count: 0, mark, keys });
            return self.member();
        }
        self.at += 1;
        if !self.scratch.levels.is_empty() {
            self.emit(Kind::JsonKey, Text::default(), Flags::NONE)?;
        }
        self.after_value()
    }

    /// Goes to the next value of the innermost object or array, past its key.
    fn member(&mut self) -> Result<Next, Stop> {
        let level = self.scratch.levels.last_mut().ok_or(Stop::Malformed)?;
        let index = level.count;
        level.count += 1;
        self.scratch.pointer.cut(level.mark);
        if level.is_object {
            self.key()?;
        } else {
            self.scratch.pointer.push_index(index);
        }
        Ok(Next::Value)
    }

    fn key(&mut self) -> Result<(), Stop> {
        if self.token()? != b'"' {
            return Err(Stop::Malformed);
        }
        let contents = self.string()?;
        let Scratch { pointer, decoded, keys, hasher, .. } = &mut *self.scratch;
        let mut key = contents.raw;
        if contents.has_escapes {
            decoded.clear();
            if string::decode(contents.raw, decoded) == Decoded::LoneSurrogate {
                self.flags |= Flags::AMBIGUOUS;
            }
            key = decoded;
        }
        keys.push(hasher.hash_one(key));
        pointer.push_key(contents.raw, key);
        if self.token()? != b':' {
            return Err(Stop::Malformed);
        }
        self.at += 1;
        Ok(())
    }

    /// Closes what ends here, up to the next value or the end of the text.
    fn after_value(&mut self) -> Result<Next, Stop> {
        loop {
            let Some(level) = self.scratch.levels.last() else {
                self.skip_space();
                return match self.extent {
                    _ if self.at == self.text.len() => Ok(Next::End),
                    Extent::One => Err(Stop::Malformed),
                    Extent::Sequence => {
                        self.scratch.pointer.cut(Mark::default());
                        Ok(Next::Value)
                    }
                };
            };
            let close = if level.is_object { b'}' } else { b']' };
            let token = self.token()?;
            self.at += 1;
            if token == b',' {
                return self.member();
            }
            if token != close {
                return Err(Stop::Malformed);
            }
            self.close();
        }
    }

    fn close(&mut self) {
        let Some(level) = self.scratch.levels.pop() else { return };
        let keys = &mut self.scratch.keys[level.keys..];
        keys.sort_unstable();
        if keys.windows(2).any(|pair| pair[0] == pair[1]) {
            self.flags |= Flags::AMBIGUOUS;
        }
        self.scratch.keys.truncate(level.keys);
    }

    fn string_leaf(&mut self, contents: Contents<'t>) -> Result<(), Stop> {
        if !contents.has_escapes {
            return self.leaf(Text::plain(contents.raw), Flags::NONE);
        }
        let mut decoded = std::mem::take(&mut self.scratch.decoded);
        decoded.clear();
        let flags = match string::decode(contents.raw, &mut decoded) {
            Decoded::Whole => Flags::NONE,
            Decoded::LoneSurrogate => Flags::AMBIGUOUS,
        };
        let emitted = self.leaf(Text { raw: contents.raw, decoded: Some(&decoded) }, flags);
        self.scratch.decoded = decoded;
        emitted
    }

    fn leaf(&mut self, value: Text<'_>, flags: Flags) -> Result<(), Stop> {
        self.emit(Kind::JsonLeaf, value, flags)
    }

    fn emit(&mut self, kind: Kind, value: Text<'_>, flags: Flags) -> Result<(), Stop> {
        self.flags |= flags;
        match (self.sink)(Found { kind, name: self.scratch.pointer.text(), value, flags }) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(Stop::Full),
        }
    }

    fn string(&mut self) -> Result<Contents<'t>, Stop> {
        let start = self.at + 1;
        let contents = string::contents(self.text, start).ok_or(Stop::Malformed)?;
        self.at = start + contents.raw.len() + 1;
        Ok(contents)
    }

    fn number_or_literal(&mut self, first: u8) -> Result<&'t [u8], Stop> {
        let rest = &self.text[self.at..];
        let length = match first {
            b't' if rest.starts_with(b"true") => 4,
            b'f' if rest.starts_with(b"false") => 5,
            b'n' if rest.starts_with(b"null") => 4,
            _ => number_length(rest).ok_or(Stop::Malformed)?,
        };
        self.at += length;
        Ok(&rest[..length])
    }

    fn skip_space(&mut self) {
        while let Some(b' ' | b'\t' | b'\n' | b'\r') = self.text.get(self.at) {
            self.at += 1;
        }
    }

    /// The first byte of the next token; it is not passed over.
    fn token(&mut self) -> Result<u8, Stop> {
        self.skip_space();
        self.text.get(self.at).copied().ok_or(Stop::Malformed)
    }
}

/// The length of the number that `text` begins with (RFC 8259, section 6). What may follow it is for others to say.
pub(in crate::body) fn number_length(text: &[u8]) -> Option<usize> {
    let digits = |from: usize| text[from..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let mut at = usize::from(text.first() == Some(&b'-'));
    at += match text.get(at)? {
        b'0' => 1,
        b'1'..=b'9' => digits(at),
        _ => return None,
    };
    if text.get(at) == Some(&b'.') {
        at += 1 + Some(digits(at + 1)).filter(|&count| count > 0)?;
    }
    if let Some(b'e' | b'E') = text.get(at) {
        at += 1;
        at += usize::from(matches!(text.get(at), Some(b'+' | b'-')));
        at += Some(digits(at)).filter(|&count| count > 0)?;
    }
    Some(at)
}
