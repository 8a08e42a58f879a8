//! What the SDKs have of the table; one function a language.

use crate::rust::{Enum, File, Function, Row, rows};
use crate::table::Table;

/// For guests in Rust.
pub(crate) fn rust(table: &Table) -> String {
    let mut file = File::new("Numbers and names of module ABI 2.");
    file.constants(
        table,
        &[
            "magic",
            "major",
            "minor",
            "headerBytes",
            "directoryEntryBytes",
            "entryBytes",
            "carryBytes",
            "detailBytes",
            "describeBytes",
            "prefilterLiterals",
            "literalBytesMin",
            "literalBytesMax",
        ],
    );
    file.items(table);
    file.closed_enum(&Enum {
        ident: "SectionId",
        about: "one part of a request, with its number in the layout",
        derives: "PartialOrd, Ord, Hash",
        attribute: None,
        number: Some("u16"),
        functions: &[Function::Name, Function::ByName],
        rows: rows(&table.sections),
    });
    file.default_sections(table);
    file.open_enum(
        "Kind",
        "what an entry of [`SectionId::BodyArguments`] is; entries of every other section are `Argument`",
        &rows(&table.kinds),
    );
    file.flags(table, false);
    file.closed_enum(&Enum {
        ident: "Phase",
        about: "when a rule is asked",
        derives: "PartialOrd, Ord, Hash",
        attribute: None,
        number: None,
        functions: &[Function::Name],
        rows: Row::phases(table),
    });
    file.closed_enum(&Enum {
        ident: "Action",
        about: "what is to happen to a request",
        derives: "Hash",
        attribute: None,
        number: Some("i32"),
        functions: &[],
        rows: rows(&table.verdicts),
    });
    file.closed_enum(&Enum {
        ident: "View",
        about: "how a text is read",
        derives: "Hash",
        attribute: None,
        number: Some("u8"),
        functions: &[Function::Name],
        rows: rows(&table.views),
    });
    file.closed_enum(&Enum {
        ident: "Part",
        about: "which half of an entry",
        derives: "Hash",
        attribute: None,
        number: Some("u8"),
        functions: &[],
        rows: rows(&table.parts),
    });
    file.closed_enum(&Enum {
        ident: "Severity",
        about: "how bad it is",
        derives: "PartialOrd, Ord, Hash",
        attribute: None,
        number: Some("u32"),
        functions: &[],
        // A rule that has nothing to say about it leaves it out.
        rows: rows(&table.severities[1..]),
    });
    file.closed_enum(&Enum {
        ident: "Level",
        about: "how loud a line of log is",
        derives: "PartialOrd, Ord, Hash",
        attribute: None,
        number: Some("i32"),
        functions: &[],
        rows: rows(&table.levels),
    });
    file.finish()
}
