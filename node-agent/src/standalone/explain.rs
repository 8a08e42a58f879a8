//! Explains what would become of a request, and serves none.

use std::path::Path;

use portcullis_crds::wasm_rule::Mode;
use portcullis_engine::Compiler;

use super::start::{StartError, start};
use portcullis_proxy::Upstream;
use portcullis_proxy::explain::{self, AskedRequest, Because, Explanation, IdleRule, RefusedRequest};

/// What the rules and routes of a folder make of a request, as [`serve`](super::serve) would have it with this upstream of the
/// default route. The modules are compiled, since they say in which phases they run.
///
/// # Errors
/// When the rules of the folder cannot run. A request that is refused before it reaches a route is no error.
pub async fn explain(
    rules_dir: &Path,
    upstream: Upstream,
    compiler: Compiler,
    request: &AskedRequest,
) -> Result<Result<Explanation, RefusedRequest>, StartError> {
    let ready = start(rules_dir, 1, upstream, compiler).await?;
    let explained = explain::explain(&ready.control.rules.load(), request);
    Ok(explained.map(|mut explanation| {
        // They are no part of a set.
        let disabled = ready.view.rules.values().filter(|rule| rule.rule.stable.mode == Mode::Disabled);
        explanation.does_not_run.extend(
            disabled.map(|rule| IdleRule { rule: rule.rule.key.clone(), because: Because::Disabled }),
        );
        explanation
    }))
}
