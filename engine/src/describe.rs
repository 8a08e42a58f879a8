//! What a module says about itself: the custom section `portcullis.describe` (module ABI 2), JSON that can be read
//! without running the module.

use portcullis_view::{SectionId, Sections};
use serde::{Deserialize, Serialize};

pub use crate::abi2::table::TextView;
use crate::abi2::table::{
    DESCRIBE_BYTES, DESCRIBE_SECTION, LITERAL_BYTES_MAX, LITERAL_BYTES_MIN, MAJOR, MINOR, PREFILTER_LITERALS,
    import,
};
use crate::compiler::phrase::{self, Phrase};
use crate::phase::Phase;
use crate::quoted::{one_line, printable};

/// Name of the custom section.
pub const SECTION: &str = DESCRIBE_SECTION;

/// Imports that this host has, by the names under which a module asks for them.
pub const FEATURES: [&str; 2] = [import::LOG, import::MATCH_SET];

const MAX_NAME: usize = 128;
const MAX_TAGS: usize = 32;
const MAX_PATTERN_SETS: usize = 16;
const MAX_PATTERNS: usize = 256;
const MAX_PATTERN: usize = 1024;

/// Why a describe document is not one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
pub enum DescribeError {
    /// Larger than any rule needs.
    #[error("it has {0} bytes, at most {DESCRIBE_BYTES} are read; shorten it")]
    TooLarge(usize),
    /// Not JSON, or not of this form.
    #[error("it is not what docs/abi/version-2.md says: {0}")]
    Json(String),
    /// The module was built for a later host.
    #[error(
        "the module wants ABI {major}.{minor}, this host has {MAJOR}.{MINOR}; update Portcullis, or build it with an older SDK"
    )]
    TooNew {
        /// Of the module.
        major: u16,
        /// Of the module.
        minor: u16,
    },
    /// The module wants an import that this host lacks.
    #[error(
        "the module wants the feature `{0}`, this host has log and match_set; update Portcullis, or do without"
    )]
    Feature(String),
    /// No section of that name.
    #[error("there is no section `{0}`; docs/abi/version-2.md lists them")]
    Section(String),
    /// A name or tag that would not fit into a log line.
    #[error("{what} has {found} bytes or characters that are not printable; at most {limit} printable ones")]
    Text {
        /// Which.
        #[serde(deserialize_with = "phrase::deserialize")]
        what: Phrase,
        /// Bytes.
        found: usize,
        /// Bytes.
        limit: usize,
    },
    /// More of something than the host takes.
    #[error("there are {found} {what}, at most {limit}")]
    TooMany {
        /// Which.
        #[serde(deserialize_with = "phrase::deserialize")]
        what: Phrase,
        /// How many.
        found: usize,
        /// How many may be.
        limit: usize,
    },
    /// A literal that the prefilter cannot look for.
    #[error(
        "the literal {literal:?} of the prefilter is not {LITERAL_BYTES_MIN} to {LITERAL_BYTES_MAX} bytes of printable ASCII; use a longer one, or leave the prefilter out"
    )]
    Literal {
        /// As it stands there.
        literal: String,
    },
    /// A prefilter without literals would never run the rule.
    #[error("the prefilter names no literal, so the rule would never run; leave it out")]
    EmptyPrefilter,
    /// A prefilter of a rule that remembers.
    #[error("a rule with `state: worker` has to see every request; leave the prefilter out")]
    PrefilterWithState,
}

/// What a module says about itself.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Describe {
    /// The rule's name, for people.
    pub name: String,
    /// The rule's version, for people.
    pub version: String,
    /// What the module asks of its host.
    pub abi: Abi,
    /// Such as `OWASP-A03`, `CWE-89`.
    pub tags: Vec<String>,
    /// Phases to run; none said: all that are exported.
    pub phases: Option<Vec<Phase>>,
    /// Names of the sections to lay out.
    sections: Option<Vec<String>>,
    /// JSON Schema of the rule's `config`.
    pub config_schema: Option<serde_json::Value>,
    /// Literals without which the rule has nothing to say.
    pub prefilter: Vec<Literals>,
    /// Regular expressions for `portcullis.match_set`.
    pub pattern_sets: Vec<Patterns>,
    /// Whether the rule means to remember something.
    pub state: State,
}

