//! The table as it is written down.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Table {
    pub(crate) constants: Vec<Constant>,
    pub(crate) exports: Vec<Function>,
    pub(crate) imports: Vec<Function>,
    pub(crate) phases: Vec<Phase>,
    pub(crate) verdicts: Vec<Value>,
    pub(crate) flags: Vec<Value>,
    pub(crate) sections: Vec<Section>,
    pub(crate) kinds: Vec<Kind>,
    pub(crate) views: Vec<Value>,
    pub(crate) parts: Vec<Value>,
    pub(crate) severities: Vec<Value>,
    pub(crate) levels: Vec<Value>,
    pub(crate) detail: Vec<Item>,
}

/// A number or a text that stands for itself.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Constant {
    pub(crate) name: String,
    pub(crate) text: Option<String>,
    pub(crate) number: Option<u64>,
    /// How wide the number is where it is laid out; none of a length or a count.
    pub(crate) bits: Option<u8>,
    pub(crate) about: String,
}

/// What a module exports or imports.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Function {
    pub(crate) name: String,
    pub(crate) r#type: String,
    pub(crate) about: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Phase {
    pub(crate) name: String,
    pub(crate) export: String,
}

/// A number that means something.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Value {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) about: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Section {
    pub(crate) number: u32,
    pub(crate) name: String,
    /// Whether a module has it that declares no sections.
    #[serde(default)]
    pub(crate) default: bool,
    /// Its entries.
    pub(crate) about: String,
}

/// What an entry of `bodyArguments` is.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Kind {
    pub(crate) number: u32,
    pub(crate) name: String,
    pub(crate) name_is: String,
    pub(crate) value_is: String,
}

/// An item of a detail, and its bounds.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Item {
    pub(crate) number: u32,
    pub(crate) name: String,
    /// How many of them there may be; none said: one.
    pub(crate) count: Option<u32>,
    pub(crate) bytes: Option<u32>,
    /// The least of a number.
    pub(crate) min: Option<u32>,
    /// The most of a number.
    pub(crate) max: Option<u32>,
    pub(crate) is: String,
    pub(crate) about: String,
}

impl Table {
    /// Of the names of a list, such as `{levels}`, makes what they are: `0 debug, 1 info`.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let lists = [
            ("{views}", &self.views),
            ("{parts}", &self.parts),
            ("{severities}", &self.severities),
            ("{levels}", &self.levels),
        ];
        lists.into_iter().fold(text.to_owned(), |text, (place, values)| {
            let list: Vec<_> =
                values.iter().map(|value| format!("{} {}", value.number, value.name)).collect();
            text.replace(place, &list.join(", "))
        })
    }
}

impl Item {
    /// Puts the item's bounds into a text, `{bytes}` for one.
    pub(crate) fn fill_in(&self, text: &str) -> String {
        let bounds = [
            ("{count}", self.count.map(grouped)),
            ("{bytes}", self.bytes.map(size)),
            ("{min}", self.min.map(grouped)),
            ("{max}", self.max.map(grouped)),
        ];
        bounds.into_iter().fold(text.to_owned(), |text, (place, bound)| match bound {
            Some(bound) => text.replace(place, &bound),
            None => text,
        })
    }
}

fn size(bytes: u32) -> String {
    if bytes >= 4096 && bytes.is_multiple_of(1024) {
        format!("{} KiB", grouped(bytes / 1024))
    } else {
        format!("{} bytes", grouped(bytes))
    }
}

/// With a comma between thousands; nothing here has two.
fn grouped(number: u32) -> String {
    match number {
        0..1000 => number.to_string(),
        _ => format!("{},{:03}", number / 1000, number % 1000),
    }
}
