//! The committed files are what the types say.

use std::path::Path;

#[test]
fn generated_files_match_the_types() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    for (path, content) in portcullis_crds::generated::files() {
        let committed = std::fs::read_to_string(root.join(path)).unwrap_or_default();
        assert!(
            committed == content,
            "{path} is not what the types say: run `make generate` and commit the result"
        );
    }
}
