//! Base 64 with padding: RFC 4648, section 4. Strict, so that there is one reading only.

/// The bytes, or `None` if `text` is not exactly what an encoder writes.
pub(crate) fn decode(text: &[u8]) -> Option<Vec<u8>> {
    let (groups, []) = text.as_chunks::<4>() else {
        return None;
    };
    let Some((last, groups)) = groups.split_last() else {
        return Some(Vec::new());
    };
    let mut bytes = Vec::with_capacity(text.len() / 4 * 3);
    for group in groups {
        bytes.extend_from_slice(&three_bytes(*group)?);
    }
    let (filled, length) = match *last {
        [a, b, b'=', b'='] => ([a, b, b'A', b'A'], 1),
        [a, b, c, b'='] => ([a, b, c, b'A'], 2),
        full => (full, 3),
    };
    let three = three_bytes(filled)?;
    let (kept, dropped) = three.split_at_checked(length)?;
    bytes.extend_from_slice(kept);
    dropped.iter().all(|&byte| byte == 0).then_some(bytes)
}

fn three_bytes(group: [u8; 4]) -> Option<[u8; 3]> {
    let [a, b, c, d] = group.map(|character| VALUES[usize::from(character)]);
    let bits = u32::from(a) << 18 | u32::from(b) << 12 | u32::from(c) << 6 | u32::from(d);
    let [_, bytes @ ..] = bits.to_be_bytes();
    (a | b | c | d < 64).then_some(bytes)
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// What each byte stands for; 64 and more is nothing.
const VALUES: [u8; 256] = {
    let mut values = [u8::MAX; 256];
    let mut value = 0;
    while value < 64 {
        values[ALPHABET[value as usize] as usize] = value;
        value += 1;
    }
    values
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_vectors_of_rfc_4648_section_10_decode() {
        for (text, bytes) in [
            ("", ""),
            ("Zg==", "f"),
            ("Zm8=", "fo"),
            ("Zm9v", "foo"),
            ("Zm9vYg==", "foob"),
            ("Zm9vYmE=", "fooba"),
            ("Zm9vYmFy", "foobar"),
        ] {
            assert_eq!(decode(text.as_bytes()).as_deref(), Some(bytes.as_bytes()), "{text}");
        }
        assert_eq!(decode(b"//79+w=="), Some(vec![0xff, 0xfe, 0xfd, 0xfb]));
    }

    #[test]
    fn what_no_encoder_writes_is_refused() {
        for text in [
            "Z", "Zg", "Zg=", "Zg===", "=", "====", "Z===", "Zg==Zg==", "Zm9=v", "Zm9_", "Zm 9", "Zh==",
            "Zm9=", "Zm9v\n",
        ] {
            assert_eq!(decode(text.as_bytes()), None, "{text:?}");
        }
    }
}
