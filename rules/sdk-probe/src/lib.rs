//! Uses every part of the SDK in a module; for tests of what only happens there.
//!
//! The header `x-probe` says what to do.
#![cfg_attr(not(test), no_std)]

extern crate alloc;

use alloc::vec::Vec;

use portcullis_sdk::{Flags, Level, Request, SectionId, Severity, Verdict, View, global, log, rule};

rule! {
    name: "sdk-probe",
    version: env!("CARGO_PKG_VERSION"),
    tags: ["for \"tests\"", "back\\slash"],
    features: ["log"],
    sections: [RequestLine, Headers, Body, Carry],
    config_schema: r#"{"type": "string"}"#,
    prefilter: [Headers.Decoded: ["x-probe"], Headers.Canonical: ["other"]],
    pattern_sets: ["sql": ["union\\s+select", "\"or\""], "none": []],
    state: None,
    configure: configure,
    request: request,
    request_body: request_body,
}

global! {
    /// What the configuration says, without its quotes.
    static CONFIG: Vec<u8> = Vec::new();
    /// Evaluations of this instance.
    static EVALUATIONS: u32 = 0;
}

fn configure(json: &[u8]) -> Result<(), &'static str> {
    let [b'"', text @ .., b'"'] = json else { return Err("expected a string") };
    CONFIG.set(text.to_vec());
    Ok(())
}

fn request(request: &Request<'_>) -> Verdict {
    EVALUATIONS.set(EVALUATIONS.get() + 1);
    let Some(probe) = request.header("x-probe") else { return Verdict::allow() };
    match probe.raw() {
        // The first verdict is still written when the second has been.
        b"two verdicts" => {
            let first = Verdict::log().message("the first").tag("one");
            let second = Verdict::block().message("the second").carry(b"second");
            let first = first.carry(b"fir").tag("two");
            let second = second.tag("three");
            let first = first.carry(b"st").matched(probe.locate(View::Raw, 0..3));
            if second.detail().is_empty() { second } else { first }
        }
        b"too much" => {
            let long = "é".repeat(1_000);
            let much = (0..20).fold(Verdict::block().message(&long).message("again"), |verdict, _| {
                verdict.tag("tag").matched(probe.locate(View::Raw, 1..2)).carry(&[b'c'; 1_000])
            });
            much.body(&[b'b'; 16 << 10]).status(503)
        }
        b"log" => {
            log(Level::Warning, "a line");
            Verdict::allow()
        }
        b"count" => Verdict::allow().carry(&EVALUATIONS.get().to_le_bytes()),
        b"panic" => panic!("as it was asked to"),
        b"undeclared" => {
            let _ = request.cookies();
            Verdict::allow()
        }
        text if CONFIG.with(|config| config == text) => Verdict::block().severity(Severity::Warning),
        _ => Verdict::allow().carry(b"from the head"),
    }
}

fn request_body(request: &Request<'_>) -> Verdict {
    let absent = request.section(SectionId::Carry).flags().has(Flags::ABSENT);
    if absent || request.body() != request.carry() { Verdict::allow() } else { Verdict::block() }
}
