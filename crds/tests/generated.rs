//! The committed YAML is what the types say.

#[test]
fn generated_yaml_matches_the_types() {
    let committed = include_str!("../generated/wasmrules.yaml");
    assert!(
        committed == portcullis_crds::wasm_rule::crd_yaml(),
        "crds/generated/wasmrules.yaml is not what the types say: run `make generate` and commit the result"
    );
}
