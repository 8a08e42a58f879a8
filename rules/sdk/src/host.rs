//! What a host does for a rule. A module imports what its rule calls, and nothing else.

use crate::Level;

#[cfg(target_arch = "wasm32")]
mod import {
    #[link(wasm_import_module = "portcullis")]
    unsafe extern "C" {
        pub(super) safe fn log(level: i32, text: *const u8, len: usize);
        pub(super) safe fn match_set(set: u32, text: *const u8, len: usize) -> i32;
    }
}

/// Writes a line to the host's log: up to 1 KiB, 16 lines an evaluation, for 100 fuel and one a byte. Natively it goes
/// to standard error.
pub fn log(level: Level, text: &str) {
    #[cfg(target_arch = "wasm32")]
    import::log(level as i32, text.as_ptr(), text.len());
    #[cfg(not(target_arch = "wasm32"))]
    eprintln!("{level:?}: {text}");
}

/// The lowest index of the patterns of a pattern set that match somewhere in `text`; sets are counted from 0 in the
/// order of their declaration. For 50 fuel and one a byte.
///
/// # Panics
/// Natively, where there is no host to run patterns: test what calls this with the built module.
#[must_use]
pub fn match_set(set: u32, text: &[u8]) -> Option<usize> {
    #[cfg(target_arch = "wasm32")]
    return usize::try_from(import::match_set(set, text.as_ptr(), text.len())).ok();
    #[cfg(not(target_arch = "wasm32"))]
    panic!("pattern set {set} on {} bytes: patterns are run by a host; test the built module", text.len());
}
