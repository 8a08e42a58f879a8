//! A detail as a host reads it, for tests: as input that it does not trust.

use std::fmt;

use crate::abi::{DETAIL_BYTES, item};
use crate::{Part, Request, SectionId, Verdict, View};

/// What a rule told with its verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Told {
    /// What happened.
    pub message: Option<String>,
    /// Which of the module's own rules it was.
    pub rule: Option<String>,
    /// How bad it is: 0 unknown to 4 critical.
    pub severity: Option<u32>,
    /// Words to find it by.
    pub tags: Vec<String>,
    /// Where it was found.
    pub matches: Vec<Match>,
    /// The status of the answer.
    pub status: Option<u32>,
    /// The content type of the answer.
    pub content_type: Option<String>,
    /// When to come again, in seconds.
    pub retry_after: Option<u32>,
    /// The location of the answer.
    pub location: Option<String>,
    /// The body of the answer.
    pub body: Option<Vec<u8>>,
    /// What stands in the place of the match.
    pub replacement: Option<Vec<u8>>,
}

/// A place in the view, in the numbers of the layout.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// The section.
    pub section: u16,
    /// 0 value, 1 name.
    pub part: u8,
    /// 0 raw, 1 decoded, 2 canonical.
    pub view: u8,
    /// The index of the entry.
    pub index: u32,
    /// The first byte.
    pub offset: u32,
    /// The number of bytes.
    pub length: u32,
}

/// Why a host drops a detail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BadDetail {
    /// The items are not laid out as they should be, or are longer than 32 KiB.
    Layout,
    /// An item is there more often than it may.
    Repeated(u16),
    /// An item is too long, or holds what it must not.
    Forbidden(u16),
    /// A match is outside the view.
    Outside(Match),
}

impl fmt::Display for BadDetail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Layout => f.write_str("expected items of tag, length and bytes in at most 32 KiB"),
            Self::Repeated(tag) => write!(f, "item {tag} is there more often than it may"),
            Self::Forbidden(tag) => write!(f, "item {tag} is too long, or holds what it must not"),
            Self::Outside(found) => write!(f, "expected a match inside the view, found {found:?}"),
        }
    }
}

impl std::error::Error for BadDetail {}

impl Told {
    /// Reads the bytes that `pc_detail` points to.
    ///
    /// # Errors
    /// If they are not what the ABI allows; a host then drops all of it.
    pub fn read(mut bytes: &[u8]) -> Result<Self, BadDetail> {
        if bytes.len() > DETAIL_BYTES {
            return Err(BadDetail::Layout);
        }
        let mut told = Self::default();
        while !bytes.is_empty() {
            let (header, rest) = bytes.split_first_chunk::<8>().ok_or(BadDetail::Layout)?;
            let [low, high, 0, 0, length @ ..] = *header else { return Err(BadDetail::Layout) };
            let length = u32::from_le_bytes(length) as usize;
            let (item, rest) = rest.split_at_checked(length).ok_or(BadDetail::Layout)?;
            let (padding, rest) =
                rest.split_at_checked(length.wrapping_neg() % 4).ok_or(BadDetail::Layout)?;
            if padding.iter().any(|&byte| byte != 0) {
                return Err(BadDetail::Layout);
            }
            told.take(u16::from_le_bytes([low, high]), item)?;
            bytes = rest;
        }
        Ok(told)
    }

    fn take(&mut self, tag: u16, bytes: &[u8]) -> Result<(), BadDetail> {
        match tag {
            item::MESSAGE => once(tag, &mut self.message, text(tag, bytes, item::MESSAGE_BYTES, |_| true)?),
            item::RULE_ID => {
                once(tag, &mut self.rule, text(tag, bytes, item::RULE_ID_BYTES, |byte| word(byte, b"._:-"))?)
            }
            item::SEVERITY => once(tag, &mut self.severity, number(tag, bytes, 0..=4)?),
            item::TAG => several(
                tag,
                &mut self.tags,
                item::TAG_COUNT,
                text(tag, bytes, item::TAG_BYTES, |byte| word(byte, b"._:/-"))?,
            ),
            item::MATCH => several(tag, &mut self.matches, item::MATCH_COUNT, place(bytes)?),
            item::STATUS => {
                once(tag, &mut self.status, number(tag, bytes, item::STATUS_MIN..=item::STATUS_MAX)?)
            }
            item::CONTENT_TYPE => once(
                tag,
                &mut self.content_type,
                text(tag, bytes, item::CONTENT_TYPE_BYTES, |byte| matches!(byte, 0x20..0x7f))?,
            ),
            item::RETRY_AFTER => {
                once(tag, &mut self.retry_after, number(tag, bytes, 0..=item::RETRY_AFTER_MAX)?)
            }
            item::LOCATION => {
                let path = text(tag, bytes, item::LOCATION_BYTES, |byte| matches!(byte, 0x21..0x7f))?;
                match path.as_bytes() {
                    [b'/', b'/' | b'\\', ..] => Err(BadDetail::Forbidden(tag)),
                    [b'/', ..] => once(tag, &mut self.location, path),
                    _ => Err(BadDetail::Forbidden(tag)),
                }
            }
            item::BODY => once(tag, &mut self.body, at_most(tag, bytes, item::BODY_BYTES)?),
            item::REPLACEMENT => {
                once(tag, &mut self.replacement, at_most(tag, bytes, item::REPLACEMENT_BYTES)?)
            }
            _ => Ok(()),
        }
    }

