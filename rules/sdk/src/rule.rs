//! A rule as a value, and the macro that makes a module of it.

use crate::{Describe, Phase, Request, Verdict};

/// Judges one phase of a request.
pub type Inspect = fn(&Request<'_>) -> Verdict;

/// Takes the rule's configuration: JSON in UTF-8. The error says what was expected, and refuses it.
pub type Configure = fn(&[u8]) -> Result<(), &'static str>;

/// What [`rule!`](crate::rule) was given.
#[derive(Clone, Copy, Debug)]
pub struct Rule {
    /// What a host reads without running the rule.
    pub describe: Describe,
    /// Takes the configuration.
    pub configure: Option<Configure>,
    /// Judges the head of a request.
    pub request: Option<Inspect>,
    /// Judges a request with its body.
    pub request_body: Option<Inspect>,
    /// Judges a response.
    pub response: Option<Inspect>,
    /// Judges one message of a stream.
    pub message: Option<Inspect>,
    /// Judges one call inside an application.
    pub hook: Option<Inspect>,
}

impl Rule {
    /// A rule without functions.
    #[must_use]
    pub const fn new(describe: Describe) -> Self {
        Self {
            describe,
            configure: None,
            request: None,
            request_body: None,
            response: None,
            message: None,
            hook: None,
        }
    }

    /// The function of a phase.
    #[must_use]
    pub const fn phase(&self, phase: Phase) -> Option<Inspect> {
        match phase {
            Phase::Request => self.request,
            Phase::RequestBody => self.request_body,
            Phase::Response => self.response,
            Phase::Message => self.message,
            Phase::Hook => self.hook,
        }
    }

    /// Refuses what a host would refuse.
    ///
    /// # Panics
    /// While a rule is compiled: with what is wrong.
    pub const fn check(&self) {
        self.describe.check();
        let mut index = 0;
        while index < Phase::ALL.len() {
            if self.phase(Phase::ALL[index]).is_some() {
                return;
            }
            index += 1;
        }
        panic!("expected a phase: `request: inspect,`");
    }

    /// Bytes of the describe document.
    #[must_use]
    pub const fn describe_len(&self) -> usize {
        self.describe.write::<0>(self).1
    }

    /// The describe document: JSON of [`Self::describe_len`] bytes.
    #[must_use]
    pub const fn describe_json<const LEN: usize>(&self) -> [u8; LEN] {
        self.describe.write::<LEN>(self).0
    }
}

/// Makes a module of one to five functions `fn(&Request<'_>) -> Verdict`; once per crate.
///
/// All keys, of which only `name`, `version` and one phase have to be there, in this order:
///
/// ```
/// # use portcullis_sdk::{Request, Verdict, rule};
/// rule! {
///     name: "no-evil-scraper",
///     version: env!("CARGO_PKG_VERSION"),
///     tags: ["OWASP-A05", "CWE-799"],
///     features: ["log"],
///     sections: [Headers, Carry],
///     config_schema: r#"{"type": "object"}"#,
///     prefilter: [Headers.Raw: ["evilscraper"]],
///     pattern_sets: ["sql": ["union\\s+select"]],
///     state: None,
///     configure: configure,
///     request: inspect,
///     request_body: inspect,
///     response: inspect,
///     message: inspect,
///     hook: inspect,
/// }
/// # fn inspect(_: &Request<'_>) -> Verdict { Verdict::allow() }
/// # fn configure(_: &[u8]) -> Result<(), &'static str> { Ok(()) }
/// # fn main() {}
/// ```
///
/// - `sections`, of [`SectionId`](crate::SectionId): what the rule reads; without it the parts of the head. What is not
///   declared is not laid out. With `Carry` the module has the export `pc_carry`.
/// - `prefilter` is a promise: where none of the literals stands in its section the verdict is Allow.
/// - `features`: imports that the host must have. `pattern_sets` are for [`match_set`](crate::match_set).
/// - `state`, of [`State`](crate::State): `Worker` for a rule that remembers something between requests.
///
/// Texts and lists may be constants. What the ABI forbids, such as a literal of three bytes, does not compile:
///
/// ```compile_fail,E0080
/// # use portcullis_sdk::{Request, Verdict, rule};
/// rule! {
///     name: "too-short",
///     version: "1.0.0",
///     sections: [Headers],
///     prefilter: [Headers.Raw: ["sql"]],
///     request: inspect,
/// }
/// # fn inspect(_: &Request<'_>) -> Verdict { Verdict::allow() }
/// # fn main() {}
/// ```
///
/// It defines `RULE`, a [`Rule`](crate::Rule) for [`Sample::judge`](crate::Sample::judge), and on wasm32 the exports and
/// the custom section `portcullis.describe`.
#[macro_export]
macro_rules! rule {
    (
        name: $name:expr,
        version: $version:expr,
        $(tags: $tags:expr,)?
        $(features: $features:expr,)?
        $(sections: [$($section:ident),* $(,)?],)?
        $(config_schema: $schema:expr,)?
        $(prefilter: [$($filtered:ident . $view:ident : $literals:expr),* $(,)?],)?
        $(pattern_sets: [$($set:literal : $patterns:expr),* $(,)?],)?
        $(state: $state:ident,)?
        $(configure: $configure:path,)?
        $(request: $request:path,)?
        $(request_body: $request_body:path,)?
        $(response: $response:path,)?
        $(message: $message:path,)?
        $(hook: $hook:path,)?
    ) => {
        /// This module's rule.
        pub(crate) const RULE: $crate::Rule = $crate::Rule {
            $(configure: Some($configure),)?
            $(request: Some($request),)?
            $(request_body: Some($request_body),)?
            $(response: Some($response),)?
            $(message: Some($message),)?
            $(hook: Some($hook),)?
            ..$crate::Rule::new($crate::Describe {
                $(tags: &$tags,)?
                $(features: &$features,)?
                $(sections: &[$($crate::SectionId::$section),*],)?
                $(config_schema: Some($schema),)?
                $(prefilter: &[$($crate::Prefilter {
                    section: $crate::SectionId::$filtered,
                    view: $crate::View::$view,
                    literals: &$literals,
                }),*],)?
                $(pattern_sets: &[$($crate::PatternSet { name: $set, patterns: &$patterns }),*],)?
                $(state: $crate::State::$state,)?
                ..$crate::Describe::new($name, $version)
            })
        };

        const _: () = RULE.check();

        #[cfg(target_arch = "wasm32")]
        const _: () = {
            #[used]
            #[unsafe(link_section = "portcullis.describe")]
            static JSON: [u8; RULE.describe_len()] = RULE.describe_json();

            #[unsafe(no_mangle)]
            extern "C" fn pc_buffer(len: usize) -> *mut u8 {
                $crate::guest::buffer(len)
            }

            #[unsafe(no_mangle)]
            extern "C" fn pc_detail() -> u64 {
                $crate::guest::detail()
            }

            $($($crate::export_carry!($section);)*)?
            $($crate::export!(pc_configure, configure, $configure);)?
            $($crate::export!(pc_request, phase, $request);)?
            $($crate::export!(pc_request_body, phase, $request_body);)?
            $($crate::export!(pc_response, phase, $response);)?
            $($crate::export!(pc_message, phase, $message);)?
            $($crate::export!(pc_hook, phase, $hook);)?
        };
    };
}

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! export {
    ($export:ident, $call:ident, $function:path) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $export(start: *const u8, len: usize) -> i32 {
            // SAFETY: the ABI's promise: the host wrote `len` bytes at `start` and leaves them alone until we return.
            unsafe { $crate::guest::$call(start, len, $function) }
        }
    };
}

#[cfg(target_arch = "wasm32")]
#[doc(hidden)]
#[macro_export]
macro_rules! export_carry {
    (Carry) => {
        #[unsafe(no_mangle)]
        extern "C" fn pc_carry() -> u64 {
            $crate::guest::carry()
        }
    };
    ($other:ident) => {};
}
