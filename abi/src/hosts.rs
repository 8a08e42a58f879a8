//! What the host's crates have of the table.

use crate::rust::{Enum, File, Function, Row, rows};
use crate::table::Table;

/// What lays out a view, and what is in it.
pub(crate) fn view(table: &Table) -> String {
    let mut file = File::new("Numbers and names of a view (module ABI 2).");
    file.constants(
        table,
        &["magic", "major", "minor", "headerBytes", "directoryEntryBytes", "entryBytes", "carryBytes"],
    );
    file.closed_enum(&Enum {
        ident: "SectionId",
        about: "one part of a request, with its number in the layout",
        derives: "PartialOrd, Ord, Hash",
        attribute: None,
        number: Some("u16"),
        functions: &[Function::Name, Function::ByName, Function::Number, Function::FromNumber],
        rows: rows(&table.sections),
    });
    file.default_sections(table);
    file.closed_enum(&Enum {
        ident: "Kind",
        about: "what an entry of `bodyArguments` is; entries of every other section have kind 0",
        derives: "",
        attribute: None,
        number: Some("u16"),
        functions: &[],
        rows: rows(&table.kinds),
    });
    file.flags(table, true);
    file.finish()
}

/// What a host asks of a module, and what it is told.
pub(crate) fn engine(table: &Table) -> String {
    let mut file =
        File::new("Numbers and names of the functions of a module, and of what they tell (module ABI 2).");
    file.imports("serde::{Deserialize, Serialize}");
    file.constants(
        table,
        &[
            "major",
            "minor",
            "detailBytes",
            "describeSection",
            "describeBytes",
            "prefilterLiterals",
            "literalBytesMin",
            "literalBytesMax",
            "importModule",
            "logLines",
            "logLineBytes",
        ],
    );
    file.names("export", "names of exports", table.exports.iter().map(|export| export.name.as_str()));
    file.names("import", "names of imports", table.imports.iter().map(|import| import.name.as_str()));
    file.items(table);
    file.closed_enum(&Enum {
        ident: "Phase",
        about: "one moment of a request at which a rule may run",
        derives: "Hash, PartialOrd, Ord, Serialize, Deserialize",
        attribute: Some("#[serde(rename_all = \"camelCase\")]"),
        number: None,
        functions: &[Function::Name, Function::Export],
        rows: Row::phases(table),
    });
    file.closed_enum(&Enum {
        ident: "Verdict",
        about: "what a rule says about a request",
        derives: "Hash",
        attribute: None,
        number: Some("i32"),
        functions: &[Function::Name, Function::FromNumber],
        rows: rows(&table.verdicts),
    });
    file.closed_enum(&Enum {
        ident: "Severity",
        about: "how bad it is",
        derives: "PartialOrd, Ord",
        attribute: None,
        number: Some("u32"),
        functions: &[Function::FromNumber],
        rows: rows(&table.severities),
    });
    file.closed_enum(&Enum {
        ident: "Part",
        about: "part of an entry",
        derives: "",
        attribute: None,
        number: Some("u8"),
        functions: &[Function::FromNumber],
        rows: rows(&table.parts),
    });
    file.closed_enum(&Enum {
        ident: "TextView",
        about: "one of the three views of a value",
        derives: "Serialize, Deserialize",
        attribute: Some("#[serde(rename_all = \"camelCase\")]"),
        number: Some("u8"),
        functions: &[Function::FromNumber],
        rows: rows(&table.views),
    });
    file.closed_enum(&Enum {
        ident: "LogLevel",
        about: "how important a line of log is",
        derives: "PartialOrd, Ord",
        attribute: None,
        number: Some("i32"),
        functions: &[Function::FromNumber],
        rows: rows(&table.levels),
    });
    file.finish()
}
