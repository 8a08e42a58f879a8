//! See `portcullis_proxy::differential::proxy_header`.

#![no_main]

libfuzzer_sys::fuzz_target!(|input: &[u8]| portcullis_proxy::differential::proxy_header(input));
