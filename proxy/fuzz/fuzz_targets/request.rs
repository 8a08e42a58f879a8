//! See `portcullis_proxy::differential::request`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portcullis_proxy::differential::request(input));
