//! The committed files are what the table says.

use std::path::Path;

#[test]
fn generated_files_match_the_table() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, content) in portcullis_abi::files(&root).expect("the table and the page can be read") {
        let committed = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        assert!(
            committed == content,
            "{path} is not what docs/abi/version-2.json says: run `make generate` and commit the result"
        );
    }
}
