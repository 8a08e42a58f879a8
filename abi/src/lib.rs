//! The numbers and names of module ABI 2 stand in one table, `docs/abi/version-2.json`. What is generated from it is
//! committed, so that whoever builds a host or a guest needs no generator: `make generate` writes it, and a test holds
//! the committed files against the table.

mod docs;
mod hosts;
mod rust;
mod sdk;
mod table;

use std::io;
use std::path::Path;

use table::Table;

const TABLE: &str = "docs/abi/version-2.json";
const PAGE: &str = "docs/abi/version-2.md";

/// Path from the repository's root, and content.
///
/// # Errors
/// The table, or the page whose tables are made from it, cannot be read.
pub fn files(root: &Path) -> io::Result<Vec<(&'static str, String)>> {
    let table: Table = serde_json::from_slice(&std::fs::read(root.join(TABLE))?)?;
    let page = std::fs::read_to_string(root.join(PAGE))?;
    Ok(vec![
        (PAGE, docs::page(&table, &page)?),
        ("view/src/abi.rs", hosts::view(&table)),
        ("engine/src/abi2/table.rs", hosts::engine(&table)),
        ("rules/sdk/src/abi.rs", sdk::rust(&table)),
    ])
}