/// What a module asks of its host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Abi {
    /// 2.
    pub major: u16,
    /// The lowest that will do.
    pub minor: u16,
    /// Imports.
    pub features: Vec<String>,
}

/// Literals of one section.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Literals {
    /// Name of the section.
    section: String,
    /// View in which they stand; this host looks at all three.
    #[serde(default = "raw")]
    pub view: TextView,
    /// ASCII, in any case.
    pub literals: Vec<String>,
}

/// Regular expressions that are looked for together.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Patterns {
    /// For people.
    #[serde(default)]
    pub name: String,
    /// In the syntax of Rust's `regex`.
    pub patterns: Vec<String>,
}

/// Whether a rule means to remember something between requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum State {
    /// No.
    #[default]
    None,
    /// In each worker by itself.
    Worker,
}

impl Default for Abi {
    fn default() -> Self {
        Self { major: MAJOR, minor: MINOR, features: Vec::new() }
    }
}

impl Default for Describe {
    fn default() -> Self {
        Self {
            name: String::new(),
            version: String::new(),
            abi: Abi::default(),
            tags: Vec::new(),
            phases: None,
            sections: None,
            config_schema: None,
            prefilter: Vec::new(),
            pattern_sets: Vec::new(),
            state: State::None,
        }
    }
}

impl Describe {
    /// Reads a document.
    ///
    /// # Errors
    /// It is not one, or asks for more than a rule may have.
    pub fn parse(json: &[u8]) -> Result<Self, DescribeError> {
        if json.len() > DESCRIBE_BYTES {
            return Err(DescribeError::TooLarge(json.len()));
        }
        let describe: Self = serde_json::from_slice(json)
            .map_err(|error| DescribeError::Json(one_line(&error.to_string())))?;
        describe.check()?;
        Ok(describe)
    }

    /// Sections that the rule is shown.
    pub fn sections(&self) -> Sections {
        match &self.sections {
            Some(names) => names.iter().filter_map(|name| SectionId::by_name(name)).collect(),
            None => Sections::DEFAULT,
        }
    }

    fn check(&self) -> Result<(), DescribeError> {
        let Abi { major, minor, ref features } = self.abi;
        if (major, minor) > (MAJOR, MINOR) || major < MAJOR {
            return Err(DescribeError::TooNew { major, minor });
        }
        if let Some(unknown) = features.iter().find(|name| !FEATURES.contains(&name.as_str())) {
            return Err(DescribeError::Feature(printable(unknown)));
        }
        for (what, text) in [("the name", &self.name), ("the version", &self.version)] {
            short(what, text)?;
        }
        few("tags", self.tags.len(), MAX_TAGS)?;
        for tag in &self.tags {
            short("a tag", tag)?;
        }
        for name in self.sections.iter().flatten().chain(self.prefilter.iter().map(|list| &list.section)) {
            SectionId::by_name(name).ok_or_else(|| DescribeError::Section(printable(name)))?;
        }
        self.check_prefilter()?;
        few("pattern sets", self.pattern_sets.len(), MAX_PATTERN_SETS)?;
        for set in &self.pattern_sets {
            few("patterns of a set", set.patterns.len(), MAX_PATTERNS)?;
            let longest = set.patterns.iter().map(String::len).max().unwrap_or(0);
            few("bytes of a pattern", longest, MAX_PATTERN)?;
        }
        Ok(())
    }

