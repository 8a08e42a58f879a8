//! What a rule says beside its verdict: the items behind `pc_detail` (module ABI 2). Untrusted: everything in it is
//! bounded and checked, and all of it is dropped if one item breaks a rule: a detail error.

use portcullis_view::SectionId;

use crate::abi2::table::{DETAIL_BYTES, item};
pub use crate::abi2::table::{Part, Severity, TextView as View};

/// What a rule says beside its verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Detail {
    /// For people: at most 1,024 bytes, without control characters.
    pub message: Option<String>,
    /// Which rule within the module.
    pub rule_id: Option<String>,
    /// How bad it is.
    pub severity: Option<Severity>,
    /// Such as `CWE-89`.
    pub tags: Vec<String>,
    /// Where it was found.
    pub matches: Vec<Match>,
    /// What the answer to a blocked request should be.
    pub answer: Answer,
    /// What the match is to be replaced with.
    pub replacement: Option<Vec<u8>>,
}

/// A place in the view.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Match {
    /// Which section.
    pub section: SectionId,
    /// Which entry of it.
    pub index: u32,
    /// Name or value.
    pub part: Part,
    /// Which of the three views of it.
    pub view: View,
    /// In bytes.
    pub offset: u32,
    /// In bytes.
    pub length: u32,
}

/// What a rule wants the answer to a blocked request to be; what it leaves open the rule's `block` says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// 400 to 599.
    pub status: Option<u16>,
    /// A field value.
    pub content_type: Option<String>,
    /// Seconds.
    pub retry_after: Option<u32>,
    /// A path of the same host.
    pub location: Option<String>,
    /// At most 16 KiB.
    pub body: Option<Vec<u8>>,
}

/// Why a detail is dropped.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DetailError {
    /// The module could not say it.
    #[error("{0}")]
    Failed(String),
    /// It is not in the module's memory.
    #[error(
        "`pc_detail` points to {length} bytes at {address:#x}, which is not inside the memory of {memory} bytes"
    )]
    OutOfBounds {
        /// Where.
        address: u32,
        /// Bytes.
        length: u32,
        /// Bytes.
        memory: u64,
    },
    /// It is larger than any detail.
    #[error("the detail has {0} bytes, at most {DETAIL_BYTES}")]
    TooLarge(usize),
    /// It ends within an item.
    #[error("the detail ends within an item at byte {0}")]
    CutOff(usize),
    /// One item is not what it has to be.
    #[error("item {tag} of the detail is not {expected}")]
    Item {
        /// Which.
        tag: u16,
        /// What it has to be.
        expected: &'static str,
    },
    /// One item is there too often.
    #[error("item {tag} of the detail is there more than {limit} times")]
    TooMany {
        /// Which.
        tag: u16,
        /// How often it may be.
        limit: usize,
    },
}

/// Says how long a text of the view is, so that a match can be checked.
pub trait Extent {
    /// Bytes of a part of an entry; `None` if there is no such entry.
    fn length(&self, section: SectionId, index: u32, part: Part, view: View) -> Option<u32>;
}

impl Detail {
    /// Reads what a module wrote. `view` is what the rule was shown.
    ///
    /// # Errors
    /// It is not what docs/abi/version-2.md says.
    pub fn parse(mut bytes: &[u8], view: &impl Extent) -> Result<Self, DetailError> {
        let whole = bytes.len();
        if whole > DETAIL_BYTES {
            return Err(DetailError::TooLarge(whole));
        }
        let mut detail = Self::default();
        while !bytes.is_empty() {
            let cut_off = DetailError::CutOff(whole - bytes.len());
            let Some((&[t0, t1, _, _, l0, l1, l2, l3], rest)) = bytes.split_first_chunk::<8>() else {
                return Err(cut_off);
            };
            let length = u32::from_le_bytes([l0, l1, l2, l3]) as usize;
            let Some((item, rest)) = rest.split_at_checked(length) else { return Err(cut_off) };
            detail.item(u16::from_le_bytes([t0, t1]), item, view)?;
            // The last item need not be padded.
            let padding = length.next_multiple_of(4) - length;
            bytes = rest.get(padding..).unwrap_or_default();
        }
        Ok(detail)
    }

