//! The rules that are measured.

use std::error::Error;
use std::path::Path;

use portcullis_engine::describe::{Describe, Literals};
use portcullis_view::{SectionId, View};

/// A module out of `rules/dist`.
pub(crate) fn read(name: &str) -> Result<Vec<u8>, Box<dyn Error>> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../rules/dist").join(name);
    std::fs::read(&path).map_err(|error| format!("{}: {error}; run `make rules`", path.display()).into())
}

/// The same module with a custom section of its own, so that it is another one.
pub(crate) fn distinct(wasm: &[u8], number: usize) -> Vec<u8> {
    let text = format!("{number:08}");
    let mut wasm = wasm.to_vec();
    // Section id 0, its size, the length of its name, the name.
    wasm.extend([0, 1 + 8, 8]);
    wasm.extend(text.as_bytes());
    wasm
}

/// Rules as a library would have them: four literals each in paths, arguments, cookies or headers, none of which a
/// browser sends.
pub(crate) fn literals(rules: usize) -> Vec<Vec<Literals>> {
    const SECTIONS: [&str; 4] = ["headers", "query", "path", "cookies"];
    const STEMS: [&str; 8] =
        ["union+select", "/etc/passwd", "<script", "cmd.exe", "sqlmap", "wp-config", "${jndi:", "../.."];
    (0..rules)
        .map(|rule| {
            let literals: Vec<String> = (0..4)
                .map(|number| {
                    let stem = STEMS[(rule + number) % STEMS.len()];
                    format!("{stem}{:x}", (rule * 4 + number).wrapping_mul(0x9e37_79b1) & 0xff_ffff)
                })
                .collect();
            let section = SECTIONS[rule % SECTIONS.len()];
            let json = serde_json::json!({"prefilter": [{"section": section, "literals": literals}]});
            Describe::parse(json.to_string().as_bytes()).expect("it is one").prefilter
        })
        .collect()
}

/// What the bad-bot rule does, without a sandbox: looks for words in the user agent.
pub(crate) fn native(view: &View) -> bool {
    const NAMES: [&[u8]; 6] = [b"sqlmap", b"nikto", b"nmap", b"masscan", b"zgrab", b"wpscan"];
    let Some(headers) = view.section(SectionId::Headers) else { return false };
    headers.entries().filter(|entry| entry.name.raw == b"user-agent").any(|entry| {
        entry
            .value
            .raw
            .split(|byte| !byte.is_ascii_alphanumeric())
            .any(|word| NAMES.iter().any(|name| word.eq_ignore_ascii_case(name)))
    })
}
