//! The tables of the page that describes the ABI. Each stands between two marks; all else of the page is written by hand.

use std::fmt::Write;
use std::io;

use crate::table::{Function, Section, Table, Value};

const END: &str = "<!-- end -->\n";

/// The page with its tables as they should be.
///
/// # Errors
/// A mark is not there.
pub(crate) fn page(table: &Table, page: &str) -> io::Result<String> {
    let mut page = page.to_owned();
    for (name, rows) in tables(table) {
        let start = format!("<!-- generated from version-2.json by `make generate`: {name} -->\n");
        let after = page.split_once(&start).and_then(|(before, rest)| {
            let (_, after) = rest.split_once(END)?;
            Some((before.to_owned(), after.to_owned()))
        });
        let Some((before, after)) = after else {
            return Err(io::Error::other(format!(
                "docs/abi/version-2.md needs a line `{}`, and after it one `{}`",
                start.trim_end(),
                END.trim_end()
            )));
        };
        page = before + &start + &rows + END + &after;
    }
    Ok(page)
}

fn tables(table: &Table) -> [(&'static str, String); 7] {
    let functions = |head, list: &[Function]| {
        let row = |function: &Function| {
            let name = code(&function.name);
            let kind = if function.r#type == "memory" { "memory".into() } else { code(&function.r#type) };
            [name, kind, table.fill_in(&function.about)]
        };
        markdown(head, list.iter().map(row))
    };
    let sections = table
        .sections
        .iter()
        .map(|Section { number, name, about, .. }| [number.to_string(), code(name), about.clone()]);
    let kinds =
        table.kinds.iter().map(|kind| [kind.number.to_string(), kind.name_is.clone(), kind.value_is.clone()]);
    let flags = table
        .flags
        .iter()
        .map(|Value { number, name, about }| [format!("{number:#04x}"), name.clone(), about.clone()]);
    let verdicts = table
        .verdicts
        .iter()
        .map(|Value { number, name, about }| [number.to_string(), format!("{name}: {about}")]);
    let detail = table.detail.iter().map(|item| {
        [item.number.to_string(), item.fill_in(&item.is), table.fill_in(&item.fill_in(&item.about))]
    });
    [
        ("exports", functions(["export", "type", ""], &table.exports)),
        ("verdicts", markdown(["", ""], verdicts)),
        ("flags", markdown(["bit", "name", ""], flags)),
        ("sections", markdown(["id", "name", "entries"], sections)),
        ("kinds", markdown(["kind", "name", "value"], kinds)),
        ("detail", markdown(["tag", "", ""], detail)),
        ("imports", functions(["import", "type", ""], &table.imports)),
    ]
}

fn code(text: &str) -> String {
    format!("`{text}`")
}

fn markdown<const N: usize>(head: [&str; N], rows: impl Iterator<Item = [String; N]>) -> String {
    let mut table = line(&head.map(str::to_owned));
    writeln!(table, "{}|", "|---".repeat(N)).expect("a string takes all");
    rows.for_each(|row| table.push_str(&line(&row)));
    table
}

fn line(cells: &[String]) -> String {
    let mut line: String = cells
        .iter()
        .map(|cell| if cell.is_empty() { "| ".to_owned() } else { format!("| {cell} ") })
        .collect();
    line.push_str("|\n");
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    const TABLE: &str = include_str!("../../docs/abi/version-2.json");
    const PAGE: &str = include_str!("../../docs/abi/version-2.md");

    fn table() -> Table {
        serde_json::from_str(TABLE).expect("the table is one")
    }

    #[test]
    fn a_table_that_was_changed_by_hand_is_written_again_and_the_rest_stays() {
        let changed = PAGE.replace("| 1 | Block: ", "| 1 | Reject: ").replace("## View", "## The view");
        let expected = PAGE.replace("## View", "## The view");
        assert_eq!(page(&table(), &changed).expect("all marks are there"), expected);
    }

    #[test]
    fn a_mark_that_is_gone_is_named() {
        let without = PAGE.replace("`make generate`: verdicts -->", "-->");
        let error = page(&table(), &without).expect_err("a mark is gone");
        assert!(error.to_string().contains(": verdicts -->"), "{error}");
    }
}