    fn item(&mut self, tag: u16, item: &[u8], view: &impl Extent) -> Result<(), DetailError> {
        let wrong = |expected| DetailError::Item { tag, expected };
        match tag {
            item::MESSAGE => once(
                tag,
                &mut self.message,
                message(item).ok_or(wrong("text of at most 1,024 bytes of UTF-8"))?,
            ),
            item::RULE_ID => once(
                tag,
                &mut self.rule_id,
                token(item, item::RULE_ID_BYTES, b"._:-")
                    .ok_or(wrong("an id of at most 128 letters, digits and ._:-"))?,
            ),
            item::SEVERITY => once(
                tag,
                &mut self.severity,
                number(item).and_then(Severity::from_number).ok_or(wrong("a severity from 0 to 4"))?,
            ),
            item::TAG => many(
                tag,
                &mut self.tags,
                item::TAG_COUNT,
                token(item, item::TAG_BYTES, b"._:/-")
                    .ok_or(wrong("a tag of at most 64 letters, digits and ._:/-"))?,
            ),
            item::MATCH => many(
                tag,
                &mut self.matches,
                item::MATCH_COUNT,
                place(item, view).ok_or(wrong("a place in the view"))?,
            ),
            item::STATUS => once(
                tag,
                &mut self.answer.status,
                number(item)
                    .filter(|status| (item::STATUS_MIN..=item::STATUS_MAX).contains(status))
                    .and_then(|status| u16::try_from(status).ok())
                    .ok_or(wrong("a status from 400 to 599"))?,
            ),
            item::CONTENT_TYPE => once(
                tag,
                &mut self.answer.content_type,
                field_value(item, item::CONTENT_TYPE_BYTES)
                    .ok_or(wrong("a media type of at most 128 bytes"))?,
            ),
            item::RETRY_AFTER => once(
                tag,
                &mut self.answer.retry_after,
                number(item)
                    .filter(|seconds| *seconds <= item::RETRY_AFTER_MAX)
                    .ok_or(wrong("a number of seconds up to 86,400"))?,
            ),
            item::LOCATION => once(
                tag,
                &mut self.answer.location,
                location(item).ok_or(wrong("a path of this host, of at most 2,048 bytes"))?,
            ),
            item::BODY => once(
                tag,
                &mut self.answer.body,
                short(item, item::BODY_BYTES).ok_or(wrong("a body of at most 16 KiB"))?,
            ),
            item::REPLACEMENT => once(
                tag,
                &mut self.replacement,
                short(item, item::REPLACEMENT_BYTES).ok_or(wrong("a value of at most 16 KiB"))?,
            ),
            // Of a later minor version.
            _ => Ok(()),
        }
    }
}

fn once<T>(tag: u16, slot: &mut Option<T>, value: T) -> Result<(), DetailError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(DetailError::TooMany { tag, limit: 1 }),
    }
}

fn many<T>(tag: u16, list: &mut Vec<T>, limit: usize, value: T) -> Result<(), DetailError> {
    list.push(value);
    if list.len() > limit { Err(DetailError::TooMany { tag, limit }) } else { Ok(()) }
}

/// Text for people. Control characters would let a rule write log lines of its own.
fn message(item: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(item).ok().filter(|_| item.len() <= item::MESSAGE_BYTES)?;
    Some(text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect())
}

fn token(item: &[u8], longest: usize, others: &[u8]) -> Option<String> {
    let is_token = (1..=longest).contains(&item.len())
        && item.iter().all(|byte| byte.is_ascii_alphanumeric() || others.contains(byte));
    is_token.then(|| text(item))
}

fn number(item: &[u8]) -> Option<u32> {
    Some(u32::from_le_bytes(item.try_into().ok()?))
}

/// Printable ASCII: no CR, LF or NUL gets into a header.
fn field_value(item: &[u8], longest: usize) -> Option<String> {
    let is_value =
        (1..=longest).contains(&item.len()) && item.iter().all(|byte| (b' '..=b'~').contains(byte));
    is_value.then(|| text(item))
}

/// A path of the same host: `//host`, `/\host` and anything with a scheme lead elsewhere.
fn location(item: &[u8]) -> Option<String> {
    let leads_here = match item {
        [b'/'] => true,
        [b'/', second, ..] => *second != b'/' && *second != b'\\',
        _ => false,
    };
    field_value(item, item::LOCATION_BYTES).filter(|path| leads_here && !path.contains([' ', '\\']))
}

fn short(item: &[u8], longest: usize) -> Option<Vec<u8>> {
    (item.len() <= longest).then(|| item.to_vec())
}

fn text(ascii: &[u8]) -> String {
    String::from_utf8_lossy(ascii).into_owned()
}

