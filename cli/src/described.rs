//! What a module says about itself, and what it asks of a rule's limits.

use std::fmt;

use portcullis_engine::describe::Describe;
use portcullis_engine::{LARGEST_HEAD, Module};
use portcullis_view::View;
use serde::Serialize;

/// What a module says about itself, and what it asks of a rule's limits.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Described {
    name: String,
    version: String,
    tags: Vec<String>,
    /// When it is run.
    phases: Vec<&'static str>,
    /// What it is shown; of ABI 1 all of a request.
    sections: Vec<&'static str>,
    /// Literals without one of which it is not run at all.
    prefilter: usize,
    pattern_sets: usize,
    configurable: bool,
    /// How each request comes to an instance that is as new.
    instances: String,
    /// `limits.memory` that is enough for every request without a body.
    memory_needed: u64,
    /// What each byte of `limits.bodyBytes` adds to it.
    memory_per_body_byte: u64,
}

impl Described {
    pub(crate) fn of(module: &Module) -> Self {
        let info = module.info();
        let sections = info.describe.sections();
        let Describe { name, version, tags, prefilter, pattern_sets, .. } = info.describe.clone();
        let view = |body| if info.abi == 1 { 0 } else { View::largest(sections, LARGEST_HEAD, body) };
        let exports = |name: &str| info.exports.iter().any(|export| export == name);
        Self {
            name,
            version,
            tags,
            phases: info.phases.iter().map(portcullis_engine::Phase::name).collect(),
            sections: if info.abi == 1 {
                Vec::new()
            } else {
                sections.iter().map(portcullis_view::SectionId::name).collect()
            },
            prefilter: prefilter.iter().map(|list| list.literals.len()).sum(),
            pattern_sets: pattern_sets.len(),
            instances: info.reuse.to_string(),
            configurable: exports("pc_configure") || exports("configure"),
            memory_needed: info.memory_bytes + view(0),
            memory_per_body_byte: view(1) - view(0),
        }
    }
}

impl fmt::Display for Described {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.name.is_empty() {
            writeln!(f, "rule       {} {}", self.name, self.version)?;
        }
        if !self.tags.is_empty() {
            writeln!(f, "tags       {}", self.tags.join(", "))?;
        }
        writeln!(f, "phases     {}", self.phases.join(", "))?;
        let shown = if self.sections.is_empty() { "all, as JSON".into() } else { self.sections.join(", ") };
        writeln!(f, "sees       {shown}")?;
        match self.prefilter {
            0 => writeln!(f, "prefilter  none: it is run on every request")?,
            literals => writeln!(f, "prefilter  {literals} literals: it is run when one of them is there")?,
        }
        if self.pattern_sets > 0 {
            writeln!(f, "patterns   {} sets", self.pattern_sets)?;
        }
        writeln!(f, "config     {}", if self.configurable { "yes" } else { "none" })?;
        writeln!(f, "instances  {}", self.instances)?;
        write!(f, "needs      limits.memory of {} KiB", self.memory_needed.div_ceil(1024))?;
        if self.memory_per_body_byte > 0 {
            write!(f, ", and {} bytes more for each of limits.bodyBytes", self.memory_per_body_byte)?;
        }
        writeln!(f)
    }
}
