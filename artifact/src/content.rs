//! What some bytes look like, so that "not a module" can say what was pushed instead.

/// A core WebAssembly module, version 1 (WebAssembly core specification, 5.5.16 "Modules").
const CORE_MODULE: &[u8] = b"\0asm\x01\0\0\0";

/// Whether `bytes` start as a core WebAssembly module does.
pub(crate) fn is_core_module(bytes: &[u8]) -> bool {
    bytes.starts_with(CORE_MODULE)
}

/// Names the kind of content, for "expected a core WebAssembly module, found ...".
pub(crate) fn looks_like(bytes: &[u8]) -> String {
    let text = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes).trim_ascii_start();
    let starts_with_word =
        |word: &[u8]| text.get(..word.len()).is_some_and(|start| start.eq_ignore_ascii_case(word));
    let known = if bytes.is_empty() {
        "nothing: 0 bytes"
    } else if bytes.starts_with(b"\0asm") {
        return after_magic(bytes);
    } else if bytes.starts_with(b"\x7fELF") {
        "an ELF executable or library (built for the machine, not for wasm32-unknown-unknown)"
    } else if bytes.starts_with(b"MZ") {
        "a Windows executable"
    } else if matches!(bytes.get(..4), Some(b"\xcf\xfa\xed\xfe" | b"\xfe\xed\xfa\xcf" | b"\xca\xfe\xba\xbe"))
    {
        "a macOS executable"
    } else if bytes.starts_with(b"\x1f\x8b") {
        "gzip data (unpack it: the module itself is wanted)"
    } else if bytes.starts_with(b"\x28\xb5\x2f\xfd") {
        "zstd data (unpack it: the module itself is wanted)"
    } else if bytes.starts_with(b"PK\x03\x04") {
        "a zip archive"
    } else if bytes.get(257..262) == Some(b"ustar") {
        "a tar archive"
    } else if bytes.starts_with(b"!<arch>\n") {
        "a static library (.rlib or .a; the crate type must be cdylib)"
    } else if starts_with_word(b"<!doctype html") || starts_with_word(b"<html") {
        "HTML, probably an error page or a login page"
    } else if text.starts_with(b"(module") || text.starts_with(b"(component") {
        "WebAssembly text (convert it with wat2wasm or wasm-tools parse)"
    } else if text.starts_with(b"{") || text.starts_with(b"[") {
        "JSON"
    } else if std::str::from_utf8(bytes).is_ok_and(|text| !text.contains('\0')) {
        "plain text"
    } else {
        let start = hex::encode(&bytes[..bytes.len().min(8)]);
        return format!("{} bytes of unknown content that start with {start}", bytes.len());
    };
    known.to_owned()
}

fn after_magic(bytes: &[u8]) -> String {
    match bytes.get(4..8) {
        None => format!("a WebAssembly header cut off after {} bytes", bytes.len()),
        Some([0x01, 0, 0, 0]) => "a core WebAssembly module".to_owned(),
        Some([_, _, 0x01, 0]) => {
            "a WebAssembly component (build for wasm32-unknown-unknown without wasm-tools component new)"
                .to_owned()
        }
        Some(version) => format!("WebAssembly of the unknown version {}", hex::encode(version)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn usual_mistakes_are_named() {
        for (bytes, expected) in [
            (&b""[..], "0 bytes"),
            (b"\0as", "unknown content"),
            (b"\0asm\x01", "cut off after 5 bytes"),
            (b"\0asm\x01\0\0\0rest", "core WebAssembly module"),
            (b"\0asm\x0d\0\x01\0", "component"),
            (b"\0asm\x02\0\0\0", "unknown version 02000000"),
            (b"\x7fELF\x02", "ELF"),
            (b"\x1f\x8b\x08", "gzip"),
            (b"PK\x03\x04", "zip"),
            (b"\n <!DOCTYPE html><html>", "HTML"),
            (b"<HTML>", "HTML"),
            (b"(module)", "WebAssembly text"),
            (b"{\"a\":1}", "JSON"),
            (b"hello", "plain text"),
            (b"\xff\xfe\x00", "unknown content that start with fffe00"),
        ] {
            let found = looks_like(bytes);
            assert!(found.contains(expected), "{bytes:?}: {found}");
        }
    }

    #[test]
    fn only_version_one_of_the_core_format_is_a_module() {
        assert!(is_core_module(b"\0asm\x01\0\0\0"));
        assert!(!is_core_module(b"\0asm\x0d\0\x01\0"));
        assert!(!is_core_module(b""));
    }
}
