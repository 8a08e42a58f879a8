//! Any patterns, one a line, and after an empty line a text to search.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_engine_fuzz::describe::Describe;
use portcullis_engine_fuzz::search;

fuzz_target!(|input: &[u8]| {
    let end = input.windows(2).position(|pair| pair == b"\n\n").unwrap_or(input.len());
    let (patterns, text) = input.split_at(end);
    let Ok(patterns) = std::str::from_utf8(patterns) else { return };
    let lines: Vec<&str> = patterns.lines().collect();
    let document = serde_json::json!({ "patternSets": [{ "patterns": lines }] });
    let Ok(describe) = Describe::parse(document.to_string().as_bytes()) else { return };
    search(&describe, text);
});
