//! What a host reads about a rule without running it, written as JSON while the rule is compiled.

use crate::abi::{DESCRIBE_BYTES, LITERAL_BYTES_MAX, LITERAL_BYTES_MIN, MAJOR, MINOR, PREFILTER_LITERALS};
use crate::{Phase, Rule, SectionId, View};

/// The parts of a describe document that a rule chooses.
#[derive(Clone, Copy, Debug)]
pub struct Describe {
    /// Of the rule.
    pub name: &'static str,
    /// Of the rule.
    pub version: &'static str,
    /// What it is about, such as `OWASP-A05` and `CWE-799`.
    pub tags: &'static [&'static str],
    /// Imports that the host must have.
    pub features: &'static [&'static str],
    /// What the rule reads. Empty: the parts of a request's head.
    pub sections: &'static [SectionId],
    /// A JSON Schema of the configuration.
    pub config_schema: Option<&'static str>,
    /// Where no literal stands, the verdict is Allow.
    pub prefilter: &'static [Prefilter],
    /// Regular expressions for [`match_set`](crate::match_set).
    pub pattern_sets: &'static [PatternSet],
    /// Whether the rule remembers something between requests.
    pub state: State,
}

/// Literals of one view of one section.
#[derive(Clone, Copy, Debug)]
pub struct Prefilter {
    /// The section that is searched, names and values.
    pub section: SectionId,
    /// The view that is searched.
    pub view: View,
    /// 4 to 255 bytes of ASCII each, found in either case.
    pub literals: &'static [&'static str],
}

/// Regular expressions that are looked for together.
#[derive(Clone, Copy, Debug)]
pub struct PatternSet {
    /// For people.
    pub name: &'static str,
    /// In the syntax of Rust's `regex`, on bytes.
    pub patterns: &'static [&'static str],
}

/// What a rule remembers between requests.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// Nothing.
    None,
    /// What its worker's instance has in memory, with `isolation: PerWorker`.
    Worker,
}

impl Describe {
    /// A rule that declares nothing.
    #[must_use]
    pub const fn new(name: &'static str, version: &'static str) -> Self {
        Self {
            name,
            version,
            tags: &[],
            features: &[],
            sections: &[],
            config_schema: None,
            prefilter: &[],
            pattern_sets: &[],
            state: State::None,
        }
    }