fn place(item: &[u8], shown: &impl Extent) -> Option<Match> {
    let &[s0, s1, part, view, i0, i1, i2, i3, o0, o1, o2, o3, l0, l1, l2, l3, ..] =
        <&[u8; 20]>::try_from(item).ok()?;
    let section = SectionId::from_number(u16::from_le_bytes([s0, s1]))?;
    let (part, view) = (Part::from_number(part)?, View::from_number(view)?);
    let index = u32::from_le_bytes([i0, i1, i2, i3]);
    let offset = u32::from_le_bytes([o0, o1, o2, o3]);
    let length = u32::from_le_bytes([l0, l1, l2, l3]);
    let extent = shown.length(section, index, part, view)?;
    (offset.checked_add(length)? <= extent).then_some(Match { section, index, part, view, offset, length })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// One header of 4 bytes.
    struct OneHeader;

    impl Extent for OneHeader {
        fn length(&self, section: SectionId, index: u32, part: Part, _: View) -> Option<u32> {
            (section == SectionId::Headers && index == 0).then_some(match part {
                Part::Name => 10,
                Part::Value => 4,
            })
        }
    }

    fn item(tag: u16, bytes: &[u8]) -> Vec<u8> {
        let mut item = tag.to_le_bytes().to_vec();
        item.extend([0, 0]);
        item.extend(u32::try_from(bytes.len()).unwrap().to_le_bytes());
        item.extend(bytes);
        item.resize(item.len().next_multiple_of(4), 0);
        item
    }

    fn parse(items: &[(u16, &[u8])]) -> Result<Detail, DetailError> {
        let bytes: Vec<u8> = items.iter().flat_map(|(tag, bytes)| item(*tag, bytes)).collect();
        Detail::parse(&bytes, &OneHeader)
    }

    fn match_item(section: u16, part: u8, index: u32, offset: u32, length: u32) -> Vec<u8> {
        let mut bytes = section.to_le_bytes().to_vec();
        bytes.extend([part, 0]);
        for number in [index, offset, length, 0] {
            bytes.extend(number.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn everything_that_a_rule_may_say() {
        let place = match_item(5, 0, 0, 1, 3);
        let detail = parse(&[
            (1, "a scanner\nand more".as_bytes()),
            (2, b"agents.sqlmap"),
            (3, &2_u32.to_le_bytes()),
            (4, b"CWE-89"),
            (4, b"OWASP-A03"),
            (5, &place),
            (6, &429_u32.to_le_bytes()),
            (7, b"text/plain"),
            (8, &60_u32.to_le_bytes()),
            (9, b"/blocked?why=bot"),
            (10, b"no"),
            (11, b"***"),
            (99, b"of a later version"),
        ])
        .unwrap();
        assert_eq!(detail.message.as_deref(), Some("a scanner and more"));
        assert_eq!(detail.rule_id.as_deref(), Some("agents.sqlmap"));
        assert_eq!(detail.severity, Some(Severity::Warning));
        assert_eq!(detail.tags, ["CWE-89", "OWASP-A03"]);
        let expected = Match {
            section: SectionId::Headers,
            index: 0,
            part: Part::Value,
            view: View::Raw,
            offset: 1,
            length: 3,
        };
        assert_eq!(detail.matches, [expected]);
        assert_eq!(detail.answer.status, Some(429));
        assert_eq!(detail.answer.location.as_deref(), Some("/blocked?why=bot"));
        assert_eq!(detail.replacement.as_deref(), Some(&b"***"[..]));
    }

    #[test]
    fn an_answer_stays_on_this_host_and_in_its_header() {
        for location in
            ["//evil.example", "/\\evil.example", "https://evil.example", "", "/a\r\nset-cookie: a=b", "/a b"]
        {
            assert!(parse(&[(9, location.as_bytes())]).is_err(), "{location:?}");
        }
        for status in [0, 200, 302, 399, 600, 65_936] {
            assert!(parse(&[(6, &u32::to_le_bytes(status))]).is_err(), "{status}");
        }
        assert!(parse(&[(7, b"text/html\r\nset-cookie: a=b")]).is_err());
        assert!(parse(&[(8, &86_401_u32.to_le_bytes())]).is_err());
    }

    #[test]
    fn a_match_lies_in_the_view() {
        for (section, part, index, offset, length) in [
            (4, 0, 0, 0, 1),
            (5, 0, 1, 0, 1),
            (5, 0, 0, 0, 5),
            (5, 0, 0, 4, 1),
            (5, 2, 0, 0, 1),
            (5, 0, 0, 1, u32::MAX),
        ] {
            assert!(parse(&[(5, &match_item(section, part, index, offset, length))]).is_err());
        }
        assert!(parse(&[(5, &match_item(5, 1, 0, 0, 10))]).is_ok());
    }

    #[test]
    fn too_much_or_too_short_is_an_error() {
        assert_eq!(parse(&[(1, b"a"), (1, b"b")]), Err(DetailError::TooMany { tag: 1, limit: 1 }));
        assert!(parse(&[(4, &b"t"[..]); 17]).is_err());
        assert!(parse(&[(1, &[b'a'; 1025])]).is_err());
        assert!(parse(&[(1, b"\xff")]).is_err());
        assert_eq!(Detail::parse(&[1, 0, 0, 0, 9, 0, 0, 0, 1], &OneHeader), Err(DetailError::CutOff(0)));
        assert_eq!(Detail::parse(&[1, 0, 0], &OneHeader), Err(DetailError::CutOff(0)));
        assert!(Detail::parse(&[0; DETAIL_BYTES + 1], &OneHeader).is_err());
    }

    proptest::proptest! {
        #[test]
        fn nothing_breaks_the_reader(bytes in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..200)) {
            let _ = Detail::parse(&bytes, &OneHeader);
        }
    }
}
