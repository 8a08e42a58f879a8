//! The Content-Disposition of a part (RFC 7578, section 4.2): how its field and its file are called.

use crate::abi::Flags;
use crate::body::parameters::{Parameter, Parameters};
use crate::found::Text;

/// Buffers that are kept between parts.
#[derive(Default)]
pub(super) struct Scratch {
    name: Vec<u8>,
    file_name: Vec<u8>,
    extended_file_name: Vec<u8>,
}

pub(super) struct Disposition<'a> {
    /// Empty where there is none.
    pub name: Text<'a>,
    pub file_name: Option<Text<'a>>,
    /// `filename*` (RFC 8187), which forms must not have and some clients send.
    pub extended_file_name: Option<Text<'a>>,
    pub flags: Flags,
}

impl<'a> Disposition<'a> {
    pub(super) fn parse(value: Option<&'a [u8]>, scratch: &'a mut Scratch) -> Self {
        let mut flags = Flags::NONE;
        let (mut name, mut file_name, mut extended) = (None, None, None);
        let value = value.unwrap_or_default();
        let end = memchr::memchr(b';', value).unwrap_or(value.len());
        if !value[..end].trim_ascii_end().eq_ignore_ascii_case(b"form-data") {
            flags |= Flags::MALFORMED;
        }
        for parameter in Parameters::of(&value[end..]) {
            let Ok(parameter) = parameter else {
                flags |= Flags::MALFORMED;
                break;
            };
            let slot = if parameter.is("name") {
                &mut name
            } else if parameter.is("filename") {
                &mut file_name
            } else if parameter.is("filename*") {
                &mut extended
            } else {
                // `name*`, and values in pieces (`filename*0`, RFC 2231): who knows them reads another name.
                if parameter.name.contains(&b'*') {
                    flags |= Flags::MALFORMED;
                }
                continue;
            };
            if slot.is_some() {
                flags |= Flags::MALFORMED;
            } else {
                *slot = Some(parameter);
            }
        }

        let name = name.map(|parameter| quoted_text(parameter, &mut scratch.name, &mut flags));
        match name {
            // Some servers leave a field without a name out.
            Some(Text { raw: b"", .. }) => flags |= Flags::AMBIGUOUS,
            Some(_) => {}
            None => flags |= Flags::MALFORMED,
        }
        let file_name = file_name.map(|parameter| quoted_text(parameter, &mut scratch.file_name, &mut flags));
        let extended_file_name =
            extended.map(|parameter| extended_text(parameter, &mut scratch.extended_file_name, &mut flags));
        Disposition { name: name.unwrap_or_default(), file_name, extended_file_name, flags }
    }
}

/// Decoded is without the backslashes of quoted pairs. Browsers send none, and some servers keep them: for those a quote
/// behind one ends the text.
fn quoted_text<'a>(parameter: Parameter<'a>, buffer: &'a mut Vec<u8>, flags: &mut Flags) -> Text<'a> {
    let raw = parameter.value;
    let is_single_quoted = !parameter.quoted && raw.starts_with(b"'");
    if is_single_quoted || std::str::from_utf8(raw).is_err() {
        *flags |= Flags::AMBIGUOUS;
    }
    if !raw.contains(&b'\\') {
        return Text::plain(raw);
    }
    *flags |= Flags::AMBIGUOUS;
    buffer.clear();
    let mut bytes = raw.iter();
    while let Some(&byte) = bytes.next() {
        let byte = if byte == b'\\' { bytes.next().copied().unwrap_or(byte) } else { byte };
        if byte == b'"' {
            *flags |= Flags::MALFORMED;
        }
        buffer.push(byte);
    }
    Text { raw, decoded: Some(buffer) }
}

/// `UTF-8'language'percent-encoded`; decoded is the last of the three. Other charsets are MALFORMED.
fn extended_text<'a>(parameter: Parameter<'a>, buffer: &'a mut Vec<u8>, flags: &mut Flags) -> Text<'a> {
    *flags |= Flags::AMBIGUOUS;
    let raw = parameter.value;
    let mut pieces = raw.splitn(3, |&byte| byte == b'\'');
    let charset = pieces.next().unwrap_or_default();
    let (Some(_language), Some(encoded), false) = (pieces.next(), pieces.next(), parameter.quoted) else {
        *flags |= Flags::MALFORMED;
        return Text::plain(raw);
    };
    buffer.clear();
    let mut rest = encoded;
    while let [byte, after @ ..] = rest {
        let (byte, after) = match rest {
            [b'%', high, low, after @ ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => {
                (hex_digit(*high) << 4 | hex_digit(*low), after)
            }
            _ => {
                if *byte == b'%' {
                    *flags |= Flags::MALFORMED;
                }
                (*byte, after)
            }
        };
        buffer.push(byte);
        rest = after;
    }
    if !charset.eq_ignore_ascii_case(b"utf-8") || std::str::from_utf8(buffer).is_err() {
        *flags |= Flags::MALFORMED;
    }
    Text { raw, decoded: Some(buffer) }
}

fn hex_digit(digit: u8) -> u8 {
    match digit {
        b'0'..=b'9' => digit - b'0',
        _ => (digit | 0x20) - b'a' + 10,
    }
}