    fn check_prefilter(&self) -> Result<(), DescribeError> {
        if self.prefilter.is_empty() {
            return Ok(());
        }
        if self.state == State::Worker {
            return Err(DescribeError::PrefilterWithState);
        }
        let literals = || self.prefilter.iter().flat_map(|list| &list.literals);
        few("literals of the prefilter", literals().count(), PREFILTER_LITERALS)?;
        if self.prefilter.iter().any(|list| list.literals.is_empty()) {
            return Err(DescribeError::EmptyPrefilter);
        }
        let is_fit = |literal: &&String| {
            (LITERAL_BYTES_MIN..=LITERAL_BYTES_MAX).contains(&literal.len())
                && literal.bytes().all(|byte| (b' '..=b'~').contains(&byte))
        };
        match literals().find(|literal| !is_fit(literal)) {
            Some(literal) => Err(DescribeError::Literal { literal: literal.chars().take(80).collect() }),
            None => Ok(()),
        }
    }
}

impl Literals {
    /// The section they stand in.
    pub fn section(&self) -> SectionId {
        SectionId::by_name(&self.section).expect("the document was checked when it was read")
    }
}

fn raw() -> TextView {
    TextView::Raw
}

fn few(what: &'static str, found: usize, limit: usize) -> Result<(), DescribeError> {
    if found > limit { Err(DescribeError::TooMany { what, found, limit }) } else { Ok(()) }
}

fn short(what: &'static str, text: &str) -> Result<(), DescribeError> {
    if text.len() > MAX_NAME || text.chars().any(char::is_control) {
        return Err(DescribeError::Text { what, found: text.len(), limit: MAX_NAME });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Result<Describe, DescribeError> {
        Describe::parse(json.as_bytes())
    }

    #[test]
    fn an_empty_document_is_the_default() {
        assert_eq!(parse("{}").unwrap(), Describe::default());
        assert_eq!(Describe::default().sections(), Sections::DEFAULT);
    }

    #[test]
    fn what_a_later_version_adds_is_skipped() {
        assert!(parse(r#"{"colour": "blue"}"#).is_ok());
    }

    #[test]
    fn a_module_for_a_later_host_is_refused() {
        assert_eq!(
            parse(r#"{"abi": {"major": 2, "minor": 1}}"#),
            Err(DescribeError::TooNew { major: 2, minor: 1 })
        );
        assert_eq!(parse(r#"{"abi": {"major": 3}}"#), Err(DescribeError::TooNew { major: 3, minor: 0 }));
        assert_eq!(
            parse(r#"{"abi": {"features": ["log", "fetch"]}}"#),
            Err(DescribeError::Feature("fetch".into()))
        );
    }

    #[test]
    fn a_prefilter_that_cannot_be_kept_is_refused() {
        let with = |literals: &str| {
            parse(&format!(r#"{{"prefilter": [{{"section": "headers", "literals": {literals}}}]}}"#))
        };
        assert!(with(r#"["sqlmap"]"#).is_ok());
        assert!(matches!(with(r#"["sql"]"#), Err(DescribeError::Literal { .. })));
        assert!(matches!(with(r#"["sélect"]"#), Err(DescribeError::Literal { .. })));
        assert_eq!(with("[]"), Err(DescribeError::EmptyPrefilter));
        let many: Vec<String> = (0..65).map(|n| format!("\"word{n}\"")).collect();
        assert!(matches!(with(&format!("[{}]", many.join(","))), Err(DescribeError::TooMany { .. })));
        assert_eq!(
            parse(r#"{"state": "worker", "prefilter": [{"section": "path", "literals": ["admin"]}]}"#),
            Err(DescribeError::PrefilterWithState)
        );
    }

    #[test]
    fn sections_are_known_ones() {
        let describe = parse(r#"{"sections": ["headers", "path"]}"#).unwrap();
        assert_eq!(describe.sections(), [SectionId::Headers, SectionId::Path].into_iter().collect());
        assert_eq!(parse(r#"{"sections": ["header"]}"#), Err(DescribeError::Section("header".into())));
    }
}
