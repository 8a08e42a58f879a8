//! Runs the cases of the folder `conformance`: lays each request out, reads the view with this crate, and runs the
//! guest on it. With `PORTCULLIS_WRITE_CASES` set it writes what the views are into the cases.

mod case;

use std::fs;
use std::path::{Path, PathBuf};

use case::{Bytes, Case, Line, Section};
use portcullis_sdk::{Request, Told};
use runner::{Guest, Module, Outcome};

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../conformance")
}

fn cases() -> Vec<(PathBuf, Case)> {
    let files = fs::read_dir(folder().join("cases")).expect("the folder `conformance/cases`");
    let mut cases: Vec<_> = files
        .map(|file| {
            let path = file.expect("a file").path();
            let text = fs::read_to_string(&path).expect("a case in UTF-8");
            let case =
                serde_json::from_str(&text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            (path, case)
        })
        .collect();
    cases.sort_by(|left: &(PathBuf, Case), right| left.0.cmp(&right.0));
    cases
}

#[test]
fn requests_become_the_views_of_the_cases() {
    let write = std::env::var_os("PORTCULLIS_WRITE_CASES").is_some();
    let mut count = 0;
    for (path, case) in cases() {
        let laid_out = case.laid_out();
        portcullis_view::Reader::new(&laid_out).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        let view = Section::all(&Request::read(&laid_out).expect("a view"));
        let mut current = case.clone();
        (current.view, current.hex) = (view, hex(&laid_out));
        if write {
            fs::write(&path, current.to_json()).expect("a case that can be written");
        } else {
            assert_eq!(current, case, "{}", path.display());
            assert_eq!(current.to_json(), fs::read_to_string(&path).expect("a case"), "{}", path.display());
        }
        count += 1;
    }
    assert!(count >= 30, "{count} cases");
}

#[test]
fn views_read_as_the_cases_say() {
    for (path, case) in cases() {
        let view = unhex(&case.hex);
        let request = Request::read(&view).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
        assert_eq!(Section::all(&request), case.view, "{}", path.display());
    }
}

#[test]
fn guests_judge_as_the_cases_say() {
    for (path, case) in cases() {
        let module = Module::read(&folder().join(format!("guests/{}.wat", case.guest)));
        let mut guest = module.guest();
        let view = unhex(&case.hex);
        let outcome = run(&mut guest, &case, &view);
        let name = path.display();
        let verdict = match (&outcome, case.verdict.as_str()) {
            (Outcome { answer, .. }, "refused") if *answer != 0 => "refused",
            (Outcome { answer: 0, .. }, _) => "allow",
            (Outcome { answer: 1, .. }, _) => "block",
            (Outcome { answer: 2, .. }, _) => "log",
            (Outcome { answer: 3, .. }, _) => "rateLimit",
            (Outcome { answer: 4, .. }, _) => "sanitise",
            (Outcome { answer, .. }, _) => panic!("{name}: {answer} is no verdict"),
        };
        assert_eq!(verdict, case.verdict, "{name}");
        let request = Request::read(&view).expect("a view");
        let told = Told::read(&outcome.detail).and_then(|told| told.check_matches(&request).map(|()| told));
        assert_eq!(case::Detail::of(told), case.detail, "{name}");
        assert_eq!(Bytes(outcome.carry), case.carried.unwrap_or_default(), "{name}");
        let log: Vec<Line> = outcome.log.iter().map(|line| Line::of(line)).collect();
        assert_eq!(log, case.log, "{name}");
        let describe = module.describe().expect("a describe document");
        let describe: serde_json::Value = serde_json::from_str(&describe).expect("JSON");
        let declared: Option<Vec<String>> =
            describe.get("sections").map(|sections| serde_json::from_value(sections.clone()).expect("names"));
        assert_eq!(declared, case.sections, "{name}: the sections are those that the guest declares");
    }
}

/// A refused configuration ends it; else the phase is run.
fn run(guest: &mut Guest, case: &Case, view: &[u8]) -> Outcome {
    if let Some(config) = &case.config {
        let outcome = guest.call("pc_configure", config.as_bytes()).expect("no trap");
        if outcome.answer != 0 {
            return outcome;
        }
    }
    guest.call(case.export(), view).expect("no trap")
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn unhex(text: &str) -> Vec<u8> {
    let (digits, []) = text.as_bytes().as_chunks::<2>() else { panic!("an odd number of digits: {text}") };
    let byte = |pair: &[u8; 2]| u8::from_str_radix(str::from_utf8(pair).ok()?, 16).ok();
    digits.iter().map(|pair| byte(pair).expect("hexadecimal digits")).collect()
}
