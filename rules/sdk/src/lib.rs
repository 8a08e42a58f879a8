//! Rules for Portcullis in ten lines of Rust: module ABI version 2.
//!
//! ```
//! #![cfg_attr(not(test), no_std)]
//! use portcullis_sdk::{Request, Verdict, rule};
//!
//! rule! {
//!     name: "no-evil-scraper", version: "1.0.0",
//!     sections: [Headers],
//!     prefilter: [Headers.Raw: ["evilscraper"]],
//!     request: inspect,
//! }
//!
//! fn inspect(request: &Request<'_>) -> Verdict {
//!     match request.header("user-agent").and_then(|agent| agent.find("evilscraper")) {
//!         Some(found) => Verdict::block().message("a scraper that was asked to stay away").matched(found),
//!         None => Verdict::allow(),
//!     }
//! }
//! # fn main() {}
//! ```
//!
//! Built as a `cdylib` for `wasm32-unknown-unknown` this is a module that any host of ABI version 2 runs. On the
//! developer's machine the same function is an ordinary one: try it with [`Sample`].
//!
//! What cannot be judged is never allowed by accident: a view that is not laid out as the ABI says, a section that the
//! rule did not declare, and a panic all end without a verdict, and the host's `onFailure` decides.
//!
//! The crate needs neither std nor an allocator. A rule that wants `alloc` or `std` switches on the feature of that
//! name.
#![cfg_attr(target_arch = "wasm32", no_std)]

#[rustfmt::skip]
#[cfg_attr(target_arch = "wasm32", allow(dead_code, reason = "a guest does not check what it tells"))]
mod abi;
mod describe;
mod detail;
mod entry;
mod flags;
mod global;
#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
pub mod guest;
mod host;
#[cfg(target_arch = "wasm32")]
mod memory;
mod request;
mod rule;
#[cfg(not(target_arch = "wasm32"))]
mod sample;
mod search;
mod section;
#[cfg(not(target_arch = "wasm32"))]
mod told;
mod verdict;

#[cfg(not(target_arch = "wasm32"))]
#[doc(hidden)]
pub use std::thread_local;

pub use abi::{Action, Flags, Kind, Level, Part, Phase, SectionId, Severity, View};
pub use describe::{Describe, PatternSet, Prefilter, State};
pub use detail::Location;
pub use entry::{Entry, Text};
pub use global::Global;
pub use host::{log, match_set};
pub use request::{Malformed, Request};
pub use rule::{Configure, Inspect, Rule};
#[cfg(not(target_arch = "wasm32"))]
pub use sample::Sample;
pub use search::find;
pub use section::{Named, Section};
#[cfg(not(target_arch = "wasm32"))]
pub use told::{BadDetail, Match, Told};
pub use verdict::Verdict;
