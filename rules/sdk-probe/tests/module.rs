//! What the SDK does in a module: its memory, its state, its exports.

use std::path::Path;

use portcullis_sdk::{Phase, Sample, SectionId, Told};
use runner::{Guest, Module, Outcome};

const SECTIONS: [SectionId; 4] =
    [SectionId::RequestLine, SectionId::Headers, SectionId::Body, SectionId::Carry];

fn module() -> Module {
    Module::read(&Path::new(env!("CARGO_MANIFEST_DIR")).join("../dist/sdk-probe.wasm"))
}

fn view(probe: &str) -> Vec<u8> {
    Sample::get("/").header("x-probe", probe).view(Phase::Request, &SECTIONS, &[])
}

fn judge(guest: &mut Guest, probe: &str) -> Outcome {
    guest.call("pc_request", &view(probe)).expect("no trap")
}

fn told(outcome: &Outcome) -> Told {
    Told::read(&outcome.detail).expect("a detail that a host takes")
}

#[test]
fn two_verdicts_do_not_write_over_each_other() {
    let outcome = judge(&mut module().guest(), "two verdicts");
    assert_eq!(outcome.answer, 2);
    assert_eq!(outcome.carry, b"first");
    let told = told(&outcome);
    assert_eq!(told.message.as_deref(), Some("the first"));
    assert_eq!(told.tags, ["one", "two"]);
    assert_eq!(told.matches.len(), 1);
}

#[test]
fn what_a_host_would_not_take_is_left_out() {
    let outcome = judge(&mut module().guest(), "too much");
    let told = told(&outcome);
    assert_eq!(told.message.map(|message| message.chars().count()), Some(512));
    assert_eq!((told.tags.len(), told.matches.len()), (16, 8));
    assert_eq!(told.body.map(|body| body.len()), Some(16 << 10));
    assert_eq!(told.status, Some(503));
    assert_eq!(outcome.carry.len(), 4_000);
}

#[test]
fn an_instance_that_is_kept_starts_each_verdict_anew_and_does_not_grow() {
    let mut guest = module().guest();
    judge(&mut guest, "too much");
    let pages = guest.pages();
    for _ in 0..100 {
        judge(&mut guest, "too much");
        assert_eq!(judge(&mut guest, "two verdicts").carry, b"first");
    }
    assert_eq!(guest.pages(), pages);
    assert_eq!(judge(&mut guest, "count").carry, 202_u32.to_le_bytes());
    assert_eq!(judge(&mut module().guest(), "count").carry, 1_u32.to_le_bytes());
}

/// Where the region has to move each time, half of what is taken is in use.
#[test]
fn ever_longer_views_take_a_bounded_multiple_of_the_longest() {
    let mut guest = module().guest();
    judge(&mut guest, "two verdicts");
    for length in (0..200).map(|step| step * 1_000) {
        judge(&mut guest, &"x".repeat(length));
    }
    assert!(guest.pages() <= 2 + 4 * 200_000 / 65_536, "{} pages", guest.pages());
}

#[test]
fn a_configuration_is_there_in_each_evaluation() {
    let mut guest = module().guest();
    assert_eq!(judge(&mut guest, "sesame").answer, 0);
    assert_eq!(guest.call("pc_configure", br#""sesame""#).expect("no trap").answer, 0);
    for _ in 0..3 {
        assert_eq!(judge(&mut guest, "sesame").answer, 1);
    }
}

#[test]
fn a_refused_configuration_says_why() {
    let outcome = module().guest().call("pc_configure", b"{}").expect("no trap");
    assert_eq!(outcome.answer, 1);
    assert_eq!(told(&outcome).message.as_deref(), Some("expected a string"));
}

#[test]
fn what_one_phase_leaves_the_next_one_reads() {
    let sample = Sample::post("/", "from the head").header("x-probe", "carry");
    let head =
        module().guest().call("pc_request", &sample.view(Phase::Request, &SECTIONS, &[])).expect("no trap");
    assert_eq!(head.carry, b"from the head");
    for (carry, answer) in [(&head.carry[..], 1), (b"", 0), (b"other", 0)] {
        let view = sample.view(Phase::RequestBody, &SECTIONS, carry);
        assert_eq!(module().guest().call("pc_request_body", &view).expect("no trap").answer, answer);
    }
}

#[test]
fn a_panic_and_an_undeclared_section_are_traps() {
    for probe in ["panic", "undeclared"] {
        assert!(module().guest().call("pc_request", &view(probe)).is_err(), "{probe}");
    }
}

/// Bytes changed at each place of the header, the directory and the tables: no verdict that a sound view has not, no
/// read outside the view.
#[test]
fn a_view_that_points_outside_itself_gets_no_verdict_or_a_harmless_one() {
    let sound = view("log");
    let module = module();
    for place in 0..sound.len() {
        let mut broken = sound.clone();
        broken[place] = 0xff;
        if let Ok(outcome) = module.guest().call("pc_request", &broken) {
            assert!([-1, 0].contains(&outcome.answer), "byte {place}: {outcome:?}");
        }
    }
}

#[test]
fn the_describe_document_is_what_the_macro_was_given() {
    let describe = module().describe().expect("a describe document");
    let describe: serde_json::Value = serde_json::from_str(&describe).expect("JSON");
    let expected = serde_json::json!({
        "name": "sdk-probe",
        "version": env!("CARGO_PKG_VERSION"),
        "abi": {"major": 2, "minor": 0, "features": ["log"]},
        "tags": ["for \"tests\"", "back\\slash"],
        "phases": ["request", "requestBody"],
        "sections": ["requestLine", "headers", "body", "carry"],
        "configSchema": {"type": "string"},
        "prefilter": [
            {"section": "headers", "view": "decoded", "literals": ["x-probe"]},
            {"section": "headers", "view": "canonical", "literals": ["other"]},
        ],
        "patternSets": [
            {"name": "sql", "patterns": ["union\\s+select", "\"or\""]},
            {"name": "none", "patterns": []},
        ],
        "state": "none",
    });
    assert_eq!(describe, expected);
}

#[test]
fn only_what_is_asked_for_is_exported_and_imported() {
    let mut of_abi: Vec<_> = module().exports().into_iter().filter(|name| name.starts_with("pc_")).collect();
    of_abi.sort();
    assert_eq!(
        of_abi,
        ["pc_buffer", "pc_carry", "pc_configure", "pc_detail", "pc_request", "pc_request_body"]
    );
    assert_eq!(module().imports(), ["portcullis.log"]);
}

#[test]
fn a_line_of_log_reaches_the_host() {
    assert_eq!(judge(&mut module().guest(), "log").log, ["2 a line"]);
}
