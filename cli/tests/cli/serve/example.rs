//! The example that the README serves.

use crate::http::{BROWSER, SQLMAP};
use crate::modules::repository;
use crate::serve::process::Serving;
use portcullis_test_tools::upstream::upstream;

#[test]
fn examples_standalone_serves_from_the_repository_after_make_rules() {
    let example = repository().join("examples/standalone");
    let module = example.join("bad-bot-blocker.wasm");
    assert!(module.exists(), "{} is missing: run `make rules`", module.display());
    let serving = Serving::start(&example, upstream(), &[]);
    assert_eq!(serving.answers(BROWSER, 200).body, "upstream");
    assert!(serving.answers(SQLMAP, 403).body.starts_with("Blocked by WASM rule: bad-bot-blocker\n"));
}
