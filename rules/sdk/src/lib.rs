//! Rules for Portcullis in ten lines of Rust: module ABI version 1.
//!
//! ```
//! use portcullis_sdk::{Action, Request, rule};
//!
//! rule!(inspect);
//!
//! /// Keeps the outside away from the administration pages.
//! fn inspect(request: &Request<'_>) -> Action {
//!     if request.uri().starts_with("/admin") && !request.source_ip().starts_with("10.") {
//!         return Action::Block;
//!     }
//!     Action::Allow
//! }
//! # fn main() {}
//! ```
//!
//! Built as a `cdylib` for `wasm32-unknown-unknown`, this is a module any host of ABI version 1 runs. On the
//! developer's machine the same function is an ordinary one: test it with [`Sample`].
//!
//! What cannot be judged is never allowed by accident: a request that is not laid out as the ABI says makes
//! `inspect_request` answer [`MALFORMED`], which is no verdict, and a panic traps. In both cases the host's
//! `onFailure` decides.

mod base64;
mod escape;
#[cfg(target_arch = "wasm32")]
mod heap;
mod json;
mod request;
mod sample;

#[doc(hidden)]
pub mod guest;

pub use json::Malformed;
pub use request::Request;
pub use sample::Sample;

/// What is to happen to a request. The numbers are those of the ABI; a host treats any other as an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(i32)]
pub enum Action {
    /// Let it through.
    Allow = 0,
    /// Refuse it.
    Block = 1,
    /// Let it through and write an alert.
    Log = 2,
    /// Count it against the rule's rate limit.
    RateLimit = 3,
}

/// What `inspect_request` answers when it cannot read the request: an error for the host, not a verdict.
pub const MALFORMED: i32 = -1;

/// Exports a function `fn(&Request<'_>) -> Action` as this module's rule; once per crate.
///
/// On any other architecture than wasm32 it only checks the function's type.
#[macro_export]
macro_rules! rule {
    ($inspect:path) => {
        const _: fn(&$crate::Request<'_>) -> $crate::Action = $inspect;

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[unsafe(no_mangle)]
            extern "C" fn alloc(len: usize) -> *mut u8 {
                $crate::guest::alloc(len)
            }

            #[unsafe(no_mangle)]
            unsafe extern "C" fn inspect_request(ptr: *const u8, len: usize) -> i32 {
                // SAFETY: the ABI's promise: the host wrote `len` bytes at `ptr` and leaves them alone until we return.
                let json = unsafe { ::core::slice::from_raw_parts(ptr, len) };
                $crate::guest::inspect(json, $inspect)
            }
        };
    };
}
