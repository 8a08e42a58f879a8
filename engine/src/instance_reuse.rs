//! Whether an instance of a module can be reused for the next evaluation, restored from a snapshot
//! ([`crate::snapshot`]).

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, Serialize};
use wasm_encoder::{ExportKind, ExportSection, Module, RawSection, SectionId};
use wasmparser::{
    BinaryReader, BinaryReaderError, ExportSectionReader, ExternalKind, Operator, Parser, Payload,
    WasmFeatures,
};

use crate::settings::FEATURES;

/// Mutable globals that are written for each evaluation. A release build has one, the stack pointer.
const MOST_GLOBALS: usize = 32;

/// Bytes of the largest memory whose pages are looked through.
const MOST_MEMORY: u64 = 2 << 20;

/// Begins the names of what is exported to the engine alone.
pub(crate) const PREFIX: &str = "portcullis.";

/// The name under which a module's start function is exported.
pub(crate) const START: &str = "portcullis.start";

/// What [`Survey::operator`] was written for: another feature may bring other state.
const SURVEYED: WasmFeatures =
    WasmFeatures::WASM2.union(WasmFeatures::EXTENDED_CONST).difference(WasmFeatures::GC_TYPES);
const _: () = assert!(SURVEYED.contains(FEATURES));

/// How every evaluation comes to an instance that is as new.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum InstanceReuse {
    /// The instance before is restored to what it was before its first call. One that ended in an error or grew its
    /// memory is not, the next evaluation makes another.
    Restored {
        /// Mutable globals.
        globals: u32,
    },
    /// Each evaluation makes an instance.
    Instantiated {
        /// Why the one before cannot be restored.
        because: Obstacle,
    },
}

/// What stands in the way of restoring an instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub enum Obstacle {
    /// A function writes to a table, or drops a segment.
    TablesOrSegments,
    /// Too many mutable globals, or one that is no number.
    Globals,
    /// A large memory.
    Memory,
}

impl fmt::Display for InstanceReuse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let because = match self {
            Self::Restored { .. } => return f.write_str("restored for each request"),
            Self::Instantiated { because: Obstacle::TablesOrSegments } => {
                "a function writes to a table or drops a segment"
            }
            Self::Instantiated { because: Obstacle::Globals } => {
                "it has more than 32 mutable globals, or one that is no number"
            }
            Self::Instantiated { because: Obstacle::Memory } => "it starts with more than 2 MiB of memory",
        };
        write!(f, "made anew for each request, because {because}")
    }
}

/// Collects what a module does that no restoring undoes.
#[derive(Default)]
pub(crate) struct Survey {
    obstacle: Option<Obstacle>,
    globals: usize,
}

impl Survey {
    pub(crate) fn operator(&mut self, operator: &Operator<'_>) {
        if matches!(
            operator,
            Operator::TableSet { .. }
                | Operator::TableGrow { .. }
                | Operator::TableFill { .. }
                | Operator::TableCopy { .. }
                | Operator::TableInit { .. }
                | Operator::ElemDrop { .. }
                | Operator::DataDrop { .. }
        ) {
            self.obstacle.get_or_insert(Obstacle::TablesOrSegments);
        }
    }

    pub(crate) fn global(&mut self, ty: wasmparser::GlobalType) {
        if ty.mutable {
            self.globals += 1;
            if self.globals > MOST_GLOBALS || matches!(ty.content_type, wasmparser::ValType::Ref(_)) {
                self.obstacle.get_or_insert(Obstacle::Globals);
            }
        }
    }

    pub(crate) fn memory(&mut self, bytes: u64) {
        if bytes > MOST_MEMORY {
            self.obstacle.get_or_insert(Obstacle::Memory);
        }
    }

    pub(crate) fn result(&self) -> InstanceReuse {
        match self.obstacle {
            Some(because) => InstanceReuse::Instantiated { because },
            None => InstanceReuse::Restored { globals: u32::try_from(self.globals).unwrap_or(u32::MAX) },
        }
    }
}

/// The name under which a restorable module exports one of its mutable globals.
pub(crate) fn export_name(number: u32) -> String {
    format!("{PREFIX}global.{number}")
}

/// The module that is compiled: its start function is left to the host, and where its instances are restored its
/// mutable globals are exported.
pub(crate) fn prepare(wasm: &[u8], reuse: InstanceReuse) -> Result<Cow<'_, [u8]>, BinaryReaderError> {
    let mut sections = Vec::new();
    let mut ours = Vec::new();
    for payload in Parser::new(0).parse_all(wasm) {
        let payload = payload?;
        match &payload {
            Payload::GlobalSection(globals) if matches!(reuse, InstanceReuse::Restored { .. }) => {
                let globals = globals.clone().into_iter().collect::<Result<Vec<_>, _>>()?;
                let mutable = (0_u32..).zip(&globals).filter(|(_, global)| global.ty.mutable);
                ours.extend(
                    (0..)
                        .zip(mutable)
                        .map(|(number, (index, _))| (export_name(number), ExportKind::Global, index)),
                );
            }
            Payload::StartSection { func, .. } => {
                ours.push((START.into(), ExportKind::Func, *func));
                continue;
            }
            _ => {}
        }
        if let Some((id, range)) = payload.as_section() {
            sections.push(RawSection { id, data: &wasm[range] });
        }
    }
    if ours.is_empty() {
        return Ok(wasm.into());
    }
    let mut module = Module::new();
    for section in &sections {
        if section.id == u8::from(SectionId::Export) {
            module.section(&exports(section.data, &ours)?);
        } else {
            module.section(section);
        }
    }
    Ok(module.finish().into())
}

/// The exports of a module, and ours.
fn exports(content: &[u8], ours: &[(String, ExportKind, u32)]) -> Result<ExportSection, BinaryReaderError> {
    let mut section = ExportSection::new();
    for export in ExportSectionReader::new(BinaryReader::new(content, 0))? {
        let export = export?;
        let kind = match export.kind {
            ExternalKind::Func | ExternalKind::FuncExact => ExportKind::Func,
            ExternalKind::Table => ExportKind::Table,
            ExternalKind::Memory => ExportKind::Memory,
            ExternalKind::Global => ExportKind::Global,
            ExternalKind::Tag => ExportKind::Tag,
        };
        section.export(export.name, kind, export.index);
    }
    for (name, kind, index) in ours {
        section.export(name, *kind, *index);
    }
    Ok(section)
}
