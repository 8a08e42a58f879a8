//! Prints the CustomResourceDefinitions as YAML: `cargo run -p portcullis-crds --bin crdgen`.

fn main() {
    print!("{}", portcullis_crds::wasm_rule::crd_yaml());
}
