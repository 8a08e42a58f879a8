//! Any bytes as a describe document.

#![no_main]

use libfuzzer_sys::fuzz_target;
use portcullis_engine_fuzz::describe::Describe;

fuzz_target!(|input: &[u8]| {
    match Describe::parse(input) {
        Ok(describe) => {
            let _ = describe.sections();
            describe.prefilter.iter().for_each(|list| drop(list.section()));
            let again = serde_json::to_vec(&describe).expect("what was read can be written");
            // What is written may be longer than what is read: it names every default.
            if let Ok(again) = Describe::parse(&again) {
                assert_eq!(again, describe);
            }
        }
        Err(error) => {
            let message = error.to_string();
            assert!(!message.contains(char::is_control) && message.len() < 3_000, "{message:?}");
        }
    }
});
