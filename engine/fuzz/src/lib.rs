//! What the engine reads out of a module, without the sandbox around it: the files themselves, because wasmtime takes
//! minutes to build with a sanitiser and none of them needs it.

#![allow(dead_code, missing_docs, unreachable_pub)]

mod compiler {
    pub(crate) use crate::phrase;
}
#[path = "../../src/describe.rs"]
pub mod describe;
#[path = "../../src/detail.rs"]
pub mod detail;
#[path = "../../src/pattern_set.rs"]
mod pattern_set;
#[path = "../../src/phase.rs"]
mod phase;
#[path = "../../src/compiler/phrase.rs"]
mod phrase;
#[path = "../../src/quoted.rs"]
mod quoted;

use pattern_set::PatternSets;

/// Builds the pattern sets of a document and searches `text` with each: bounded, and never a pattern that is not there.
pub fn search(describe: &describe::Describe, text: &[u8]) {
    let Ok(sets) = PatternSets::new(&describe.pattern_sets) else { return };
    for (set, patterns) in (0..).zip(&describe.pattern_sets) {
        let fuel = sets.fuel(set, text.len() as u64).expect("a set that is there");
        assert!(fuel >= text.len() as u64);
        if let Some(found) = sets.find(set, text) {
            assert!((found as usize) < patterns.patterns.len());
        }
    }
}