    /// The sections that are laid out for it.
    #[must_use]
    pub const fn laid_out(&self) -> &'static [SectionId] {
        if self.sections.is_empty() { &SectionId::DEFAULT } else { self.sections }
    }

    pub(crate) const fn check(&self) {
        assert!(!self.name.is_empty(), "expected a name: `name: \"no-evil-scraper\",`");
        assert!(
            self.prefilter.is_empty() || matches!(self.state, State::None),
            "a rule with `state: Worker` cannot have a prefilter: it would not see every request"
        );
        let mut literals = 0;
        let mut index = 0;
        while index < self.prefilter.len() {
            literals += self.prefilter[index].check();
            index += 1;
        }
        assert!(literals <= PREFILTER_LITERALS, "expected at most 64 literals in all prefilters");
    }

    /// Writes the document into the first `LEN` bytes, and gives the number of bytes that it has.
    pub(crate) const fn write<const LEN: usize>(&self, rule: &Rule) -> ([u8; LEN], usize) {
        let mut json = Json { bytes: [0; LEN], len: 0 };
        json.raw("{\"name\":");
        json.string(self.name);
        json.raw(",\"version\":");
        json.string(self.version);
        json.raw(",\"abi\":{\"major\":");
        json.number(MAJOR);
        json.raw(",\"minor\":");
        json.number(MINOR);
        json.raw(",\"features\":");
        json.strings(self.features);
        json.raw("},\"tags\":");
        json.strings(self.tags);
        json.raw(",\"phases\":[");
        let (mut index, mut separator) = (0, "");
        while index < Phase::ALL.len() {
            if rule.phase(Phase::ALL[index]).is_some() {
                json.raw(separator);
                json.string(Phase::ALL[index].name());
                separator = ",";
            }
            index += 1;
        }
        json.raw("],\"sections\":[");
        let sections = self.laid_out();
        index = 0;
        while index < sections.len() {
            json.raw(if index == 0 { "" } else { "," });
            json.string(sections[index].name());
            index += 1;
        }
        json.raw("]");
        if let Some(schema) = self.config_schema {
            json.raw(",\"configSchema\":");
            json.raw(schema);
        }
        json.raw(",\"prefilter\":[");
        index = 0;
        while index < self.prefilter.len() {
            let Prefilter { section, view, literals } = self.prefilter[index];
            json.raw(if index == 0 { "{\"section\":" } else { ",{\"section\":" });
            json.string(section.name());
            json.raw(",\"view\":");
            json.string(view.name());
            json.raw(",\"literals\":");
            json.strings(literals);
            json.raw("}");
            index += 1;
        }
        json.raw("],\"patternSets\":[");
        index = 0;
        while index < self.pattern_sets.len() {
            let PatternSet { name, patterns } = self.pattern_sets[index];
            json.raw(if index == 0 { "{\"name\":" } else { ",{\"name\":" });
            json.string(name);
            json.raw(",\"patterns\":");
            json.strings(patterns);
            json.raw("}");
            index += 1;
        }
        json.raw("],\"state\":");
        json.string(match self.state {
            State::None => "none",
            State::Worker => "worker",
        });
        json.raw("}");
        assert!(
            json.len <= DESCRIBE_BYTES,
            "expected at most 64 KiB of describe document: use fewer or shorter patterns"
        );
        (json.bytes, json.len)
    }
}

impl Prefilter {
    /// The number of its literals.
    const fn check(&self) -> usize {
        let mut index = 0;
        while index < self.literals.len() {
            let literal = self.literals[index];
            assert!(literal.is_ascii(), "expected literals of ASCII in a prefilter");
            assert!(
                literal.len() >= LITERAL_BYTES_MIN && literal.len() <= LITERAL_BYTES_MAX,
                "expected literals of 4 to 255 bytes in a prefilter"
            );
            index += 1;
        }
        assert!(
            !self.literals.is_empty(),
            "expected literals in a prefilter: without one the rule never runs"
        );
        self.literals.len()
    }
}

/// JSON as it is written. Counts what it has no room for.
struct Json<const LEN: usize> {
    bytes: [u8; LEN],
    len: usize,
}

impl<const LEN: usize> Json<LEN> {
    const fn byte(&mut self, byte: u8) {
        if self.len < LEN {
            self.bytes[self.len] = byte;
        }
        self.len += 1;
    }

    const fn raw(&mut self, json: &str) {
        let mut index = 0;
        while index < json.len() {
            self.byte(json.as_bytes()[index]);
            index += 1;
        }
    }

    const fn number(&mut self, number: u16) {
        if number >= 10 {
            self.number(number / 10);
        }
        self.byte(b"0123456789"[number as usize % 10]);
    }

    const fn string(&mut self, text: &str) {
        self.byte(b'"');
        let mut index = 0;
        while index < text.len() {
            match text.as_bytes()[index] {
                byte @ (b'"' | b'\\') => {
                    self.byte(b'\\');
                    self.byte(byte);
                }
                byte @ ..0x20 => {
                    self.raw("\\u00");
                    self.byte(b"0123456789abcdef"[byte as usize >> 4]);
                    self.byte(b"0123456789abcdef"[byte as usize & 15]);
                }
                byte => self.byte(byte),
            }
            index += 1;
        }
        self.byte(b'"');
    }

    const fn strings(&mut self, texts: &[&str]) {
        self.byte(b'[');
        let mut index = 0;
        while index < texts.len() {
            self.raw(if index == 0 { "" } else { "," });
            self.string(texts[index]);
            index += 1;
        }
        self.byte(b']');
    }
}