    /// Whether all matches are inside the view that they were found in.
    ///
    /// # Errors
    /// The first that is not.
    pub fn check_matches(&self, request: &Request<'_>) -> Result<(), BadDetail> {
        match self.matches.iter().find(|found| found.text(request).is_none()) {
            None => Ok(()),
            Some(outside) => Err(BadDetail::Outside(*outside)),
        }
    }
}

impl Match {
    /// The bytes that were found.
    #[must_use]
    pub fn text<'a>(&self, request: &Request<'a>) -> Option<&'a [u8]> {
        let id = SectionId::ALL.into_iter().find(|id| *id as u16 == self.section)?;
        let entry = request.laid_out(id)?.entry(self.index as usize)?;
        let text = match self.part {
            part if part == Part::Value as u8 => entry.value(),
            part if part == Part::Name as u8 => entry.name(),
            _ => return None,
        };
        let view = *View::ALL.get(usize::from(self.view))?;
        text.view(view).get(self.offset as usize..)?.get(..self.length as usize)
    }
}

impl Verdict {
    /// What the rule told, as a host reads it.
    ///
    /// # Panics
    /// If a host would drop the detail: with the reason.
    #[must_use]
    pub fn told(&self) -> Told {
        Told::read(self.detail()).unwrap_or_else(|bad| panic!("a host drops the detail of {self:?}: {bad}"))
    }
}

fn once<T>(tag: u16, slot: &mut Option<T>, value: T) -> Result<(), BadDetail> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(BadDetail::Repeated(tag)),
    }
}

fn several<T>(tag: u16, list: &mut Vec<T>, most: usize, value: T) -> Result<(), BadDetail> {
    list.push(value);
    if list.len() <= most { Ok(()) } else { Err(BadDetail::Repeated(tag)) }
}

fn text(tag: u16, item: &[u8], longest: usize, allowed: fn(u8) -> bool) -> Result<String, BadDetail> {
    match str::from_utf8(item) {
        Ok(text) if item.len() <= longest && item.iter().all(|&byte| allowed(byte)) => Ok(text.to_owned()),
        _ => Err(BadDetail::Forbidden(tag)),
    }
}

fn word(byte: u8, also: &[u8]) -> bool {
    byte.is_ascii_alphanumeric() || also.contains(&byte)
}

fn number(tag: u16, item: &[u8], range: std::ops::RangeInclusive<u32>) -> Result<u32, BadDetail> {
    let number = item.try_into().map(u32::from_le_bytes);
    number.ok().filter(|number| range.contains(number)).ok_or(BadDetail::Forbidden(tag))
}

fn at_most(tag: u16, item: &[u8], longest: usize) -> Result<Vec<u8>, BadDetail> {
    if item.len() <= longest { Ok(item.to_vec()) } else { Err(BadDetail::Forbidden(tag)) }
}

fn place(item: &[u8]) -> Result<Match, BadDetail> {
    let forbidden = BadDetail::Forbidden(item::MATCH);
    let ([first, index, offset, length, [0, 0, 0, 0]], []) = item.as_chunks::<4>() else {
        return Err(forbidden);
    };
    let [low, high, part, view] = *first;
    Ok(Match {
        section: u16::from_le_bytes([low, high]),
        part,
        view,
        index: u32::from_le_bytes(*index),
        offset: u32::from_le_bytes(*offset),
        length: u32::from_le_bytes(*length),
    })
}
